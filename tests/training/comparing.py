"""What tests of training compare: an adapter's bytes, and the tokens that the loss counts."""

import os
import subprocess
import sys
from pathlib import Path

from testkit.train_once import model_params
from text2sql.model.adapters import save_adapter
from text2sql.training.examples import IGNORED, TrainingExample


def adapter_bytes(model, folder: Path) -> bytes:
    """Save the adapter of `model` in `folder`, and return the bytes of its weights."""
    save_adapter(model, folder, model_params("somewhere"), "# card\n")
    return (folder / "adapter_model.safetensors").read_bytes()


def counted(example: TrainingExample) -> list[int]:
    return [label for label in example.labels if label != IGNORED]


def once(base: Path, checkpoints: Path, out: Path) -> subprocess.Popen:
    """Start `testkit.train_once` in a process of its own, with another order of Python's hashes."""
    command = [sys.executable, "-m", "testkit.train_once", str(base), str(checkpoints), str(out)]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    return subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2], start_new_session=True)
