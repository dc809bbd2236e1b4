"""Who imports whom: the contracts of pyproject.toml hold, and each is seen to fail where it is broken."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

CHECKED = ("text2sql", "stages", "testkit", "benchmarks", "tests")
LIGHT = ("core", "data", "execution", "scoring", "preparation", "comparison", "cli")
# Imports all modules of the rooms, and prints the first of them that brings in a heavy library.
IMPORT_ALL = """
import importlib, pkgutil, sys, text2sql
for room in sys.argv[1:]:
    package = importlib.import_module(f"text2sql.{room}")
    modules = [module.name for module in pkgutil.walk_packages(package.__path__, f"text2sql.{room}.")]
    assert modules, f"{room}: no modules"
    for module in modules:
        importlib.import_module(module)
        heavy = [name for name in ("torch", "transformers") if name in sys.modules]
        if heavy:
            sys.exit(f"text2sql.{room}: {module} imports {' and '.join(heavy)}")
"""


def lint(folder: Path) -> tuple[int, str]:
    """Hold the packages in `folder` to the contracts; return the exit code and what is said, on one line."""
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint_imports, "--no-cache", "--no-logo"], cwd=folder, capture_output=True, text=True)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def import_all(folder: Path, path: Path, rooms: Sequence[str] = LIGHT) -> str:
    """Import the modules of `rooms` in `folder` with `path` first in Python's path; return what is wrong."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *rooms],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
    )
    return done.stderr


def copy_packages(repository: Path, folder: Path) -> Path:
    """Copy all packages that the contracts name to `folder`; return it."""
    for name in CHECKED:
        shutil.copytree(repository / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    shutil.copyfile(repository / "pyproject.toml", folder / "pyproject.toml")
    return folder


@pytest.fixture
def packages(repository, tmp_path) -> Path:
    return copy_packages(repository, tmp_path)


def test_imports_keep_to_the_layers(repository):
    code, said = lint(repository)
    assert code == 0, said


BROKEN = [
    ("text2sql/core/files.py", "from text2sql.report import html", "rooms", "text2sql.report.html"),
    ("text2sql/training/fine_tune.py", "import text2sql.evaluation.mmlu", "rooms", "text2sql.evaluation.mmlu"),
    ("text2sql/evaluation/mmlu.py", "import text2sql.training.fine_tune", "rooms", "text2sql.training.fine_tune"),
    ("text2sql/core/files.py", "import testkit.project", "product", "testkit.project"),
    ("text2sql/report/curve.py", "import text2sql.experiments.curve", "rooms", "text2sql.experiments.curve"),
    ("text2sql/cli/score.py", "from stages import compare", "product", "stages.compare"),
    ("stages/train.py", "from stages import prepare", "stages", "stages.prepare"),
    ("testkit/warm.py", "import tests.conftest", "outside", "tests.conftest"),
    ("benchmarks/machine.py", "import tests.conftest", "outside", "tests.conftest"),
    ("tests/conftest.py", "import benchmarks.machine", "benchmarks", "benchmarks.machine"),
    ("tests/data/test_sample.py", "import tests.model.test_language_model", "tests", "test_language_model"),
]


@pytest.fixture(scope="module")
def broken(repository, tmp_path_factory):
    """What is said of a copy with all of these imports, and the line of each."""
    folder = copy_packages(repository, tmp_path_factory.mktemp("broken"))
    lines = []
    for file, line, *_ in BROKEN:
        path = folder / file
        lines.append(len(path.read_text(encoding="utf-8").splitlines()) + 4)
        with path.open("a", encoding="utf-8") as module:
            module.write(f"\n\ndef later():\n    {line}\n")
    code, said = lint(folder)
    assert code == 1
    return said, lines


@pytest.mark.parametrize("number", range(len(BROKEN)), ids=[f"{file} {line}" for file, line, *_ in BROKEN])
def test_an_import_against_the_layers_is_named(broken, repository, number):
    said, lines = broken
    file, _, contract, arrow = BROKEN[number]
    contracts = (repository / "pyproject.toml").read_text(encoding="utf-8")
    name = contracts.partition(f'id = "{contract}"\nname = "')[2].partition('"')[0]
    assert f"{name} BROKEN" in said
    importer = file.removesuffix(".py").replace("/", ".")
    assert re.search(rf"{importer} -> [\w.]*{arrow} \([^)]*\bl\.{lines[number]}\b", said), said


def test_a_room_without_a_place_among_the_layers_is_named(packages):
    (packages / "text2sql/attic").mkdir()
    (packages / "text2sql/attic/__init__.py").touch()
    code, said = lint(packages)
    assert code == 1 and "attic" in said


def test_rooms_that_need_no_model_import_no_model_library(repository):
    assert import_all(repository, repository) == ""


@pytest.mark.parametrize(
    ("module", "library"), [("core.startup", "torch"), ("comparison.compare", "transformers"), ("cli.ask", "torch")]
)
def test_a_heavy_import_is_named(packages, tmp_path_factory, module, library):
    stub = tmp_path_factory.mktemp("stub")
    (stub / f"{library}.py").touch()  # the name alone matters, and the real one takes seconds
    path = packages / "text2sql" / f"{module.replace('.', '/')}.py"
    path.write_text(f"import {library}\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert f"text2sql.{module} imports {library}" in import_all(packages, stub, [module.partition(".")[0]])
