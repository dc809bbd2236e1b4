"""The commands of README and docs that are marked to run do run, one after the other, as a reader types them.

What a reader brings lies in the project's folder: the sample's questions stand in for Spider and Spider-DK, their gold
queries for predictions.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from testkit.documents import MICRO, RUN, Fence, documents, fences
from testkit.project import Project

pytestmark = pytest.mark.long

REPOSITORY = Path(__file__).parents[2]
PAGES = [path.relative_to(REPOSITORY).as_posix() for path in documents(REPOSITORY)]
# Beside what a project has: what `make` reads. The environment is this one: nothing is installed.
MADE_BY = ("Makefile", "pyproject.toml", "requirements", "recipes")
# The tests may themselves be run by a make, with options of its own.
SHELL = ("env", "-u", "MAKEFLAGS", "-u", "MAKELEVEL", "bash", "-ec")
# A random model's answer is no SQL, and `ask` ends with 1 where it does not run.
MAY_END_WITH_1 = "text2sql ask"


def pages_with(mark: str) -> list[str]:
    return [page for page in PAGES if any(fence.mark == mark for fence in fences(REPOSITORY / page, page))]


def put_what_a_reader_has(folder: Path) -> None:
    """Leave Spider and Spider-DK, predictions and answers in `folder`, and an environment that is installed."""
    sample = REPOSITORY / "data/sample/spider"
    shutil.make_archive(str(folder / "spider_data"), "zip", sample)
    shutil.copytree(sample / "database", folder / "spider-dk/database")
    dev = json.loads((sample / "dev.json").read_text(encoding="utf-8"))
    dk = [{"db_id": one["db_id"], "question": one["question"], "query": one["query"], "type": "1"} for one in dev]
    (folder / "spider-dk/Spider-DK.json").write_text(json.dumps([*dk[:-1], dk[-1] | {"query": "SELECT FORM nothing"}]))
    golds = [" ".join(one["query"].split()) for one in dev]
    (folder / "predictions.sql").write_text("".join(f"{gold}\n" for gold in golds))
    answers = ({"raw": f"Sure:\n\n{gold}\n", "sql": ""} for gold in golds)
    (folder / "answers.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    (folder / ".venv").mkdir()
    (folder / ".venv/installed").touch()


@pytest.fixture
def micro_project(finished_project, tmp_path):
    """A project whose pipeline has run with the micro model, as `make` needs it."""
    project = finished_project.copy(tmp_path / "project")
    for name in MADE_BY:
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, project.folder / name)
    project.commit("what make reads")
    put_what_a_reader_has(project.folder)
    return project


@pytest.fixture(scope="module")
def clone(warm, tmp_path_factory):
    """A copy of what git tracks here, or would, committed."""
    project = Project(tmp_path_factory.mktemp("clone") / "repository", python=warm)
    listed = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (REPOSITORY / name).is_file():
            (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, project.folder / name)
    project.commit("the repository")
    put_what_a_reader_has(project.folder)
    return project


def shown_after(page: str, fence: Fence) -> str:
    """Return the text that a page shows after the commands of `fence`."""
    found = fences(REPOSITORY / page, page)
    following = found[found.index(fence) + 1]
    assert following.kind == "text", following.place
    return following.text


def run(project: Project, page: str, mark: str) -> None:
    """Run the commands of a page that carry `mark`."""
    for fence in fences(REPOSITORY / page, page):
        for command in fence.commands if fence.mark == mark else ():
            line = ("python", "-c", command) if fence.kind == "python" else (*SHELL, command)
            done = project.run(*line, check=False, PYTHONPATH=str(project.folder))
            allowed = (0, 1) if command.startswith(MAY_END_WITH_1) else (0,)
            assert done.returncode in allowed, f"{fence.place}: {command}\n{done.stdout}\n{done.stderr}"
            assert "Traceback" not in done.stderr, f"{fence.place}: {command}\n{done.stderr}"
            if command.startswith("text2sql init"):  # the page shows what it prints
                assert shown_after(page, fence) == done.stdout, f"{fence.place}: {command}"
            if command.startswith("text2sql score"):  # gold queries as predictions
                assert re.search(r"^all +\d+ +100.00 %", done.stdout, re.MULTILINE), f"{fence.place}: {command}"


@pytest.mark.parametrize("page", pages_with(RUN))
def test_commands_that_need_no_model_run(clone, page):
    run(clone, page, RUN)


@pytest.mark.parametrize("page", pages_with(MICRO))
def test_commands_with_a_model_run_with_the_micro_model(micro_project, page):
    run(micro_project, page, MICRO)


def test_something_runs():
    assert {"docs/scoring.md", "docs/results.md"} <= set(pages_with(RUN))
    assert {"README.md", "docs/own-data.md"} <= set(pages_with(MICRO))
