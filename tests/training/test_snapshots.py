"""Adapters kept along a training: what training had come to by then, also where it was stopped and went on."""

import os
import signal

import pytest

from testkit.train_once import INTERRUPTED, PAIRS, model_params, recipe
from tests.training.comparing import adapter_bytes
from text2sql.model.adapters import WEIGHTS, check_adapter
from text2sql.training.callbacks import Progress
from text2sql.training.fine_tune import Interrupted, train_adapter
from text2sql.training.job import TrainingJob
from text2sql.training.snapshots import Snapshots, steps_along

WRONG = [(messages, "SELECT nothing FROM nowhere") for messages, _ in PAIRS]


def test_places_are_evenly_spaced_and_no_more_than_there_are_steps():
    assert steps_along(100, 4) == [25, 50, 75, 100]
    assert steps_along(10, 4) == [3, 5, 8, 10]
    assert steps_along(3, 4) == [1, 2, 3] and steps_along(1, 4) == [1]


@pytest.fixture
def train(micro_model, tmp_path):
    """Return a function that trains in a folder of this name, with its adapter kept at four places of eight steps."""

    def run(name, **changes):
        start = changes.pop("start", None)
        snapshots = Snapshots(tmp_path / name / "at", 4)
        settings = recipe(**INTERRUPTED | changes)
        job = TrainingJob("m1", model_params(micro_model), settings, start=start, snapshots=snapshots)
        pairs = [*PAIRS, *WRONG] if start else PAIRS
        return train_adapter(job, pairs, tmp_path / name / "checkpoints")

    return run


def kept(folder):
    return {path.parent.name: path.read_bytes() for path in (folder / "at").glob(f"*/{WEIGHTS}")}


def stopped_after(step, monkeypatch, train, name):
    """Train until a signal comes at the end of the step before, as a kill on a cluster would."""
    shown = Progress.on_step_end

    def stopping(self, args, state, control, **kwargs):
        shown(self, args, state, control, **kwargs)
        if state.global_step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match=f"stopped at step {step} of 8"):
        patch.setattr(Progress, "on_step_end", stopping)
        train(name)


def test_they_are_the_adapter_of_that_step_whether_the_training_was_stopped_or_not(train, tmp_path, monkeypatch):
    whole = train("whole")
    found = kept(tmp_path / "whole")
    assert sorted(found) == ["2", "4", "6"] and len(set(found.values())) == 3
    assert adapter_bytes(whole.model, tmp_path / "end") not in found.values()
    stopped_after(4, monkeypatch, train, "cut")
    assert kept(tmp_path / "cut") == {step: found[step] for step in ("2", "4")}
    (checkpoint,) = (tmp_path / "cut/checkpoints").glob("train_m1-*/step-*4")
    assert (checkpoint / WEIGHTS).read_bytes() == found["4"]  # what training itself goes on from
    resumed = train("cut")
    assert kept(tmp_path / "cut") == found
    assert adapter_bytes(resumed.model, tmp_path / "resumed") == adapter_bytes(whole.model, tmp_path / "again")


def test_a_checkpoint_of_a_training_that_kept_none_is_not_gone_on_from(train, micro_model, tmp_path, capsys):
    job = TrainingJob("m1", model_params(micro_model), recipe(**INTERRUPTED))
    train_adapter(job, PAIRS, tmp_path / "one/checkpoints")
    train("one")
    assert "going on" not in capsys.readouterr().out and sorted(kept(tmp_path / "one")) == ["2", "4", "6"]


def test_of_a_training_on_pairs_the_reference_is_not_kept(train, tmp_path):
    start = tmp_path / "start"
    train("start-of-it").save(start, "# card\n")
    train("pairs", start=start, objective="dpo", **{"from": "m1"}, lr=1e-3)
    first = tmp_path / "pairs/at/2"
    check_adapter(first)
    assert sorted(path.name for path in first.iterdir()) == ["README.md", "adapter_config.json", WEIGHTS]
    found = kept(tmp_path / "pairs")
    assert sorted(found) == ["2", "4", "6"] and (start / WEIGHTS).read_bytes() not in found.values()
