"""When a training stops before its end: a signal, or a loss that is not finite."""

import signal

import pytest

from testkit.train_once import INTERRUPTED
from tests.training.comparing import adapter_bytes
from text2sql.core.errors import RunError
from text2sql.training.fine_tune import Interrupted


def test_sigterm_writes_a_checkpoint_and_stops(train, reference, monkeypatch, tmp_path, capsys):
    from text2sql.training import callbacks

    settings = {**INTERRUPTED, "checkpoint_minutes": 60}
    real = callbacks.Progress.on_step_end

    def signalled(self, args, state, control, **kwargs):
        real(self, args, state, control, **kwargs)
        if state.global_step == 2:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(callbacks.Progress, "on_step_end", signalled)
    with pytest.raises(Interrupted, match="stopped at step 3 of 8; the next run goes on from there") as stopped:
        train(**settings)
    assert stopped.value.signal_number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    monkeypatch.undo()
    resumed = train(**settings)
    assert "going on from the checkpoint at step 3" in capsys.readouterr().out
    assert adapter_bytes(resumed.model, tmp_path / "adapter") == reference[1]


def test_a_loss_that_is_no_number_stops_the_training(train, monkeypatch):
    from text2sql.training.trainer import AdapterTrainer

    real = AdapterTrainer.compute_loss
    monkeypatch.setattr(AdapterTrainer, "compute_loss", lambda *a, **k: real(*a, **k) * float("nan"))
    with pytest.raises(RunError, match="the loss is nan at step 1; try a smaller learning rate"):
        train()
