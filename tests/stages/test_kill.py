"""Whatever kills a stage, the next run resumes and ends with the same bytes.

Each stage runs in a process group of its own and is killed with SIGKILL, at moments spread over its life (seeded) and
at each call by which an output comes to be; then it runs to its end, and what it leaves is compared with what an
undisturbed run left. `TEXT2SQL_KILLS` sets the kills by time for each stage; the default makes 55 in all.
"""

import itertools
import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from testkit.faults import At
from testkit.forked import OUTPUTS, Stage, contents, remnants
from testkit.project import Project

pytestmark = pytest.mark.long

KILLS = int(os.environ.get("TEXT2SQL_KILLS", "5"))


def finish(stage: str, folder: Path, expected: dict[str, str]) -> None:
    """Run a stage to its end; its outputs have to be the expected ones, and nothing else be left."""
    last = Stage(stage, folder)
    assert last.wait() == 0, last.output.read_text()
    assert contents(folder, OUTPUTS[stage]) == expected
    assert remnants(folder) == []


@pytest.mark.parametrize("stage", OUTPUTS)
def test_a_killed_stage_ends_with_the_same_bytes(run_stages, copy, stage):
    expected = contents(copy, OUTPUTS[stage])
    assert expected
    for output in OUTPUTS[stage]:
        path = copy / output
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    randomness = random.Random(stage)
    life = run_stages[1][stage]
    killed = 0
    for attempt in range(20 * KILLS):
        # One moment in each part of a life. A run that goes on from a journal is shorter: it may end before.
        moment = life * (attempt % KILLS + randomness.random()) / KILLS
        process = Stage(stage, copy)
        if process.kill_after(moment):
            killed += 1
        else:
            life = (life + process.seconds) / 2
        # What stands under its final name is whole.
        for name, digest in contents(copy, OUTPUTS[stage]).items():
            assert expected[name] == digest, f"{stage}, kill {killed} after {moment:.2f} s: {name} is not whole"
        if killed == KILLS:
            break
    assert killed == KILLS
    finish(stage, copy, expected)


@pytest.mark.parametrize("call", ["os.fsync", "os.replace"])
@pytest.mark.parametrize("stage", OUTPUTS)
def test_a_stage_killed_while_it_writes_its_outputs_ends_with_the_same_bytes(copy, stage, call):
    """Killed before the first call, then before the second, and so on to the last, with earlier outputs in place."""
    # Checkpoints make most of training's calls, 8 of os.fsync each, and each run goes on from the one before: a stride
    # that meets another file of each.
    stride = {"os.fsync": 9, "os.replace": 2}[call] if stage == "train m1" else 1
    expected = contents(copy, OUTPUTS[stage])
    for number in itertools.count(1, stride):
        process = Stage(stage, copy, fault=At(call, number))
        code = process.wait()
        found = contents(copy, OUTPUTS[stage])
        for name in found:
            assert expected[name] == found[name], f"{stage}, killed before {call} {number}: {name} is not whole"
        if code == 0:
            break
        assert code == -9, process.output.read_text()
    assert number > 1
    assert found == expected and remnants(copy) == []  # of the last, which met no such call


def test_two_repros_at_once_end_with_one_result(repository, micro_model, tmp_path):
    """DVC's own lock makes the second wait its turn or stop with a message; neither leaves anything broken."""
    project = Project.create(repository, tmp_path, micro_model, {"data": {"train_limit": 8, "dev_limit": 4}})
    project.commit("the project")
    stage = ["dvc", "repro", "prepare"]
    processes = [
        subprocess.Popen(
            stage, cwd=tmp_path, env=project.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for _ in range(2)
    ]
    outputs = [process.communicate()[0].decode() for process in processes]
    assert any(process.returncode == 0 for process in processes), outputs
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0 or "lock" in output
    project.run(*stage)
    assert json.loads((tmp_path / "metrics/prepare.json").read_text())["dev"] == 4
    assert "up to date" in project.run("dvc", "status", "prepare").stdout
