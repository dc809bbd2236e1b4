"""Training on a real (micro) model: what the loss counts, what is kept in float32, what survives a kill."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from testkit.llama_3 import as_llama_3
from testkit.train_once import INTERRUPTED, PAIRS, model_params, recipe
from text2sql.core.errors import RunError, UserError
from text2sql.core.params import LoraParams, load_params
from text2sql.core.processes import Processes
from text2sql.data.schema import Column, Schema, Table
from text2sql.model.adapters import model_card, save_adapter
from text2sql.model.bases import EMBEDDED_BASE
from text2sql.model.language_model import LanguageModel
from text2sql.prompts.messages import load_few_shot, spider_messages
from text2sql.training.checkpoints import CheckpointStore
from text2sql.training.examples import IGNORED, TrainingExample, encode, end_of_turn_id, training_pairs
from text2sql.training.fine_tune import Interrupted, count_parameters, loss_curve_csv, step_share, train_adapter

SCHEMA = Schema("music", (Table("singer", (Column("id", "int"), Column("name", "text")), ("id",)),), ())


@pytest.fixture
def smollm2(micro_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(micro_model)


@pytest.fixture
def llama3(micro_model):
    """SmolLM2's tokenizer with Llama 3's special tokens and template: Llama's own tokenizer needs the hub."""
    from transformers import AutoTokenizer

    return as_llama_3(AutoTokenizer.from_pretrained(micro_model))


@pytest.fixture
def train(micro_model, tmp_path):
    """Return a function that trains an adapter on the micro model."""

    def run(processes=Processes(), base=micro_model, pairs=PAIRS, checkpoints=tmp_path / "checkpoints", **changes):
        dtype = changes.pop("dtype", "float32")
        return train_adapter("m1", pairs, model_params(base, dtype=dtype), recipe(**changes), processes, checkpoints)

    return run


def adapter_bytes(model, folder: Path) -> bytes:
    save_adapter(model, folder, model_params("somewhere"), "# card\n")
    return (folder / "adapter_model.safetensors").read_bytes()


def counted(example) -> list[int]:
    return [label for label in example.labels if label != IGNORED]


# What the loss counts


def test_the_loss_counts_the_answer_and_its_end_token_in_smollm2s_template(smollm2):
    messages = spider_messages("How many singers are there?", SCHEMA, "tables")
    (example,), left_out = encode(smollm2, [(messages, "SELECT count(*) FROM singer")], 512)
    assert left_out == 0
    assert smollm2.decode(counted(example)) == "SELECT count(*) FROM singer<|im_end|>"
    text = smollm2.decode(example.input_ids)
    assert text.startswith("<|im_start|>system\n") and text.count("<|im_start|>system") == 1
    assert "singer(id, name)\nHow many singers are there?<|im_end|>\n<|im_start|>assistant\nSELECT" in text
    assert text.endswith("singer<|im_end|>")  # without the template's newline after it


def test_the_loss_counts_the_answer_and_its_end_token_in_llama_3s_template(llama3):
    (example,), _ = encode(llama3, [(spider_messages("Who?", SCHEMA, "name"), "SELECT name FROM singer")], 512)
    # The turn's end, not the tokenizer's end of text.
    assert llama3.decode(counted(example)) == "SELECT name FROM singer<|eot_id|>"
    text = llama3.decode(example.input_ids)
    assert example.input_ids.count(llama3.bos_token_id) == 1 and example.input_ids[0] == llama3.bos_token_id
    assert "Today Date: 26 Jul 2024" in text  # the same on any day
    assert text.endswith("<|start_header_id|>assistant<|end_header_id|>\n\nSELECT name FROM singer<|eot_id|>")


def test_the_prompt_in_training_is_that_of_evaluation(micro_model, smollm2, repository):
    params = load_params(repository / "params.yaml")
    few_shot = load_few_shot(repository / "data/few_shot.json", 1)
    record = {
        "db_id": "music",
        "conversations": [{"from": "human", "value": "How many?"}, {"from": "gpt", "value": " SELECT 1 "}],
    }
    messages, answer = training_pairs([record], {"music": SCHEMA}, params.prompt, few_shot)[0]
    assert answer == "SELECT 1"
    (example,), _ = encode(smollm2, [(messages, answer)], 2048)
    model = LanguageModel(model_params(micro_model))
    asked = model.chat_ids(spider_messages("How many?", SCHEMA, params.prompt.schema_, few_shot))
    assert example.input_ids[: len(asked)] == asked
    assert example.labels[: len(asked)] == [IGNORED] * len(asked)
    bare = params.prompt.model_copy(update={"training": "bare"})
    assert training_pairs([record], {}, bare, few_shot)[0][0] == [{"role": "user", "content": "How many?"}]
    zero_shot = params.prompt.model_copy(update={"training": "zero_shot"})
    messages = training_pairs([record], {"music": SCHEMA}, zero_shot, few_shot)[0][0]
    assert messages == spider_messages("How many?", SCHEMA, params.prompt.schema_, [])


def test_padding_is_not_counted_even_where_pad_and_end_token_are_one(smollm2):
    import torch

    from text2sql.training.trainer import Collator

    assert smollm2.pad_token_id == end_of_turn_id(smollm2)
    examples, _ = encode(smollm2, PAIRS, 512)
    batch = Collator(smollm2.pad_token_id, 10_000).part([vars(example) for example in examples])
    for row, (_, answer) in enumerate(PAIRS):
        targets = batch["shift_labels"][row]
        assert smollm2.decode(targets[targets != IGNORED]) == answer + "<|im_end|>"
        length = len(examples[row].input_ids)
        assert batch["attention_mask"][row].tolist() == [1] * length + [0] * (batch["labels"].shape[1] - length)
    # Each position that is kept predicts the token after it.
    following = torch.roll(batch["labels"], -1, dims=1)[:, batch["logits_to_keep"]]
    assert torch.equal(following, batch["shift_labels"])


def test_the_loss_is_that_of_the_whole_sequence(micro_model):
    """Logits at the counted positions alone give the loss that all logits give, computed here by hand."""
    import torch

    from text2sql.model.attention import use_right_padded_attention
    from text2sql.model.language_model import load_base
    from text2sql.training.passes import rounded_up, shape_of
    from text2sql.training.trainer import Collator

    model, tokenizer = load_base(model_params(micro_model))
    examples, _ = encode(tokenizer, PAIRS, 512)
    total = count = 0
    for example in examples:
        logits = model(input_ids=torch.tensor([example.input_ids])).logits[0, :-1]
        labels = torch.tensor(example.labels[1:])
        total += torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum").item()
        count += len(counted(example))
    rows = [vars(example) for example in examples]
    for whole_sequence in (False, True):
        part = Collator(tokenizer.pad_token_id, 10_000, whole_sequence).part(rows)
        assert model(**part).loss.item() == pytest.approx(total / count, rel=1e-5)
    # Without a mask, as a causal model is trained; padded further, as for recorded passes; and in parts.
    unmasked = Collator(tokenizer.pad_token_id, 120, masked=False)
    assert use_right_padded_attention(model)
    assert model(**unmasked.part(rows)).loss.item() == pytest.approx(total / count, rel=1e-5)
    part = unmasked.part(rows)
    padded = rounded_up(part, shape_of(part), tokenizer.pad_token_id)
    assert padded["input_ids"].shape == (8, 64)
    assert model(**padded).loss.item() == pytest.approx(total / count, rel=1e-5)
    step = unmasked(rows)
    assert len(step["parts"]) > 2 and (step["labels"] != IGNORED).sum() == count
    summed = sum(model(**part, num_items_in_batch=torch.tensor(count)).loss.item() for part in step["parts"])
    assert summed == pytest.approx(total / count, rel=1e-5)


def test_examples_that_are_too_long_are_left_out_and_counted(smollm2):
    lengths = sorted(len(example.input_ids) for example in encode(smollm2, PAIRS, 512)[0])
    kept, left_out = encode(smollm2, PAIRS, lengths[2])
    assert (len(kept), left_out) == (3, 4)
    message = f"none of 7 training examples fits into 8 tokens; the shortest takes {lengths[0]}"
    with pytest.raises(UserError, match=message):
        encode(smollm2, PAIRS, 8)
    with pytest.raises(UserError, match="the train split is empty"):
        encode(smollm2, [], 512)


def test_a_template_without_an_end_token_is_refused(smollm2):
    smollm2.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    with pytest.raises(UserError, match="ends an assistant's turn without a special token"):
        end_of_turn_id(smollm2)


TURNS = [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "SELECT 1"}]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"db_id": "music"}, "training example 2: found None as 'conversations', wanted two turns"),
        ({"db_id": "music", "conversations": ["Who?"]}, "wanted two turns"),
        ({"db_id": "music", "conversations": TURNS[::-1]}, r"found turns from \['gpt', 'human'\]"),
        ({"db_id": "music", "conversations": TURNS[:1]}, r"found turns from \['human'\]"),
        ({"db_id": "music", "conversations": [TURNS[0], {"from": "gpt", "value": " "}]}, "found an empty turn"),
        ({"db_id": "music", "conversations": [TURNS[0], {"from": "gpt", "value": 1}]}, "found an empty turn"),
        ({"db_id": "opera", "conversations": TURNS}, "database 'opera' has no schema"),
    ],
)
def test_a_record_that_is_not_right_is_named(record, message, repository):
    prompt = load_params(repository / "params.yaml").prompt
    good = {"db_id": "music", "conversations": TURNS}
    with pytest.raises(UserError, match=message):
        training_pairs([good, record], {"music": SCHEMA}, prompt, [])


# Order and batches


def test_an_epoch_trains_each_example_once_and_its_order_depends_on_seed_and_epoch_alone():
    from text2sql.training.trainer import EpochOrder

    order = EpochOrder(list(range(10, 31)), 4, seed=1)
    first = list(order)
    assert first == list(order) and len(first) == len(order) == 24 and order.steps_per_epoch == 6
    assert sorted(first) == [*range(21), 21, 21, 21]  # three fillers make the last step whole
    for start in range(0, 20, 4):
        assert first[start : start + 4] == sorted(first[start : start + 4], reverse=True)  # the longest first
    order.epoch = 1
    assert list(order) != first and sorted(order) == sorted(first)
    assert list(EpochOrder(list(range(10, 31)), 4, seed=2)) != first
    assert order.tokens(6) == sum(range(10, 31)) and order.tokens(12) == 2 * sum(range(10, 31))
    assert order.tokens(1) == sum(10 + position for position in first[:4])


def test_the_effective_batch_is_the_same_for_any_number_of_processes():
    for batch_size, grad_accum, processes in [(8, 1, 1), (2, 4, 2), (2, 4, 8), (6, 2, 4), (3, 4, 6)]:
        assert step_share(batch_size, grad_accum, processes) * processes == batch_size * grad_accum


def test_an_effective_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(UserError, match="batch_size 2 × grad_accum 4 cannot be divided among 3 processes"):
        step_share(2, 4, 3)


def test_a_step_is_cut_into_parts_of_so_many_padded_tokens():
    from text2sql.training.passes import cut

    assert cut([9, 8, 3, 3, 1], 18) == [range(0, 2), range(2, 5)]
    assert cut([9, 8, 3], 8) == [range(0, 1), range(1, 2), range(2, 3)]  # one example at least
    assert cut([5, 4, 3, 3, 3, 1, 1], 15, powers_of_two=True) == [range(0, 2), range(2, 6), range(6, 7)]
    assert cut([3, 8, 9], 27) == [range(0, 3)] and cut([3, 8, 9], 26) == [range(0, 2), range(2, 3)]


def test_cutting_a_step_changes_its_result_by_rounding_alone(train, monkeypatch, tmp_path):
    """On a GPU whole steps run at once, on a CPU in parts, and where memory is short in smaller ones."""
    import torch

    import text2sql.training.trainer

    whole = train(batch_size=7, grad_accum=1, epochs=4)
    monkeypatch.setattr(text2sql.training.trainer, "tokens_per_pass", lambda model: 60)
    parts = train(batch_size=7, grad_accum=1, epochs=4, checkpoints=tmp_path / "others")
    for one, other in zip(whole.loss_curve, parts.loss_curve, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-3)
    for (name, one), (_, other) in zip(whole.model.named_parameters(), parts.model.named_parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-2, atol=1e-4), name


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused", "sgd"])
def test_an_adapter_in_one_tensor_trains_as_tensor_by_tensor(train, monkeypatch, optim, tmp_path):
    import torch

    import text2sql.training.trainer
    from text2sql.training.passes import FlatParameters

    made = []

    def flat(model):
        made.append(FlatParameters(model))
        return made[-1]

    # On a GPU as well: recorded passes are always of one tensor.
    monkeypatch.setattr(text2sql.training.trainer, "can_be_recorded", lambda model: False)
    monkeypatch.setattr(text2sql.training.trainer, "FlatParameters", flat)
    recipe = {"optim": optim, "lr": 0.5 if optim == "sgd" else 1e-2, "weight_decay": 0.1}
    one_tensor = train(**recipe)
    assert len(made) == 1
    monkeypatch.setattr(text2sql.training.trainer, "FlatParameters", lambda model: None)
    many = train(**recipe, checkpoints=tmp_path / "others")
    assert one_tensor.loss_curve[-1]["loss"] < one_tensor.loss_curve[0]["loss"]
    for one, other in zip(one_tensor.loss_curve, many.loss_curve, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
    for (name, one), (_, other) in zip(one_tensor.model.named_parameters(), many.model.named_parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5), name


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


# Precision


@pytest.mark.parametrize("base_in_4_bit", [False, True])
def test_adapter_weights_are_float32_and_move_at_the_papers_smallest_rate(train, monkeypatch, base_in_4_bit):
    """In bfloat16 a step of 2e-8 would be lost on most weights. TRL casts adapters of 4-bit bases to it."""
    import torch

    import text2sql.training.fine_tune

    before = {}

    def add_adapter(*arguments):
        model = real(*arguments)
        if base_in_4_bit:
            model.is_loaded_in_4bit = True  # what TRL asks; the base itself stays in bfloat16 here
        before.update({name: value.clone() for name, value in model.named_parameters() if value.requires_grad})
        return model

    real = text2sql.training.fine_tune.add_adapter
    monkeypatch.setattr(text2sql.training.fine_tune, "add_adapter", add_adapter)
    training = train(dtype="bfloat16", lr=2e-8, scheduler="constant", epochs=1, warmup=0)
    assert training.model.get_input_embeddings().weight.dtype == torch.bfloat16
    trained = {name: value for name, value in training.model.named_parameters() if value.requires_grad}
    assert trained.keys() == before.keys() and trained
    for name, value in trained.items():
        assert value.dtype == torch.float32
        moved = (value - before[name]).abs()
        assert moved.max() > 0, name
        if "lora_B" in name:  # starts at 0, where float32 holds each step exactly enough
            assert 1e-8 < moved.max() < 1e-7


# Results


@pytest.fixture(scope="module")
def reference(micro_model, tmp_path_factory):
    """An undisturbed training with dropout and a checkpoint a step, and its adapter's bytes."""
    folder = tmp_path_factory.mktemp("reference")
    training = train_adapter(
        "m1", PAIRS, model_params(micro_model), recipe(**INTERRUPTED), checkpoints=folder / "checkpoints"
    )
    training.checkpoints.remove()
    return training, adapter_bytes(training.model, folder / "adapter")


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
    card = model_card("m1", params, training.metrics)
    save_adapter(training.model, folder, params.model, card)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == EMBEDDED_BASE
    assert config["target_modules"] == ["down_proj", "q_proj", "v_proj"]
    assert str(micro_model) not in (folder / "adapter_config.json").read_text()
    front, body = card.split("---\n")[1:3]
    assert "base_model: HuggingFaceTB/SmolLM2-135M-Instruct\n" in front and "license: apache-2.0\n" in front
    assert "library_name: peft\n" in front
    assert "it is not Spider" in body and "| seed | 3407 |" in body
    # Loaded on its base, it computes what the model computed that was trained, and not what the base does.
    tuned, base = LanguageModel(model_params(micro_model), folder), LanguageModel(model_params(micro_model))
    prompt = torch.tensor([tuned.chat_ids(PAIRS[0][0])])
    training.model.eval()
    with torch.inference_mode():
        trained, loaded, untrained = (model(prompt).logits for model in (training.model, tuned.model, base.model))
    assert torch.allclose(loaded, trained, atol=1e-4)
    assert not torch.allclose(untrained, trained, atol=1e-1)


# Interruptions


def once(base: Path, checkpoints: Path, out: Path, kind: str, *launcher: str) -> subprocess.Popen:
    """Start `testkit.train_once` in a process of its own, with another order of Python's hashes."""
    command = [*(launcher or [sys.executable]), "-m", "testkit.train_once", str(base), str(checkpoints), str(out), kind]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    return subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2], start_new_session=True)


def test_a_killed_run_goes_on_from_its_last_checkpoint_and_ends_with_the_same_bytes(
    train, reference, micro_model, tmp_path, capsys
):
    checkpoints = tmp_path / "checkpoints"
    process = once(micro_model, checkpoints, tmp_path / "out", "interrupted")
    while process.poll() is None and not list(checkpoints.glob("*/step-000000003/manifest.json")):
        time.sleep(0.01)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    resumed = train(**INTERRUPTED, checkpoints=checkpoints)
    assert "going on from the checkpoint at step" in capsys.readouterr().out
    assert adapter_bytes(resumed.model, tmp_path / "adapter") == reference[1]
    assert resumed.metrics == reference[0].metrics and resumed.loss_curve == reference[0].loss_curve


def test_sigterm_writes_a_checkpoint_and_stops(train, reference, monkeypatch, tmp_path, capsys):
    from text2sql.training import trainer

    settings = {**INTERRUPTED, "checkpoint_minutes": 60}
    real = trainer._Progress.on_step_end

    def signalled(self, args, state, control, **kwargs):
        real(self, args, state, control, **kwargs)
        if state.global_step == 2:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(trainer._Progress, "on_step_end", signalled)
    with pytest.raises(Interrupted, match="stopped at step 3 of 8; the next run goes on from there") as stopped:
        train(**settings)
    assert stopped.value.signal_number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    monkeypatch.undo()
    resumed = train(**settings)
    assert "going on from the checkpoint at step 3" in capsys.readouterr().out
    assert adapter_bytes(resumed.model, tmp_path / "adapter") == reference[1]


def test_other_params_do_not_pick_up_a_checkpoint(train, capsys):
    train(**INTERRUPTED)
    train(**INTERRUPTED, lr=3e-3)
    train(**INTERRUPTED, pairs=PAIRS[1:])
    assert "going on" not in capsys.readouterr().out
    train(**INTERRUPTED)
    assert "going on from the checkpoint at step 8" in capsys.readouterr().out


def test_a_checkpoint_that_the_disk_refuses_does_not_end_the_training(train, reference, monkeypatch, tmp_path, capsys):
    def full(self, written, step, seconds):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(CheckpointStore, "finish", full)
    training = train(**INTERRUPTED)
    assert "warning: no checkpoint at step 1: [Errno 28] No space left on device" in capsys.readouterr().err
    assert adapter_bytes(training.model, tmp_path / "adapter") == reference[1]


def write_checkpoint(store, step):
    folder = store.begin() / "any-name"
    folder.mkdir()
    (folder / "weights").write_bytes(bytes([step]) * 100)
    store.finish(folder, step, step * 10.0)


def test_the_last_two_checkpoints_are_kept_and_a_damaged_one_is_passed_over(tmp_path, capsys):
    store = CheckpointStore("train_m1", {"lr": 1}, tmp_path)
    assert store.latest() is None
    for step in (8, 9, 10):
        write_checkpoint(store, step)
    assert sorted(path.name for path in store.folder.iterdir()) == ["step-000000009", "step-000000010"]
    assert (store.latest().step, store.latest().seconds) == (10, 100.0)
    (store.begin() / "weights").write_bytes(b"half")  # killed while writing: does not count
    assert store.latest().step == 10
    (store.latest().folder / "weights").write_bytes(b"damaged")
    assert store.latest().step == 9
    assert "step-000000010: this checkpoint is damaged" in capsys.readouterr().err
    (store.latest().folder / "manifest.json").write_text("{")
    assert store.latest() is None
    write_checkpoint(store, 3)
    store.remove()
    assert not store.folder.exists()


def test_the_same_training_does_not_run_twice_at_once(tmp_path):
    first, second = (CheckpointStore("train_m1", {"lr": 1}, tmp_path) for _ in range(2))
    first.lock()
    with pytest.raises(RunError, match="another run of this same training is under way"):
        second.lock()
    CheckpointStore("train_m1", {"lr": 2}, tmp_path).lock()
    first.remove()
    second.lock()


# Processes, memory, and recipes that cannot run


@pytest.mark.long
def test_two_processes_train_the_same_adapter_as_one(train, micro_model, tmp_path):
    """Also the last step of an epoch, which three examples share with fillers."""
    import torch
    from safetensors.torch import load_file

    launcher = ("accelerate", "launch", "--cpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no")
    accelerate = str(Path(sys.executable).parent / launcher[0])
    process = once(
        micro_model,
        tmp_path / "shared-checkpoints",
        tmp_path / "shared",
        "shared",
        accelerate,
        *launcher[1:],
        "--dynamo_backend=no",
    )
    alone = train(grad_accum=2)
    adapter_bytes(alone.model, tmp_path / "alone")
    assert process.wait() == 0
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("alone", "shared"))
    assert one.keys() == two.keys()
    for name in one:
        assert torch.allclose(one[name], two[name], rtol=1e-3, atol=1e-4), name


def test_a_loss_that_is_read_later_is_the_same(train, monkeypatch, tmp_path):
    """As on a GPU: several steps at once, also where a checkpoint comes in between."""
    import text2sql.training.trainer

    expected = train(epochs=3).loss_curve
    real = text2sql.training.trainer._arguments
    monkeypatch.setattr(text2sql.training.trainer, "_arguments", lambda *arguments: real(*arguments[:-1], 5))
    assert train(epochs=3, checkpoints=tmp_path / "others").loss_curve == expected
    often = train(epochs=3, checkpoint_minutes=1e-6, checkpoints=tmp_path / "often")
    assert often.loss_curve == expected


def test_a_step_that_runs_out_of_memory_starts_again_in_smaller_parts(train, monkeypatch, capsys, tmp_path):
    import torch

    from text2sql.training.trainer import AdapterTrainer

    expected = train(batch_size=4, grad_accum=1).loss_curve
    real = AdapterTrainer.compute_loss
    most = 2

    def small_gpu(self, model, inputs, *arguments, **options):
        loss = real(self, model, inputs, *arguments, **options)
        if len(inputs["input_ids"]) > most:
            loss.backward()  # what a failed attempt has added up must not stay
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss

    monkeypatch.setattr(AdapterTrainer, "compute_loss", small_gpu)
    curve = train(batch_size=4, grad_accum=1, checkpoints=tmp_path / "others").loss_curve
    assert [row["loss"] for row in curve] == pytest.approx([row["loss"] for row in expected], rel=1e-3)
    assert "Out of memory at 4 examples a pass: going on with 2" in capsys.readouterr().out
    most = 0
    message = "out of memory at one example .* try a smaller train.max_seq_len, or model.quantization: 4bit"
    with pytest.raises(RunError, match=message):
        train(batch_size=4, grad_accum=1, seed=5)


def test_where_one_example_does_not_fit_its_layers_are_computed_twice(train, monkeypatch, capsys, tmp_path):
    """The limit is on what the layers really keep for the way back, for each token."""
    import torch

    from text2sql.training.trainer import AdapterTrainer

    real, kept, most = AdapterTrainer.compute_loss, [], None

    def small_gpu(self, model, inputs, *arguments, **options):
        saved = []

        def pack(tensor):
            if tensor.shape[:2] == inputs["input_ids"].shape and tensor.shape[-1] != model.config.vocab_size:
                saved.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = real(self, model, inputs, *arguments, **options)
        kept.append(sum(saved) / inputs["input_ids"].numel())
        if most and kept[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss

    monkeypatch.setattr(AdapterTrainer, "compute_loss", small_gpu)
    expected = train().loss_curve
    most = min(kept) / 2
    curve = train(checkpoints=tmp_path / "others").loss_curve
    assert [row["loss"] for row in curve] == pytest.approx([row["loss"] for row in expected], rel=1e-3)
    assert kept[-1] < most
    output = capsys.readouterr().out
    assert "Out of memory at 2 examples a pass: going on with 1" in output
    assert output.count("Out of memory at one example a pass: going on with gradient checkpointing") == 1


def test_layers_that_are_computed_twice_drop_the_same_the_second_time(train, monkeypatch, tmp_path):
    from text2sql.training.trainer import AdapterTrainer

    expected = train(lora=INTERRUPTED["lora"]).loss_curve
    real = AdapterTrainer.create_optimizer
    begun = []

    def create_optimizer(self, *arguments):
        begun.append(self._with_less_memory())
        return real(self, *arguments)

    monkeypatch.setattr(AdapterTrainer, "create_optimizer", create_optimizer)
    curve = train(lora=INTERRUPTED["lora"], checkpoints=tmp_path / "others").loss_curve
    assert begun == ["with gradient checkpointing"]
    assert [row["loss"] for row in curve] == pytest.approx([row["loss"] for row in expected], rel=1e-5)


@pytest.mark.parametrize(
    ("message", "memory"),
    [
        ("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried …", True),
        ("CUDA error: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("CUDA error: device-side assert triggered", False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(message, memory):
    from text2sql.core.errors import is_out_of_memory

    assert is_out_of_memory(RuntimeError(message)) is memory


def test_a_shape_that_did_not_fit_into_memory_is_not_recorded_the_next_time(monkeypatch):
    """Its first pass initialises what must not be initialised while recording, and that one has not come to its end."""
    import torch

    from text2sql.training.passes import FlatParameters, RecordedPasses

    model = torch.nn.Linear(1, 1, bias=False)
    flat = FlatParameters(model)
    memory = iter([False, True])

    def loss_of(part, count):
        if not next(memory):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return model.weight.sum() * part["input_ids"].sum() / count

    passes = RecordedPasses(model, flat, loss_of, pad_id=0)
    monkeypatch.setattr(passes, "_record", lambda shape, part, count: pytest.fail("recorded"))
    row = torch.tensor([[1, 2, 3]])
    part = {"input_ids": row, "labels": row, "shift_labels": row, "logits_to_keep": row[0]}
    flat.begin_step()
    with pytest.raises(torch.OutOfMemoryError):
        passes.run(part, torch.tensor(2))
    passes.run(part, torch.tensor(2))
    assert model.weight.grad.item() == 3


def test_passes_for_little_memory_have_the_loss_and_gradients_of_all_others(micro_model, monkeypatch):
    """CUDA graphs need a GPU: here each replay recomputes what the recording would hold."""
    import torch

    import text2sql.training.passes
    from text2sql.model.attention import use_right_padded_attention
    from text2sql.model.language_model import add_adapter, load_base
    from text2sql.training.passes import (
        POSITIONS_PER_LOSS,
        FlatParameters,
        RecordedPasses,
        few_shapes,
        repeat_loss,
        single_rows,
    )
    from text2sql.training.trainer import Collator

    recorded, seen = [], []

    def record(model, work, pool):
        loss = torch.zeros(())
        recorded.append(work)
        return SimpleNamespace(pool=lambda: "pool", replay=lambda: loss.copy_(work())), loss

    def loss_of(part, count):
        seen.append((*part["input_ids"].shape, len(part["logits_to_keep"])))
        return model(**part, num_items_in_batch=count).loss

    def loss_and_gradients(passes):
        flat.begin_step()
        return sum(passes.run(part, count) for part in parts).item(), flat.parameter.grad.clone()

    monkeypatch.setattr(text2sql.training.passes, "record", record)
    base, tokenizer = load_base(model_params(micro_model))
    lora = LoraParams(r=2, alpha=4, dropout=0, target_modules=["q_proj", "down_proj"])
    model = add_adapter(base, lora, 1, "transformers")
    assert use_right_padded_attention(model)
    flat = FlatParameters(model)
    answer = "SELECT name FROM singer WHERE age IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)"
    long = [([{"role": "user", "content": "Why? " * number}], answer) for number in (150, 130, 90, 70, 50)]
    examples = sorted(encode(tokenizer, [*PAIRS, *long], 512)[0], key=lambda example: -len(example.input_ids))
    rows = [vars(example) for example in examples]
    collator = Collator(tokenizer.pad_token_id, 10_000, masked=False)
    parts = [collator.part(some) for some in (rows[:1], rows[1:5], rows[5:])]
    count = torch.tensor(sum(len(counted(example)) for example in examples))
    plain = RecordedPasses(model, flat, loss_of, tokenizer.pad_token_id)
    loss, gradients = loss_and_gradients(plain)
    assert loss > 1 and gradients.abs().max() > 0
    recorded.clear()

    sizes = [(len(example.input_ids), len(counted(example))) for example in examples]
    shapes = few_shapes(sizes)
    parts = [row for part in parts for row in single_rows(part)]
    # Rows that were one part name each other's positions, too many for any shape.
    assert max(len(part["logits_to_keep"]) for part in parts) > max(shape[2] for shape in shapes) > POSITIONS_PER_LOSS
    repeat_loss(model.get_base_model())
    passes = RecordedPasses(model, flat, loss_of, tokenizer.pad_token_id, shapes)
    for _ in range(2):
        seen.clear()
        again = loss_and_gradients(passes)
        assert again[0] == pytest.approx(loss, rel=1e-5)
        assert torch.allclose(again[1], gradients, rtol=1e-3, atol=1e-6)
        assert len(recorded) == len(shapes) > 2
    # A row a pass, the long ones wider than the others.
    assert len(seen) == len(rows) and set(seen) < set(shapes) and min(seen) == min(shapes) and max(seen) == max(shapes)


def test_a_loss_that_is_no_number_stops_the_training(train, monkeypatch):
    from text2sql.training.trainer import AdapterTrainer

    real = AdapterTrainer.compute_loss
    monkeypatch.setattr(AdapterTrainer, "compute_loss", lambda *a, **k: real(*a, **k) * float("nan"))
    with pytest.raises(RunError, match="the loss is nan at step 1; try a smaller learning rate"):
        train()


def test_recipes_that_cannot_run_here_stop_before_the_model_is_loaded(train, monkeypatch, tmp_path):
    import torch

    with pytest.raises(UserError, match="cannot be divided among 3 processes"):
        train(processes=Processes(0, 3), base=tmp_path / "nowhere")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="train.optim: adamw_8bit needs a GPU"):
            train(optim="adamw_8bit", base=tmp_path / "nowhere")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="asks for FSDP"):
        train(base=tmp_path / "nowhere")


def test_examples_of_which_the_loss_counts_nothing_stop_the_training(train, monkeypatch):
    import text2sql.training.fine_tune

    masked = [TrainingExample([1, 2, 3], [IGNORED] * 3)]
    monkeypatch.setattr(text2sql.training.fine_tune, "encode", lambda *arguments: (masked, 0))
    with pytest.raises(UserError, match="the loss counts no token of any training example"):
        train()


def test_unsloth_names_the_loader_that_trains_in_several_processes(micro_model):
    with pytest.raises(UserError, match="unsloth trains in one process, and there are 2; takes transformers"):
        train_adapter("m1", PAIRS, model_params(micro_model, loader="unsloth"), recipe(), Processes(0, 2))


def test_an_unknown_target_module_is_the_users_mistake(train):
    with pytest.raises(UserError, match="train.lora.target_modules"):
        train(lora=LoraParams(r=4, alpha=8, dropout=0, target_modules=["no_such_module"]))
