"""How a step is trained: cut into parts, again when out of memory, its loss read later."""

import pytest

from testkit.train_once import INTERRUPTED
from tests.training.comparing import adapter_bytes
from text2sql.core.errors import RunError, UserError
from text2sql.training.examples import IGNORED, TrainingExample


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


def test_a_loss_that_is_read_later_is_the_same(train, monkeypatch, tmp_path):
    """As on a GPU: several steps at once, also if a checkpoint comes in between."""
    import text2sql.training.trainer

    expected = train(epochs=3).loss_curve
    real = text2sql.training.trainer._arguments
    monkeypatch.setattr(text2sql.training.trainer, "_arguments", lambda *arguments: real(*arguments[:-1], 5))
    assert train(epochs=3, checkpoints=tmp_path / "others").loss_curve == expected
    often = train(epochs=3, checkpoint_minutes=1e-6, checkpoints=tmp_path / "often")
    assert often.loss_curve == expected


def test_a_step_that_ran_out_of_memory_starts_again_in_smaller_parts(train, monkeypatch, capsys, tmp_path):
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


def test_a_run_that_resumes_cuts_its_steps_as_the_one_before_did(train, monkeypatch, tmp_path):
    """Also where memory suffices by then: the bytes are those of a run that did not stop, and the metrics tell."""
    import torch

    from text2sql.training.trainer import AdapterTrainer

    real = AdapterTrainer.compute_loss
    killed, most, steps = None, 2, {"batch_size": 4, "grad_accum": 1, "epochs": 3, "checkpoint_minutes": 1e-6}

    def small_gpu(self, model, inputs, *arguments, **options):
        if self.state.global_step == killed:
            raise RuntimeError("killed")
        if len(inputs["input_ids"]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, model, inputs, *arguments, **options)

    monkeypatch.setattr(AdapterTrainer, "compute_loss", small_gpu)
    whole = train(**steps, checkpoints=tmp_path / "whole")
    killed = 3
    with pytest.raises(RuntimeError, match="killed"):
        train(**steps, checkpoints=tmp_path / "cut")
    killed, most = None, 100
    resumed = train(**steps, checkpoints=tmp_path / "cut")
    assert adapter_bytes(resumed.model, tmp_path / "b") == adapter_bytes(whole.model, tmp_path / "a")
    assert resumed.metrics == whole.metrics and whole.metrics["out_of_memory"]


def test_where_one_example_does_not_fit_its_layers_are_computed_twice(train, monkeypatch, capsys, tmp_path):
    """The limit is on what the layers really keep for the backward pass, for each token."""
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
        begun.append(self._fall_back(rows=1, tokens=1))
        return real(self, *arguments)

    monkeypatch.setattr(AdapterTrainer, "create_optimizer", create_optimizer)
    curve = train(lora=INTERRUPTED["lora"], checkpoints=tmp_path / "others").loss_curve
    assert begun == ["with gradient checkpointing"]
    assert [row["loss"] for row in curve] == pytest.approx([row["loss"] for row in expected], rel=1e-5)


def test_examples_of_which_the_loss_counts_nothing_stop_the_training(train, monkeypatch):
    import text2sql.training.fine_tune

    masked = [TrainingExample([1, 2, 3], [IGNORED] * 3)]
    monkeypatch.setattr(text2sql.training.fine_tune, "encode", lambda *arguments: (masked, 0))
    with pytest.raises(UserError, match="the loss counts no token of any training example"):
        train()
