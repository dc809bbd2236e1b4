"""After a run: one line on which committed results changed, with a command that does put them back."""

import os
import subprocess
import sys

import pytest

GIT = ["git", "-c", "user.name=Ana", "-c", "user.email=ana@example.com"]
METRICS = ("compare.json", "spider/base.json", "spider/m1.json")


@pytest.fixture
def project(tmp_path):
    """A git repository with committed metrics, a lock and params."""
    for name in ("dvc.lock", "params.yaml", *(f"metrics/{name}" for name in METRICS)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "results"]):
        subprocess.run([*GIT, *command], cwd=tmp_path, check=True)
    return tmp_path


@pytest.fixture
def said(repository):
    """Return what the command prints in a folder."""

    def run(folder, **environment):
        done = subprocess.run(
            [sys.executable, "-m", "text2sql", "changed"],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(repository), **environment},
            capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


def change(project, *names):
    for name in names:
        (project / name).write_text("after\n")


def test_nothing_is_said_where_no_result_changed(project, said):
    change(project, "params.yaml")
    (project / "metrics/new.json").touch()
    assert said(project) == ""


def test_one_line_names_the_files_and_its_command_puts_them_back(project, said):
    change(project, "dvc.lock", "metrics/spider/m1.json", "params.yaml")
    line = said(project)
    assert line.startswith("Changed since the last commit: dvc.lock, metrics/spider/m1.json. ")
    assert line.count("\n") == 1
    command = line.rpartition("put them back: ")[2].split()
    subprocess.run(command, cwd=project, check=True)
    assert said(project) == ""
    assert (project / "metrics/spider/m1.json").read_text() == "before\n"
    assert (project / "params.yaml").read_text() == "after\n"


def test_many_files_are_counted_staged_ones_and_missing_ones_too(project, said):
    change(project, *(f"metrics/{name}" for name in METRICS[:2]))
    subprocess.run([*GIT, "add", "-A"], cwd=project, check=True)
    (project / "metrics" / METRICS[2]).unlink()
    line = said(project)
    assert line.startswith("Changed since the last commit: 3 files in metrics/. ")
    subprocess.run(line.rpartition("put them back: ")[2].split(), cwd=project, check=True)
    assert said(project) == ""


def test_a_project_inside_a_larger_repository_is_looked_at_alone(project, said):
    inner = project / "inner"
    inner.mkdir()
    (inner / "dvc.lock").write_text("before\n")
    subprocess.run([*GIT, "add", "-A"], cwd=project, check=True)
    subprocess.run([*GIT, "commit", "-qm", "inner"], cwd=project, check=True)
    change(project, "dvc.lock")
    assert said(inner) == ""
    change(inner, "dvc.lock")
    assert said(inner).startswith("Changed since the last commit: dvc.lock. ")


@pytest.mark.parametrize("missing", ["repository", "commit", "git"])
def test_without_git_nothing_is_said(tmp_path, said, missing):
    (tmp_path / "dvc.lock").touch()
    if missing == "commit":
        subprocess.run([*GIT, "init", "-q"], cwd=tmp_path, check=True)
    assert said(tmp_path, **({"PATH": ""} if missing == "git" else {})) == ""
