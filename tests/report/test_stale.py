"""What no longer belongs to the last run: said in the comment, and refused by the gate."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from text2sql.cli.moved import main as moved
from text2sql.core.files import write_json
from text2sql.report.lock import listed, md5
from text2sql.report.stale import changed_code, stale_parts


class TestStale:
    """Metrics of another run than the committed params' are called that."""

    LOCK = (
        "schema: '2.0'\nstages:\n  train_m1:\n    cmd: x\n    params:\n      params.yaml:\n"
        "        train.lr: {lr}\n        train.lora.target_modules:\n        - q_proj\n        - k_proj\n"
        "    outs:\n    - path: metrics/train/m1.json\n      hash: md5\n      md5: {md5}\n"
        "    - path: models/m1\n      hash: md5\n      md5: 0.dir\n"
    )

    @pytest.fixture
    def lock(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("params.yaml").write_text("train:\n  lr: 2e-08\n  lora:\n    target_modules: [q_proj, k_proj]\n")
        write_json("metrics/train/m1.json", {"steps": 3})

        written = md5(Path("metrics/train/m1.json"))

        def write(lr="2e-8", md5=written):
            Path("dvc.lock").write_text(self.LOCK.format(lr=lr, md5=md5))
            return list(stale_parts(Path("dvc.lock")))

        return write

    def test_nothing_to_say(self, lock):
        assert lock() == []
        assert list(stale_parts(Path("no.lock"))) == []

    def test_another_param(self, lock):
        assert lock(lr="0.002") == ["stage train_m1 last ran with another train.lr; `dvc repro` runs it again"]

    def test_an_edited_metrics_file(self, lock):
        (problem,) = lock(md5="0" * 32)
        assert problem.startswith("metrics/train/m1.json is not what stage train_m1 wrote")


@pytest.fixture
def clone(repository, tmp_path):
    """What a gate in a fresh clone reads, with params and metrics as dvc.lock has them."""
    from ruamel.yaml import YAML

    for name in ("params.yaml", "dvc.lock"):
        shutil.copy(repository / name, tmp_path)
    shutil.copytree(repository / "metrics", tmp_path / "metrics")
    yaml = YAML()
    locked = yaml.load(tmp_path / "dvc.lock")
    params = yaml.load(tmp_path / "params.yaml")
    for entry in locked["stages"].values():
        recorded = entry.get("params", {}).get("params.yaml", {})
        for key in recorded:
            value = params
            for part in key.split("."):
                value = value[part] if part in value else None
                if value is None:
                    break
            recorded[key] = value
        for out in entry["outs"]:
            if out["path"].startswith("metrics"):
                out["md5"] = md5(tmp_path / out["path"])
    yaml.dump(locked, tmp_path / "dvc.lock")
    return tmp_path


def gate(clone, repository):
    return subprocess.run(
        [sys.executable, "-m", "stages.compare", "--gate"],
        cwd=clone, env={"PYTHONPATH": str(repository), "PATH": ""}, capture_output=True, text=True,
    )  # fmt: skip


class TestGate:
    def test_it_passes_where_all_is_of_one_run(self, clone, repository):
        done = gate(clone, repository)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "stale" not in done.stdout

    def test_another_rate_and_nothing_rerun(self, clone, repository):
        params = clone / "params.yaml"
        params.write_text(params.read_text().replace("lr: 2e-4", "lr: 3e-3"))
        done = gate(clone, repository)
        assert done.returncode == 1
        assert "stale: stage train_m1 last ran with another train.lr; `dvc repro` runs it again\n" in done.stdout
        assert done.stdout.endswith("gate: stale\n")

    def test_an_edited_accuracy(self, clone, repository):
        metrics = clone / "metrics/spider/m1.json"
        metrics.write_text(re.sub(r'("execution_accuracy"): [0-9.]+', r"\1: 0.9", metrics.read_text(), count=1))
        done = gate(clone, repository)
        assert done.returncode == 1
        assert "stale: metrics/spider/m1.json is not what stage eval_spider@m1 wrote" in done.stdout

    def test_code_alone_fails_nothing(self, clone, repository):
        (clone / "text2sql/core").mkdir(parents=True)
        (clone / "text2sql/core/errors.py").write_text("# another\n")
        assert gate(clone, repository).returncode == 0


def test_stages_of_models_that_are_no_longer_there_do_not_count():
    """DVC leaves their entries in its lock. A file of the first form names no models: it had Models 1 and 2."""
    names = (
        "train_m1",
        "sample_train@m1",
        "learn@m3",
        "predict_spider@m1",
        "predict_spider@m3",
        "eval_mmlu@m3",
        "compare",
    )
    stages = {name: {} for name in names}
    models = {"base": {}, "m1": {}}
    without = {"version": 2, "models": models, "sample_train": {}, "learn": {}}
    assert list(listed(stages, without)) == ["train_m1", "predict_spider@m1", "compare"]
    added = {"models": {**models, "m3": {}}, "sample_train": {"m1": {}}, "learn": {"m3": {}}}
    assert list(listed(stages, without | added)) == list(names)
    assert list(listed(stages, {"train": {}})) == ["train_m1", "predict_spider@m1", "compare"]


def test_changed_code_is_named_and_compiled_files_are_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("text2sql/core/a.py", "text2sql/data/b.py", "stages/train.py", "data/raw.csv"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("1\n")
    deps = ("text2sql/core", "text2sql/data", "stages/train.py", "data/raw.csv")
    entries = "".join(f"    - path: {name}\n      md5: {md5(Path(name))}\n" for name in deps)
    lock = Path("dvc.lock")
    old = "  eval_mmlu_chat@m1:\n    cmd: x\n    deps:\n    - path: stages/train.py\n      md5: 0\n"
    lock.write_text(f"schema: '2.0'\nstages:\n  train_m1:\n    cmd: x\n    deps:\n{entries}{old}")
    Path("params.yaml").write_text("mmlu:\n  chat: []\n")  # the stage is on the list no longer
    Path("text2sql/core/__pycache__").mkdir()
    Path("text2sql/core/__pycache__/a.pyc").write_text("compiled")
    assert changed_code(lock) == []
    for name in ("text2sql/data/b.py", "data/raw.csv"):
        Path(name).write_text("2\n")
    Path("stages/train.py").unlink()
    assert changed_code(lock) == ["stages/train.py", "text2sql/data"]


class TestMoved:
    """The weekly run's question: did an accuracy leave the interval that git has?"""

    METRICS = {"accuracy": 0.25, "accuracy_low": 0.2, "accuracy_high": 0.3, "total": 150}

    @pytest.fixture
    def committed(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write_json("metrics/mmlu/m1.json", self.METRICS)
        who = ("-c", "user.name=Ana", "-c", "user.email=ana@example.com")
        for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "metrics"]):
            subprocess.run(["git", *command], check=True)

    @pytest.mark.parametrize(("accuracy", "code"), [(0.25, 0), (0.2, 0), (0.3, 0), (0.199, 1), (0.301, 1)])
    def test_within_and_beyond(self, committed, capsys, accuracy, code):
        write_json("metrics/mmlu/m1.json", self.METRICS | {"accuracy": accuracy})
        assert moved(["--since", "HEAD"]) == code
        printed = capsys.readouterr().out
        assert (f"metrics/mmlu/m1.json: accuracy: {accuracy}, before 0.25 (0.2 to 0.3)" in printed) == bool(code)

    def test_an_accuracy_that_is_gone_has_moved(self, committed):
        write_json("metrics/mmlu/m1.json", {"total": 150})
        assert moved(["--since", "HEAD"]) == 1
