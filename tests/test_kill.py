"""Whatever kills a stage, the next run goes on and ends with the same bytes.

Each stage runs in a process group of its own and is killed with SIGKILL at moments spread over its life (seeded),
then run to its end; what it leaves is compared with what an undisturbed run left. `TEXT2SQL_KILLS` sets the kills a
stage; the default makes 56 in all.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.project import Project

pytestmark = pytest.mark.long

KILLS = int(os.environ.get("TEXT2SQL_KILLS", "8"))

# Checkpoints after every step, and small batches: as many places to be cut as there can be.
SETTINGS = {"train": {"checkpoint_minutes": 1e-6}, "generation": {"batch_size": 2}, "mmlu": {"batch_size": 2}}

# In the pipeline's order, with what each leaves. Timings are not compared: they differ from run to run.
STAGES = {
    "prepare": ["data/prepared", "metrics/prepare.json"],
    "train m1": ["models/m1", "metrics/train/m1.json", "metrics/train/m1_loss.csv"],
    "predict_spider base": ["data/predictions/base.jsonl"],
    "predict_spider m1": ["data/predictions/m1.jsonl"],
    "eval_spider base": ["data/verdicts/spider/base.jsonl", "metrics/spider/base.json"],
    "eval_mmlu base": ["data/verdicts/mmlu/base.jsonl", "metrics/mmlu/base.json"],
    "compare": ["metrics/compare.json", "metrics/plots", "reports/report.md"],
}


def command(stage: str) -> list[str]:
    return ["python", "-m", f"stages.{stage.split()[0]}", *stage.split()[1:]]


def contents(folder: Path, outputs: list[str]) -> dict[str, str]:
    """Return {file: sha256} of all that is below `outputs`."""
    found = {}
    for output in outputs:
        path = folder / output
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            if file.is_file():
                found[str(file.relative_to(folder))] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


@pytest.fixture(scope="module")
def reference(repository, micro_model, tmp_path_factory):
    """A project in which every stage has run undisturbed, and how long each took."""
    project = Project.create(repository, tmp_path_factory.mktemp("reference"), micro_model, SETTINGS)
    seconds = {}
    for stage in ["prepare", "train m1", "train m2"]:
        seconds[stage] = timed(project, stage)
    for model in ("base", "m1", "m2"):
        for stage in ("predict_spider", "eval_spider", "eval_mmlu"):
            seconds[f"{stage} {model}"] = timed(project, f"{stage} {model}")
    seconds["compare"] = timed(project, "compare")
    return project, seconds


def timed(project, stage) -> float:
    started = time.monotonic()
    project.run(*command(stage))
    return time.monotonic() - started


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_ends_with_the_same_bytes(reference, stage, tmp_path):
    project, seconds = reference
    folder = tmp_path / "project"
    shutil.copytree(project.folder, folder)
    copy = Project(folder)
    expected = contents(folder, STAGES[stage])
    assert expected
    for output in STAGES[stage]:
        path = folder / output
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    randomness = random.Random(stage)
    killed = 0
    for number in range(KILLS):
        # One moment in each part of its life; later runs, which go on from a journal, are shorter.
        moment = seconds[stage] * (number + randomness.random()) / KILLS
        process = subprocess.Popen(
            command(stage),
            cwd=folder,
            env=copy.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
        # What stands under its final name is whole.
        for name, digest in contents(folder, STAGES[stage]).items():
            assert expected[name] == digest, f"{stage}, kill {number} after {moment:.2f} s: {name} is not whole"
    copy.run(*command(stage))
    assert contents(folder, STAGES[stage]) == expected
    assert killed >= min(6, KILLS)
    leftovers = [path for name in (".journals", ".checkpoints") for path in (folder / name).rglob("*") if path.is_file()]
    assert leftovers == []


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
