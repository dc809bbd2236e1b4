"""What the tests of result sets share."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def project(finished_project, tmp_path, monkeypatch):
    """A copy of a real run in the current folder, with a recipe of its params."""
    copy = finished_project.copy(tmp_path / "project")
    monkeypatch.chdir(copy.folder)
    Path("recipes").mkdir()
    shutil.copy("params.yaml", "recipes/micro.yaml")
    return copy
