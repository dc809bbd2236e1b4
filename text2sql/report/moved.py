"""Hold a new run's accuracies against those that git has: which lies outside the interval that was reported?

The weekly run of CI asks this: code, libraries and machine may move an accuracy within its 95 % interval (Wilson's, as
metrics/spider/ and metrics/mmlu/ carry it), and no further.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.files import read_json

FOLDERS = ("metrics/spider", "metrics/mmlu")


def moved_accuracies(revision: str) -> tuple[list[str], int]:
    """Return a line for each accuracy beyond the interval that git has at `revision`, and how many files were read.

    Raises UserError where there are no metrics, or git has none of that name.
    """
    paths = sorted(path.as_posix() for folder in FOLDERS for path in Path(folder).glob("*.json"))
    if not paths:
        raise UserError(f"{', '.join(FOLDERS)}: no metrics here; `dvc repro` writes them")
    moved = [f"{path}: {line}" for path in paths for line in beyond_interval(read_at(revision, path), read_json(path))]
    return moved, len(paths)


def beyond_interval(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Say each top-level accuracy of `now` that lies outside the interval of `before`: shares from 0 to 1."""
    for key, low in before.items():
        measure = key.removesuffix("_low")
        if measure == key:
            continue
        high, value = before[f"{measure}_high"], now.get(measure)
        if value is None or not low <= value <= high:
            yield f"{measure}: {value}, before {before[measure]} ({low} to {high})"


def read_at(revision: str, path: str) -> Any:
    """Return the JSON that git has for `path` at `revision`. Raises UserError where it has none."""
    found = subprocess.run(["git", "show", "--end-of-options", f"{revision}:./{path}"], capture_output=True, text=True)
    if found.returncode:
        raise UserError(f"{revision}: {path}: {' '.join(found.stderr.split())}")
    return json.loads(found.stdout)
