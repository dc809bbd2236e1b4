"""When a training stops before its end: a signal, or a loss that is not finite."""

import itertools
import signal

import pytest

from testkit.passes import around_passes
from testkit.train_once import INTERRUPTED
from tests.training.comparing import adapter_bytes
from text2sql.core.errors import RunError
from text2sql.training.fine_tune import Interrupted


def test_sigterm_writes_a_checkpoint_and_stops(train, reference, tmp_path, capsys):
    settings = {**INTERRUPTED, "checkpoint_minutes": 60}
    passes = itertools.count(1)

    def signal_in_the_third_step(model, inputs, output):
        if next(passes) == 3:  # a pass a step
            signal.raise_signal(signal.SIGTERM)

    stop = pytest.raises(Interrupted, match="stopped at step 3 of 8; the next run goes on from there")
    with around_passes(after=signal_in_the_third_step), stop as stopped:
        train(**settings)
    assert stopped.value.signal_number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    resumed = train(**settings)
    assert "going on from the checkpoint at step 3" in capsys.readouterr().out
    assert adapter_bytes(resumed.model, tmp_path / "adapter") == reference[1]


def test_a_loss_that_is_no_number_stops_the_training(train):
    no_number = around_passes(after=lambda model, inputs, output: output.loss.data.fill_(float("nan")))
    with no_number, pytest.raises(RunError, match="the loss is nan at step 1; try a smaller learning rate"):
        train()
