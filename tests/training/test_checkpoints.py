"""What survives a kill: a resumed training ends with the same bytes."""

import os
import resource
import signal
import time

import pytest

from testkit.train_once import INTERRUPTED, PAIRS
from tests.training.comparing import adapter_bytes, once
from text2sql.core.dependencies import Key
from text2sql.core.errors import RunError
from text2sql.training.checkpoints import CheckpointStore


def test_a_killed_run_goes_on_from_its_last_checkpoint_and_ends_with_the_same_bytes(
    train, reference, micro_model, tmp_path, capsys
):
    checkpoints = tmp_path / "checkpoints"
    process = once(micro_model, checkpoints, tmp_path / "out")
    while process.poll() is None and not list(checkpoints.glob("*/step-000000003/manifest.json")):
        time.sleep(0.01)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    resumed = train(**INTERRUPTED, checkpoints=checkpoints)
    assert "going on from the checkpoint at step" in capsys.readouterr().out
    assert adapter_bytes(resumed.model, tmp_path / "adapter") == reference[1]
    assert resumed.metrics == reference[0].metrics and resumed.loss_curve == reference[0].loss_curve


def test_other_params_do_not_pick_up_a_checkpoint(train, capsys):
    train(**INTERRUPTED)
    train(**INTERRUPTED, lr=3e-3)
    train(**INTERRUPTED, pairs=PAIRS[1:])
    assert "going on" not in capsys.readouterr().out
    train(**INTERRUPTED)
    assert "going on from the checkpoint at step 8" in capsys.readouterr().out


def test_a_checkpoint_that_the_disk_refuses_does_not_end_the_training(train, reference, tmp_path, capsys):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))  # less than the adapter's weights
    try:
        training = train(**INTERRUPTED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "warning: no checkpoint at step 1: " in capsys.readouterr().err
    assert adapter_bytes(training.model, tmp_path / "adapter") == reference[1]


def write_checkpoint(store, step):
    folder = store.begin() / "any-name"
    folder.mkdir()
    (folder / "weights").write_bytes(bytes([step]) * 100)
    store.finish(folder, step, step * 10.0, {})


def test_the_last_two_checkpoints_are_kept_and_a_damaged_one_is_passed_over(tmp_path, capsys):
    store = CheckpointStore("train_m1", Key.of({"lr": 1}), tmp_path)
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
    first, second = (CheckpointStore("train_m1", Key.of({"lr": 1}), tmp_path) for _ in range(2))
    first.lock()
    with pytest.raises(RunError, match="another run of this same training is under way"):
        second.lock()
    CheckpointStore("train_m1", Key.of({"lr": 2}), tmp_path).lock()
    first.remove()
    second.lock()
