"""`train.method: full`: all weights are trained, and the whole model loads where an adapter would."""

import shutil

import pytest

from testkit.train_once import PAIRS, model_params, recipe
from text2sql.core.errors import UserError
from text2sql.core.params import load_params
from text2sql.model.language_model import LanguageModel
from text2sql.model.model_card import model_card
from text2sql.prompts.messages import bare_messages
from text2sql.training.fine_tune import train_adapter
from text2sql.training.job import TrainingJob

FULL = {"method": "full", "lr": 1e-3, "checkpoint_minutes": 1e-6}


def train(base, folder, dtype="float32"):
    """Train all weights of `base`, leave the checkpoints below `folder`, and return the training."""
    return train_adapter(TrainingJob("m1", model_params(base, dtype=dtype), recipe(**FULL)), PAIRS, folder)


@pytest.fixture(scope="module")
def trained(micro_model, tmp_path_factory):
    """A whole model, its training's metrics, and the folder of its checkpoints."""
    folder = tmp_path_factory.mktemp("full")
    training = train(micro_model, folder / "checkpoints")
    training.save(folder / "model", "# card\n")
    return folder / "model", training.metrics, folder / "checkpoints"


def asked(model):
    prompts = [model.chat_ids(bare_messages(question)) for question in ("Count the dogs.", "Hi")]
    return model.generate(prompts, 8), model.option_log_likelihoods(prompts, [" A", " B"])


def test_every_weight_is_trained(trained, micro_model):
    from safetensors.torch import load_file

    after, before = (load_file(folder / "model.safetensors") for folder in (trained[0], micro_model))
    assert after.keys() == before.keys()
    same = [name for name, tensor in after.items() if tensor.equal(before[name])]
    assert same == [] and trained[1]["trainable_share"] == 1


def test_the_whole_model_loads_where_an_adapter_would_on_any_base(trained, micro_model):
    """Nothing of `model.base` is left in it: the check of what an adapter was trained on has nothing to check."""
    model = LanguageModel(model_params(micro_model), trained[0])
    assert asked(model) != asked(LanguageModel(model_params(micro_model)))
    assert asked(LanguageModel(model_params("smollm2-135m-instruct"), trained[0])) == asked(model)
    assert asked(LanguageModel(model_params(trained[0]))) == asked(model)


def test_a_training_that_goes_on_gives_the_same_bytes(trained, micro_model, tmp_path, capsys):
    folder = shutil.copytree(trained[2], tmp_path / "checkpoints")
    *_, last = sorted(folder.glob("*/step-*"))
    shutil.rmtree(last)
    capsys.readouterr()
    again = train(micro_model, folder)
    assert "train_m1: going on from the checkpoint at step 7" in capsys.readouterr().out
    again.save(tmp_path / "model", "# card\n")
    files = {path.name for path in trained[0].iterdir()}
    assert files >= {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == {
        name: (trained[0] / name).read_bytes() for name in files
    }


def test_weights_have_the_dtype_that_the_base_was_loaded_in(micro_model, tmp_path):
    from safetensors.torch import load_file

    train(micro_model, tmp_path / "checkpoints", "bfloat16").save(tmp_path / "model", "# card\n")
    assert {str(found.dtype) for found in load_file(tmp_path / "model/model.safetensors").values()} == {
        "torch.bfloat16"
    }
    assert LanguageModel(model_params(micro_model, dtype="bfloat16"), tmp_path / "model").description == (
        "transformers, bfloat16 on cpu"
    )


def test_a_whole_model_has_no_adapter_to_scale(trained, micro_model):
    with pytest.raises(UserError, match=r"model.strength: got 0.5, takes 1: .* is a whole model, and no adapter"):
        LanguageModel(model_params(micro_model, strength=0.5), trained[0])


@pytest.mark.parametrize("model", [{"loader": "unsloth"}, {"quantization": "4bit"}])
def test_what_has_no_weights_to_train_is_refused(micro_model, model):
    params = model_params(micro_model, **model)
    with pytest.raises(UserError, match="train.method: full: takes model.loader: transformers and model.quantization"):
        TrainingJob("m1", params, recipe(method="full")).check_method()


def test_the_card_says_that_it_is_whole(trained, repository):
    params = load_params(repository / "params.yaml")
    params = params.model_copy(update={"train": params.train.model_copy(update={"method": "full"})})
    card = model_card("m1", params, trained[1])
    assert "# Model 1: a whole model" in card and "library_name: transformers" in card
    assert "peft" not in card and "| LoRA |" not in card and "100.00%" in card
