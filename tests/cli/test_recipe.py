"""The command that puts a recipe in place, where it needs more than this machine has."""

import subprocess
import sys


def test_the_paper_stops_with_a_clear_line_where_there_is_no_gpu(repository):
    environment = {"CUDA_VISIBLE_DEVICES": "", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "text2sql", "recipe", "paper", "--check"]
    result = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and "recipes/paper.yaml: valid, but it needs a GPU" in result.stderr
