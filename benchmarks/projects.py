"""Whole commands of two builds: a project folder for a checkout of any age, and its stages run as a user types them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NOT_NEEDED = shutil.ignore_patterns(
    ".*", "results", "adapters", "models", "findings", "benchmarks", "__pycache__", "*.egg-info", "tmp"
)


def project_of(checkout: Path, folder: Path, changes: Mapping[str, Any]) -> Path:
    """Copy `checkout` into `folder`, with `changes` to its params ({"mmlu.limit": None}), and prepare its data.

    Params that the checkout's build does not have are left out. Returns the folder. Raises CalledProcessError where
    its `prepare` fails.
    """
    from ruamel.yaml import YAML

    shutil.copytree(checkout, folder, ignore=NOT_NEEDED, symlinks=True)
    yaml, file = YAML(), folder / "params.yaml"
    params = yaml.load(file)
    for name, value in changes.items():
        section, _, key = name.partition(".")
        if key in params.get(section, {}):
            params[section][key] = value
    yaml.dump(params, file)
    run_stage(folder, "prepare")
    return folder


def run_stage(project: Path, stage: str, *arguments: str) -> None:
    """Run a stage in `project`, with the code that lies there. Raises CalledProcessError where it fails."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(project), *packages_on_path()])}
    command = [sys.executable, "-m", f"stages.{stage}", *arguments]
    subprocess.run(command, cwd=project, env=environment, check=True, stdout=subprocess.DEVNULL)


def packages_on_path() -> list[str]:
    """Return what PYTHONPATH names beside checkouts of this project: packages."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [path for path in paths if path and not (Path(path) / "text2sql").is_dir()]
