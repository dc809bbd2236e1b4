"""Who imports whom: the contracts of pyproject.toml hold, and each is seen to fail where it is broken."""

import os
import shutil
import subprocess
import sys
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


def import_all(folder: Path, path: Path) -> str:
    """Import the light rooms' modules in `folder` with `path` first in Python's path; return what is wrong."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *LIGHT],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
    )
    return done.stderr


@pytest.fixture
def packages(repository, tmp_path) -> Path:
    """A folder with a copy of all packages that the contracts name."""
    for name in CHECKED:
        shutil.copytree(repository / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    shutil.copyfile(repository / "pyproject.toml", tmp_path / "pyproject.toml")
    return tmp_path


def test_imports_keep_to_the_layers(repository):
    code, said = lint(repository)
    assert code == 0, said


@pytest.mark.parametrize(
    ("file", "line", "contract", "arrow"),
    [
        ("text2sql/core/files.py", "from text2sql.report import html", "rooms", "text2sql.report.html"),
        ("text2sql/training/fine_tune.py", "import text2sql.evaluation.mmlu", "rooms", "text2sql.evaluation.mmlu"),
        ("text2sql/evaluation/mmlu.py", "import text2sql.training.fine_tune", "rooms", "text2sql.training.fine_tune"),
        ("text2sql/core/files.py", "import testkit.project", "product", "testkit.project"),
        ("text2sql/cli/score.py", "from stages import compare", "product", "stages.compare"),
        ("stages/train.py", "from stages import prepare", "stages", "stages.prepare"),
        ("testkit/warm.py", "import tests.conftest", "outside", "tests.conftest"),
        ("benchmarks/machine.py", "import tests.conftest", "outside", "tests.conftest"),
        ("tests/conftest.py", "import benchmarks.machine", "benchmarks", "benchmarks.machine"),
        ("tests/data/test_sample.py", "import tests.model.test_language_model", "tests", "test_language_model"),
    ],
)
def test_an_import_against_the_layers_is_named(packages, file, line, contract, arrow):
    path = packages / file
    number = len(path.read_text(encoding="utf-8").splitlines()) + 4
    with path.open("a", encoding="utf-8") as module:
        module.write(f"\n\ndef later():\n    {line}\n")
    contracts = (packages / "pyproject.toml").read_text(encoding="utf-8")
    name = contracts.partition(f'id = "{contract}"\nname = "')[2].partition('"')[0]
    code, said = lint(packages)
    assert code == 1
    assert f"{name} BROKEN" in said
    importer = file.removesuffix(".py").replace("/", ".")
    assert f"{importer} -> " in said and arrow in said and f"(l.{number})" in said


def test_a_room_without_a_place_among_the_layers_is_named(packages):
    (packages / "text2sql/attic").mkdir()
    (packages / "text2sql/attic/__init__.py").touch()
    code, said = lint(packages)
    assert code == 1 and "attic" in said


def test_rooms_that_need_no_model_import_no_model_library(repository):
    assert import_all(repository, repository) == ""


@pytest.mark.parametrize(
    ("module", "library"), [("core.timing", "torch"), ("comparison.compare", "transformers"), ("cli.ask", "torch")]
)
def test_a_heavy_import_is_named(packages, tmp_path_factory, module, library):
    stub = tmp_path_factory.mktemp("stub")
    (stub / f"{library}.py").touch()  # the name alone matters, and the real one takes seconds
    path = packages / "text2sql" / f"{module.replace('.', '/')}.py"
    path.write_text(f"import {library}\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert f"text2sql.{module} imports {library}" in import_all(packages, stub)
