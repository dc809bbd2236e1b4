"""Whatever kills a stage, the next run goes on and ends with the same bytes.

Each stage runs in a process group of its own and is killed with SIGKILL, at moments spread over its life (seeded) and
at each call by which an output comes to be; then it runs to its end, and what it leaves is compared with what an
undisturbed run left. `TEXT2SQL_KILLS` sets the kills by time for each stage; the default makes 64 in all.
"""

import hashlib
import itertools
import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.forked import Stage, stages_ready
from tests.project import Project

pytestmark = pytest.mark.long

KILLS = int(os.environ.get("TEXT2SQL_KILLS", "8"))

# Checkpoints after every step, and small batches: as many places to be cut as there can be.
SETTINGS = {"train": {"checkpoint_minutes": 1e-6}, "generation": {"batch_size": 2}, "mmlu": {"batch_size": 2}}

# What each stage leaves. Timings are not compared: they differ from run to run.
STAGES = {
    "prepare": ["data/prepared", "metrics/prepare.json"],
    "train m1": ["models/m1", "metrics/train/m1.json", "metrics/train/m1_loss.csv"],
    "predict_spider base": ["data/predictions/base.jsonl"],
    "predict_spider m1": ["data/predictions/m1.jsonl"],
    "eval_spider base": ["data/verdicts/spider/base.jsonl", "metrics/spider/base.json"],
    "eval_mmlu base": ["data/verdicts/mmlu/base.jsonl", "metrics/mmlu/base.json"],
    "eval_mmlu m1": ["data/verdicts/mmlu/m1.jsonl", "metrics/mmlu/m1.json"],
    "compare": ["metrics/compare.json", "metrics/plots", "reports/report.md"],
}


def contents(folder: Path, outputs: list[str]) -> dict[str, str]:
    """Return {file: sha256} of all that is below `outputs`, but for temporary files."""
    found = {}
    for output in outputs:
        path = folder / output
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and not file.name.startswith("."):
                found[str(file.relative_to(folder))] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def remnants(folder: Path) -> list[Path]:
    """Return what is left of work in progress: journals, checkpoints, temporary files."""
    work = [path for name in (".journals", ".checkpoints") for path in (folder / name).rglob("*") if path.is_file()]
    outputs = ("data", "metrics", "models", "reports")
    return work + [path for name in outputs for path in (folder / name).rglob(".*") if path.name != ".gitignore"]


@pytest.fixture(scope="module", autouse=True)
def server():
    """Processes that have the libraries loaded when they start."""
    with stages_ready():
        yield


@pytest.fixture(scope="module")
def reference(repository, micro_model, tmp_path_factory, server):
    """A project in which every stage has run undisturbed, and how many seconds each took."""
    folder = tmp_path_factory.mktemp("reference") / "project"
    Project.create(repository, folder, micro_model, SETTINGS)
    seconds = {}
    stages = ["prepare", "train m1", "train m2"]
    stages += [f"{s} {model}" for s in ("predict_spider", "eval_spider", "eval_mmlu") for model in ("base", "m1", "m2")]
    for name in [*stages, "compare"]:
        stage = Stage(name, folder)
        assert stage.wait() == 0, stage.output.read_text()
        seconds[name] = stage.seconds
    return folder, seconds


@pytest.fixture
def copy(reference, tmp_path):
    """A copy of the reference project."""
    folder = tmp_path / "project"
    shutil.copytree(reference[0], folder)
    return folder


def finish(stage: str, folder: Path, expected: dict[str, str]) -> None:
    """Run a stage to its end; its outputs have to be the expected ones, and nothing else be left."""
    last = Stage(stage, folder)
    assert last.wait() == 0, last.output.read_text()
    assert contents(folder, STAGES[stage]) == expected
    assert remnants(folder) == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_ends_with_the_same_bytes(reference, copy, stage):
    expected = contents(copy, STAGES[stage])
    assert expected
    for output in STAGES[stage]:
        path = copy / output
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    randomness = random.Random(stage)
    life = reference[1][stage]
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
        for name, digest in contents(copy, STAGES[stage]).items():
            assert expected[name] == digest, f"{stage}, kill {killed} after {moment:.2f} s: {name} is not whole"
        if killed == KILLS:
            break
    assert killed == KILLS
    finish(stage, copy, expected)


@pytest.mark.parametrize("call", ["os.fsync", "os.replace"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_killed_while_it_writes_its_outputs_ends_with_the_same_bytes(copy, stage, call):
    """Killed before the first call, then before the second, and so on to the last, with earlier outputs in place."""
    # Checkpoints make most of training's calls, and each run goes on from the one before.
    stride = 4 if (stage, call) == ("train m1", "os.fsync") else 1
    expected = contents(copy, STAGES[stage])
    for number in itertools.count(1, stride):
        process = Stage(stage, copy, fault=(call, number))
        code = process.wait()
        found = contents(copy, STAGES[stage])
        for name in found:
            assert expected[name] == found[name], f"{stage}, killed before {call} {number}: {name} is not whole"
        if code == 0:
            break
        assert code == -9, process.output.read_text()
    assert number > 1
    finish(stage, copy, expected)


def test_two_repros_at_once_end_with_one_result(repository, micro_model, tmp_path):
    """DVC's own lock makes the second wait its turn or stop with a message; neither leaves anything broken."""
    project = Project.create(repository, tmp_path, micro_model, {"data": {"train_limit": 8, "dev_limit": 4}})
    project.commit("the project")
    stage = ["dvc", "repro", "prepare"]
    processes = [
        subprocess.Popen(stage, cwd=tmp_path, env=project.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    outputs = [process.communicate()[0].decode() for process in processes]
    assert any(process.returncode == 0 for process in processes), outputs
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0 or "lock" in output
    project.run(*stage)
    assert json.loads((tmp_path / "metrics/prepare.json").read_text())["dev"] == 4
    assert "up to date" in project.run("dvc", "status", "prepare").stdout
