"""`train.method: dora`: trained, loaded, merged and exported as LoRA is; what would be another model is refused."""

import json
import shutil
from unittest.mock import patch

import pytest

from testkit.train_once import PAIRS, model_params, recipe
from text2sql.core.errors import UserError
from text2sql.core.params import LoraParams, load_params
from text2sql.model import language_model
from text2sql.model.language_model import LanguageModel
from text2sql.model.merged_model import MergedModel
from text2sql.model.model_card import model_card
from text2sql.prompts.messages import bare_messages
from text2sql.training.fine_tune import train_adapter
from text2sql.training.job import TrainingJob

LORA = LoraParams(r=4, alpha=8, dropout=0, target_modules=["q_proj", "v_proj", "down_proj"])
DORA = {"method": "dora", "lr": 5e-2, "checkpoint_minutes": 1e-6, "lora": LORA}


def train(base, folder, **changes):
    """Train an adapter of two steps, leave the checkpoints below `folder`, and return the training."""
    job = TrainingJob("m1", model_params(base), recipe(**{**DORA, "epochs": 0.5, **changes}))
    return train_adapter(job, PAIRS, folder)


@pytest.fixture(scope="module")
def trained(micro_model, tmp_path_factory):
    """A DoRA adapter after two steps, its training's metrics, and the folder of its checkpoints."""
    folder = tmp_path_factory.mktemp("dora")
    training = train(micro_model, folder / "checkpoints")
    training.save(folder / "adapter", "# card\n")
    return folder / "adapter", training.metrics, folder / "checkpoints"


def likelihoods(model):
    prompts = [model.chat_ids(bare_messages(question)) for question in ("Count the dogs.", "Hi", "Who is old?")]
    return model.option_log_likelihoods(prompts, [" A", " B", " C"]), model.generate(prompts, 8)


def unmerged(*arguments):
    with patch.object(language_model, "merge_on_cpu", lambda model: model):
        return LanguageModel(*arguments)


def test_magnitudes_are_trained_and_saved_beside_the_matrices(trained, micro_model):
    from safetensors.torch import load_file

    weights = load_file(trained[0] / "adapter_model.safetensors")
    magnitudes = [name for name in weights if name.endswith("lora_magnitude_vector")]
    assert len(magnitudes) == 3 * 2 and {str(weights[name].dtype) for name in magnitudes} == {"torch.float32"}
    base = load_file(micro_model / "model.safetensors")
    for name in magnitudes:
        stored = name.removeprefix("base_model.model.").replace("lora_magnitude_vector", "weight")
        assert not weights[name].allclose(base[stored].norm(dim=1), rtol=1e-3)
    assert json.loads((trained[0] / "adapter_config.json").read_text())["use_dora"] is True
    assert trained[1]["steps"] == 2


def test_merged_in_memory_and_merged_on_disk_it_answers_as_unmerged(trained, micro_model, tmp_path):
    params = model_params(micro_model)
    apart, answers = likelihoods(unmerged(params, trained[0]))
    merged = LanguageModel(params, trained[0])
    assert not any("lora_" in name for name, _ in merged.model.named_parameters())
    on_disk = MergedModel(params, trained[0])
    on_disk.write_weights(tmp_path, "float32")
    on_disk.tokenizer.save_pretrained(tmp_path)
    for model in (merged, LanguageModel(model_params(tmp_path))):
        found, same = likelihoods(model)
        assert found == [pytest.approx(row, abs=1e-4) for row in apart] and same == answers
    base, _ = likelihoods(LanguageModel(params))
    assert all(row != pytest.approx(other, abs=1e-2) for row, other in zip(apart, base))


def test_a_training_that_goes_on_gives_the_same_bytes(trained, micro_model, tmp_path, capsys):
    folder = shutil.copytree(trained[2], tmp_path / "checkpoints")
    *_, last = sorted(folder.glob("*/step-*"))
    shutil.rmtree(last)
    train(micro_model, folder).save(tmp_path / "adapter", "# card\n")
    assert "going on from the checkpoint at step 1" in capsys.readouterr().out
    for path in trained[0].iterdir():
        assert (tmp_path / "adapter" / path.name).read_bytes() == path.read_bytes()


def test_in_bfloat16_the_magnitudes_are_not_rounded(trained, micro_model):
    """They are as large as the base's weights: a rounding changes every output, and small updates are lost."""
    import torch

    model = LanguageModel(model_params(micro_model, dtype="bfloat16"), trained[0])
    dtypes = {("magnitude" in name): set() for name, _ in model.model.named_parameters() if "lora_" in name}
    for name, parameter in model.model.named_parameters():
        if "lora_" in name:
            dtypes["magnitude" in name].add(parameter.dtype)
    assert dtypes == {True: {torch.float32}, False: {torch.bfloat16}}
    exact, _ = likelihoods(LanguageModel(model_params(micro_model), trained[0]))
    assert likelihoods(model)[0] == [pytest.approx(row, abs=0.2) for row in exact]


def test_an_adapter_of_magnitudes_alone_is_no_idle_one(trained, micro_model, tmp_path):
    """Its second matrices are zero, and yet it is not its base: foreign adapters may be so."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(trained[0], tmp_path / "adapter")
    file = tmp_path / "adapter/adapter_model.safetensors"
    weights = load_file(file)
    save_file({name: value * ("lora_B" not in name) for name, value in weights.items()}, file, {"format": "pt"})
    found, _ = likelihoods(LanguageModel(model_params(micro_model), tmp_path / "adapter"))
    assert found != likelihoods(LanguageModel(model_params(micro_model)))[0]


def test_an_adapter_without_some_of_its_magnitudes_is_refused(trained, micro_model, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(trained[0], tmp_path / "adapter")
    file = tmp_path / "adapter/adapter_model.safetensors"
    weights = load_file(file)
    save_file({name: value for name, value in weights.items() if "magnitude" not in name}, file, {"format": "pt"})
    with pytest.raises(UserError, match="6 of the model's 18 places get none"):
        LanguageModel(model_params(micro_model), tmp_path / "adapter")


def test_it_is_not_scaled_and_not_trained_where_it_was_not_tried(trained, micro_model):
    with pytest.raises(UserError, match=r"model.strength: got 0.5, takes 1: .* has use_dora, which no factor scales"):
        LanguageModel(model_params(micro_model, strength=0.5), trained[0])
    with pytest.raises(UserError, match="train.method: dora: takes model.strength: 1, got 0"):
        TrainingJob("m1", model_params(micro_model, strength=0), recipe(**DORA)).check_method()
    for changes in ({"loader": "unsloth"}, {"quantization": "4bit"}):
        with pytest.raises(UserError, match="train.method: dora: takes model.loader: transformers and model.quant"):
            TrainingJob("m1", model_params(micro_model, **changes), recipe(**DORA)).check_method()


def test_the_card_says_what_it_is(trained, repository):
    params = load_params(repository / "params.yaml")
    params = params.model_copy(update={"train": params.train.model_copy(update={"method": "dora"})})
    card = model_card("m1", params, trained[1])
    assert "# Model 1: a DoRA adapter" in card and "DoRA: a trained magnitude" in card
