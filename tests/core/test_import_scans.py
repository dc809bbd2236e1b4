"""transformers imports faster with what an earlier start kept, and is the same library."""

import json
import os
import subprocess
import sys

import pytest

from text2sql.core.import_scans import kept_packages

# Imports transformers as a stage does; prints how often its models' files were opened, and what it then is.
SHOWN = """
import json, sys
from pathlib import Path
opened = []
sys.addaudithook(lambda event, args: event in ("open", "os.scandir") and opened.append(str(args[0])))
from text2sql.core.startup import load_ahead, quick_imports
ahead = load_ahead()
with quick_imports("transformers"):
    import transformers.modeling_utils
    from transformers.utils.import_utils import define_import_structure
models = Path(transformers.__file__).parent / "models"
read = sum(str(models) in path and not path.endswith(".pyc") for path in opened)
found = {"read": read, "scipy": "scipy.optimize" in sys.modules, "ahead": ahead.result()}
from transformers.loss import loss_for_object_detection
found["assigned"] = [list(map(int, side)) for side in loss_for_object_detection.linear_sum_assignment([[4, 1], [2, 9]])]
import scipy.optimize
structure = define_import_structure(models, prefix="models")
usual = define_import_structure.__wrapped__(models, prefix="models")
found["same"] = structure == usual and list(structure) == list(usual)
found["lowest"] = float(scipy.optimize.minimize_scalar(lambda x: (x - 2) ** 2).x)
print(json.dumps(found))
"""


def test_packages_are_asked_for_again_where_one_was_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(sys, "path", [str(site)])
    assert kept_packages(lambda: {"one": ["one"]}) == {"one": ["one"]}
    (site / "module.py").touch()
    assert kept_packages(lambda: {}) == {"one": ["one"]}  # no package
    (site / "two-1.0.dist-info").mkdir()
    assert kept_packages(lambda: {"two": ["two"]}) == {"two": ["two"]}


def test_what_else_is_wanted_of_a_module_for_later_comes_from_itself():
    script = """
from text2sql.core.import_scans import imported_later
with imported_later():
    from scipy.optimize import linear_sum_assignment
    import sys
    before = "scipy" in sys.modules
    from scipy.optimize._linesearch import line_search_wolfe2
    from scipy.optimize import minimize_scalar
import scipy.optimize
print(before, scipy.optimize.minimize_scalar is minimize_scalar, scipy.optimize._linesearch is not None)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True"]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts such a process with a cache of its own, and returns what it printed."""
    folder = tmp_path_factory.mktemp("cache")

    def run() -> dict:
        environment = {**os.environ, "XDG_CACHE_HOME": str(folder)}
        done = subprocess.run([sys.executable, "-c", SHOWN], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_a_second_start_reads_none_of_the_models_files_and_has_the_same_library(start):
    first, second = start(), start()
    assert first["read"] > 1000 > 50 > second["read"]
    for found in (first, second):
        assert found["same"]
        assert found["ahead"] is None
        assert not found["scipy"]  # until one of its functions is called
        assert found["assigned"] == [[0, 1], [1, 0]]
        assert found["lowest"] == pytest.approx(2)
