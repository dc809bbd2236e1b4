"""A full disk and a clock that goes backwards: a stage ends with one line or as ever, and nothing is lost.

Stages run in processes of their own, where the n-th write fails, or any write beyond a file's size does.
"""

import itertools
import json

import pytest

from testkit.faults import DISK_FULL, At, ClockGoesBack, FilesUpTo
from testkit.forked import OUTPUTS, Stage, contents, remnants

pytestmark = pytest.mark.long

STAGES = [stage for stage in OUTPUTS if stage not in ("predict_spider base", "eval_mmlu base")]
WRITES = ("os.fsync", "os.replace", "tempfile.mkstemp", "tempfile.mkdtemp")


def check_failure(stage: Stage) -> None:
    """One line that says what is wrong, whatever the stage had said before."""
    said = stage.output.read_text()
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "disk space" in lines[0], said
    assert "Traceback" not in said


def finish(stage: str, folder, expected) -> None:
    """The next run, with space on the disk, completes and leaves nothing behind."""
    last = Stage(stage, folder)
    assert last.wait() == 0, last.output.read_text()
    assert contents(folder, OUTPUTS[stage]) == expected
    assert remnants(folder) == []


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("stage", STAGES)
def test_each_write_may_find_the_disk_full(copy, stage, write):
    expected = contents(copy, OUTPUTS[stage])
    failures = 0
    # Checkpoints make most of training's calls, 8 of os.fsync each, and what they meet is a matter of a warning: a
    # stride that meets another file of each, and the outputs'.
    stride = {"os.fsync": 11, "os.replace": 3}.get(write, 1) if stage == "train m1" else 1
    for number in itertools.count(1, stride):
        process = Stage(stage, copy, At(write, number, DISK_FULL))
        code = process.wait()
        assert contents(copy, OUTPUTS[stage]) == expected
        said = process.output.read_text()
        if code == 0 and "warning: no checkpoint" not in said:
            break
        if code:
            assert code == 1, said
            check_failure(process)
            failures += 1
    assert failures or write not in ("os.fsync", "os.replace")
    assert remnants(copy) == []  # of the last, which had space on the disk


@pytest.mark.parametrize(("stage", "size"), [("prepare", 10_000), ("train m1", 100_000), ("compare", 30_000)])
def test_no_library_can_write_a_file_that_is_too_large_for_the_disk(copy, stage, size):
    expected = contents(copy, OUTPUTS[stage])
    process = Stage(stage, copy, FilesUpTo(size))
    assert process.wait() == 1, process.output.read_text()
    check_failure(process)
    assert contents(copy, OUTPUTS[stage]) == expected
    finish(stage, copy, expected)


@pytest.mark.parametrize("stage", STAGES)
def test_a_clock_that_goes_backwards_changes_nothing(copy, stage):
    expected = contents(copy, OUTPUTS[stage])
    if stage.split()[0] in ("train", "predict_spider", "sample_spider", "eval_mmlu"):
        killed = Stage(stage, copy, At("os.fsync", 12 if stage == "train m1" else 2))
        assert killed.wait() == -9
    process = Stage(stage, copy, ClockGoesBack())
    assert process.wait() == 0, process.output.read_text()
    assert contents(copy, OUTPUTS[stage]) == expected
    assert remnants(copy) == []
    timings = [json.loads(path.read_text()) for path in (copy / "data/timings").glob("*.json")]
    assert timings and all(timing["seconds"] >= 0 for timing in timings)
