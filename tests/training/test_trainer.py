"""How a step is trained: cut into parts, again when out of memory, its loss read later."""

import itertools
import re

import pytest

from testkit.passes import around_passes
from testkit.train_once import INTERRUPTED
from tests.training.comparing import adapter_bytes
from text2sql.core.errors import RunError, UserError
from text2sql.training.examples import IGNORED, TrainingExample


def examples_of(inputs):
    """How many examples a pass has: they lie in one row."""
    return len(inputs["packing"].lengths)


def losses(curve):
    return [row["loss"] for row in curve if "loss" in row]


def test_a_loss_that_is_read_later_is_the_same(trainer, tmp_path):
    """As on a GPU: several steps at once, also if a checkpoint comes in between."""
    found = []
    for number, (steps_between_reads, minutes) in enumerate([(1, 60), (5, 60), (5, 1e-6)]):
        reading = trainer(epochs=3, checkpoint_minutes=minutes, checkpoints=tmp_path / str(number))
        reading.args.logging_steps = steps_between_reads
        reading.train()
        found.append(
            [(row["step"], row["loss"], row["learning_rate"]) for row in reading.state.log_history if "loss" in row]
        )
    assert [step for step, _, _ in found[0]] == list(range(1, 13))
    assert found[1] == found[0] and found[2] == found[0]


def test_a_step_that_ran_out_of_memory_starts_again_in_smaller_parts(train, capsys, tmp_path):
    """Cutting a step changes its result by rounding alone."""
    import torch

    settings = {"batch_size": 7, "grad_accum": 1, "epochs": 4}
    most = 1

    def small_gpu(model, inputs, output):
        if examples_of(inputs) > most:
            output.loss.backward()  # what a failed attempt has added up must not stay
            raise torch.OutOfMemoryError("CUDA out of memory")

    whole = train(**settings)
    with around_passes(after=small_gpu):
        parts = train(**settings, checkpoints=tmp_path / "others")
        assert losses(parts.loss_curve) == pytest.approx(losses(whole.loss_curve), rel=1e-3)
        for (name, one), (_, other) in zip(whole.model.named_parameters(), parts.model.named_parameters(), strict=True):
            assert torch.allclose(one, other, rtol=1e-2, atol=1e-4), name
        line = r"Out of memory at (\d+) examples a pass: going on with (\d+) tokens"
        said = re.findall(line, capsys.readouterr().out)
        examples, tokens = (list(map(int, found)) for found in zip(*said, strict=True))
        assert len(said) > 1 and examples == sorted(examples, reverse=True)
        assert all(then <= before / 2 for before, then in itertools.pairwise(tokens))
        most = 0
        message = "out of memory at one example .* try a smaller train.max_seq_len, or model.quantization: 4bit"
        with pytest.raises(RunError, match=message):
            train(**settings, seed=5)


@pytest.mark.filterwarnings("ignore:put_ does not have a deterministic implementation")
def test_a_kernel_without_a_deterministic_form_is_named_and_its_step_starts_again(train, capsys, tmp_path):
    import torch

    def in_any_order(model, inputs, output):
        if torch.is_deterministic_algorithms_warn_only_enabled():
            return
        output.loss.backward()  # what the attempt has added up must not stay
        torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))

    whole = train(epochs=2)
    torch.use_deterministic_algorithms(True)
    try:
        with around_passes(after=in_any_order):
            other = train(epochs=2, checkpoints=tmp_path / "others")
    finally:
        torch.use_deterministic_algorithms(False)
    assert losses(other.loss_curve) == losses(whole.loss_curve)
    one, two = (adapter_bytes(run.model, tmp_path / name) for name, run in (("one", whole), ("two", other)))
    assert one == two
    assert capsys.readouterr().out.count("put_ adds in no fixed order: the next run of this recipe") == 1


def test_a_run_that_resumes_cuts_its_steps_as_the_one_before_did(train, tmp_path):
    """Also where memory suffices by then: the bytes are those of a run that did not stop, and the metrics tell."""
    import torch

    settings = {"batch_size": 4, "grad_accum": 1, "epochs": 3, "checkpoint_minutes": 1e-6}
    passed, killed, most = 0, None, 2

    def small_gpu(model, inputs, output):
        nonlocal passed
        passed += 1
        if passed == killed:
            raise RuntimeError("killed")
        if examples_of(inputs) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with around_passes(after=small_gpu):
        whole = train(**settings, checkpoints=tmp_path / "whole")
        passed, killed = 0, passed - 2  # within the last two steps
        with pytest.raises(RuntimeError, match="killed"):
            train(**settings, checkpoints=tmp_path / "cut")
        killed, most = None, 100
        resumed = train(**settings, checkpoints=tmp_path / "cut")
    assert adapter_bytes(resumed.model, tmp_path / "b") == adapter_bytes(whole.model, tmp_path / "a")
    assert resumed.metrics == whole.metrics and whole.metrics["out_of_memory"]


def test_where_one_example_does_not_fit_its_layers_are_computed_twice(train, capsys, tmp_path):
    """The limit is on what the layers really keep for the backward pass, for each token."""
    import torch

    saved, kept, most = [], [], None

    def pack(tensor):
        saved.append((tuple(tensor.shape), tensor.nbytes))
        return tensor

    watching = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)

    def start(model):
        saved.clear()
        watching.__enter__()

    def small_gpu(model, inputs, output):
        watching.__exit__(None, None, None)
        ids, vocabulary = inputs["input_ids"], model.config.vocab_size
        of_layers = [size for shape, size in saved if shape[:2] == tuple(ids.shape) and shape[-1] != vocabulary]
        kept.append(sum(of_layers) / ids.numel())
        if most and kept[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with around_passes(start, small_gpu):
        expected = train().loss_curve
        most = min(kept) / 2
        curve = train(checkpoints=tmp_path / "others").loss_curve
    assert losses(curve) == pytest.approx(losses(expected), rel=1e-3)
    assert kept[-1] < most
    output = capsys.readouterr().out
    assert re.search(r"Out of memory at 2 examples a pass: going on with \d+ tokens", output)
    assert output.count("Out of memory at one example a pass: going on with gradient checkpointing") == 1


def test_layers_that_are_computed_twice_drop_the_same_the_second_time(train, capsys, tmp_path):
    import torch

    def too_small_without_checkpointing(model):
        if not model.is_gradient_checkpointing:  # before anything is dropped
            raise torch.OutOfMemoryError("CUDA out of memory")

    settings = {"batch_size": 1, "lora": INTERRUPTED["lora"]}
    expected = train(**settings).loss_curve
    with around_passes(too_small_without_checkpointing):
        curve = train(**settings, checkpoints=tmp_path / "others").loss_curve
    assert "Out of memory at one example a pass: going on with gradient checkpointing" in capsys.readouterr().out
    assert losses(curve) == pytest.approx(losses(expected), rel=1e-5)


def test_examples_of_which_the_loss_counts_nothing_stop_the_training(trainer):
    with pytest.raises(UserError, match="the loss counts no token of any training example"):
        trainer(examples=[TrainingExample([1, 2, 3], [IGNORED] * 3)])
