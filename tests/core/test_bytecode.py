"""Compiled modules are kept where an installation has none, and only there."""

import os
import subprocess
import sys

import pytest

SHOWN = """
import sys
from pathlib import Path
from text2sql.core.bytecode import keep_bytecode
keep_bytecode("some_library", Path(sys.argv[1]))
import some_library.part
print(some_library.part.__cached__, Path(some_library.part.__cached__).is_file())
"""


@pytest.fixture
def start(tmp_path):
    """Starts a process that imports a library of two files, and returns where its bytecode is, and whether it is."""
    library = tmp_path / "site" / "some_library"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text("")
    (library / "part.py").write_text("VALUE = 1\n")

    def run(**environment):
        variables = {**os.environ, **environment}
        variables["PYTHONPATH"] = os.pathsep.join([str(library.parent), os.getcwd()])
        command = [sys.executable, "-c", SHOWN, str(tmp_path / "kept")]
        found = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.split()
        return found[0].startswith(str(tmp_path / "kept")), found[1] == "True"

    return run


def test_bytecode_is_kept_apart_where_none_is_written(start):
    assert start(PYTHONDONTWRITEBYTECODE="1") == (True, True)
    assert start(PYTHONDONTWRITEBYTECODE="1") == (True, True)  # found again


def test_python_keeps_bytecode_itself_where_it_does(start):
    assert start(PYTHONDONTWRITEBYTECODE="") == (False, True)
    assert start(PYTHONDONTWRITEBYTECODE="1") == (False, True)  # what is there is used


def test_a_folder_that_the_user_named_stays(start, tmp_path):
    other = tmp_path / "other"
    assert start(PYTHONDONTWRITEBYTECODE="1", PYTHONPYCACHEPREFIX=str(other)) == (False, False)
