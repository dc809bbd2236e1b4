"""What `dvc.lock` says of the last run: which params each stage used, and the checksums of what it read and wrote.

Read without DVC, so that it works in a second and in a copy of some files: what is stale, or not of this run, shows.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from text2sql.core.dependencies import value_at
from text2sql.core.files import read_yaml
from text2sql.core.params_versions import upgraded

# Stages that stand for an item each of a list or table in params.yaml: its key. Of several, it is the first.
LISTED = {
    **dict.fromkeys(("predict_spider", "eval_spider", "sample_spider", "choose_spider", "eval_mmlu"), "models"),
    "sample_train": "sample_train",
    "learn": "learn",
    "eval_mmlu_chat": "mmlu.chat",
    "prepare_also": "data.also",
    "predict_also": "data.also",
    "eval_also": "data.also",
    "export": "export",
    "verify": "export",
}


def read_stages(path: str | Path, own: bool = False) -> dict[str, dict]:
    """Return {stage: its entry} of the lock file `path`. Raises UserError where it is missing or no YAML.

    `own`: it is this project's, as DVC wrote it; one that came from elsewhere is read with more care, and takes longer.
    """
    return read_yaml(path, own=own).get("stages") or {}


def listed(stages: Mapping[str, dict], params: Mapping) -> dict[str, dict]:
    """Return `stages` without those that `params` no longer list: DVC leaves their entries in its lock."""

    known = upgraded(params)

    def is_on(stage: str) -> bool:
        name, _, item = stage.partition("@")
        return name not in LISTED or item.partition("-")[0] in (value_at(known, LISTED[name]) or ())

    return {stage: entry for stage, entry in stages.items() if is_on(stage)}


def changed_params(stages: Mapping[str, Mapping], params: Mapping) -> Iterator[tuple[str, list[str]]]:
    """Yield each stage whose recorded params are not those of `params`, with the keys that differ."""
    for stage, entry in stages.items():
        recorded = entry.get("params", {}).get("params.yaml", {})
        changed = [key for key, value in recorded.items() if value_at(params, key) != value]
        if changed:
            yield stage, changed


def written(stages: Mapping[str, Mapping]) -> dict[str, tuple[str, str]]:
    """Return {path of an output: (the stage that wrote it, its md5)}."""
    return {
        out["path"]: (stage, out.get("md5", "")) for stage, entry in stages.items() for out in entry.get("outs", [])
    }


def read(stages: Mapping[str, Mapping]) -> Iterator[tuple[str, str, str]]:
    """Yield (stage, path of a dependency, its md5 when the stage ran)."""
    for stage, entry in stages.items():
        for dependency in entry.get("deps", []):
            yield stage, dependency["path"], dependency.get("md5", "")


def md5(path: Path, read: Callable[[Path], bytes] = Path.read_bytes, ending: str = "") -> str:
    """Return the checksum of a file or folder as DVC records it: a folder's is that of its sorted list of files.

    A copy whose files were compressed is read by `read`, and their names are taken without `ending`.
    """
    if not path.is_dir():
        return hashlib.md5(read(path), usedforsecurity=False).hexdigest()
    # .dvcignore leaves compiled files out.
    found = (file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    files = {file.relative_to(path).as_posix().removesuffix(ending): file for file in found}
    listing = json.dumps([{"md5": md5(files[name], read), "relpath": name} for name in sorted(files)], sort_keys=True)
    return hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest() + ".dir"
