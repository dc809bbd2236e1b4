"""Result sets: what a finished run leaves under `results/<name>/`.

A set holds params.yaml, dvc.lock, metrics/, timings/, predictions/ and the reports, byte for byte as the run left
them. Its lock says what each stage read and wrote, so that files of two runs never pass for one: `export` refuses them,
and `check` finds them later. Verdicts and adapters are not copied; the lock has their checksums.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.files import atomic_directory, read_yaml
from text2sql.core.params import load_params
from text2sql.core.recipes import RECIPES
from text2sql.report import lock, results_table
from text2sql.report.results_table import MMLU_ALL

RESULTS = Path("results")
README = Path("README.md")

# The parts of a set beside params.yaml and dvc.lock. Of the second run of the same adapters only MMLU is new.
WHOLE = ("metrics", "data/timings", "data/predictions", "reports/report.md", "reports/report.html")
MMLU_ALONE = ("metrics", "data/timings", "reports/report.md")
MMLU_KEYS = ("mmlu.subjects", "mmlu.limit", "mmlu.batch_size")
# Where a person's copy of the benchmarks lies is not part of the experiment; dvc.lock has their checksums.
PLACES = ("data.spider", "data.mmlu")


def export(name: str, mmlu_all: bool = False, replace: bool = False) -> Path:
    """Copy the last run of the project in the current folder to `results/<name>/`; return that folder.

    A set that is replaced leaves its `mmlu_all` to the new one where that is of the same adapters; else a printed line
    says that it is gone. Raises UserError where the files are not of one run with these params, or a set of that name
    is there.
    """
    whole = RESULTS / name
    target = whole / MMLU_ALL if mmlu_all else whole
    if target.exists() and not replace:
        raise UserError(f"{target}: is there already; --replace puts this run in its place")
    if mmlu_all and not whole.is_dir():
        raise UserError(f"{whole}: no such set; export the run on Spider first, then that on all of MMLU")
    parts = MMLU_ALONE if mmlu_all else WHOLE
    _require_relative_places()
    with atomic_directory(target) as folder:
        for path in ("params.yaml", "dvc.lock", *_outputs(lock.read_stages("dvc.lock"), parts)):
            source, copy = Path(path), folder / place(path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, copy)
            elif source.exists():
                shutil.copyfile(source, copy)
        _require_none("this project", problems(folder, parts))
        if mmlu_all:
            _require_none("this project", other_run(whole, folder))
        second = whole / MMLU_ALL
        if not mmlu_all and second.is_dir():
            if found := list(other_run(folder, second)):
                # Of the new set as it will be named, not as it is while it is written.
                print(f"{second}: not kept, of another run: {_listed(found).replace(str(folder), str(whole))}")
            else:
                shutil.copytree(second, folder / MMLU_ALL)
    return target


def check() -> None:
    """Hold every set against its own lock and its recipe. Raises UserError for the first that does not fit."""
    folders = results_table.set_folders(RESULTS)
    for folder in folders:
        _require_none(str(folder), set_problems(folder))
        print(f"{folder}: whole, and its recipe's")
    print(f"{len(folders)} sets")


def place(path: str) -> Path:
    """Return where a set holds what the project has at `path`: `data/` and `reports/` are left out of it."""
    return Path(path.removeprefix("data/").removeprefix("reports/"))


def problems(folder: Path, parts: Sequence[str]) -> Iterator[str]:
    """Say what keeps the set in `folder` from being one whole run.

    Held against its lock: every stage's params, that it read what the stage before it wrote, and the checksums of
    `parts`, each named as the project names it.
    """

    def found(path: str) -> str | None:
        copy = folder / place(path)
        return lock.md5(copy) if copy.exists() else None

    stages = lock.read_stages(folder / "dvc.lock")
    for stage, changed in lock.changed_params(stages, read_yaml(folder / "params.yaml")):
        yield f"stage {stage} ran with another {', '.join(changed)} than params.yaml has"
    written = lock.written(stages)
    for stage, path, checksum in lock.read(stages):
        if path in written and written[path][1] != checksum:
            yield f"stage {stage} ran on an older {path}"
        elif _is_within(path, parts) and path not in written and found(path) not in (None, checksum):
            yield f"{path} is not what stage {stage} read"
    for path, (stage, checksum) in _outputs(stages, parts).items():
        if found(path) is None:
            yield f"{path}: no such file; stage {stage} wrote it"
        elif found(path) != checksum:
            yield f"{path} is not what stage {stage} wrote"
    if "reports/report.md" not in written:
        yield "dvc.lock has no stage compare: `dvc repro` has not come to its end"


def other_run(whole: Path, mmlu_root: Path) -> Iterator[str]:
    """Say what makes the run in `mmlu_root` another experiment than the set `whole`, but for MMLU's questions."""
    yield from differences(whole / "params.yaml", mmlu_root / "params.yaml", (*PLACES, *MMLU_KEYS))
    ours, theirs = (lock.written(lock.read_stages(root / "dvc.lock")) for root in (whole, mmlu_root))
    tuned = load_params(whole / "params.yaml", older=True).model_table.tuned
    for adapter in (f"models/{model}" for model in tuned):
        if ours.get(adapter) != theirs.get(adapter):
            yield f"{adapter} is not the adapter of {whole}"


def differences(one: Path, other: Path, but_for: Sequence[str] = PLACES) -> Iterator[str]:
    """Say each param, `but_for` those named, in which two files of params differ."""
    ours, theirs = (dict(_leaves(load_params(path, older=True).model_dump(by_alias=True))) for path in (one, other))
    for key in dict.fromkeys((*ours, *theirs)):
        # Of the subjects, a mapping, each category is a key.
        named = any(f"{key}.".startswith(f"{name}.") for name in but_for)
        if not named and ours.get(key) != theirs.get(key):
            yield f"{key} is {ours.get(key)!r} in {one} and {theirs.get(key)!r} in {other}"


def set_problems(folder: Path) -> list[str]:
    """Return what is wrong with the set in `folder`, and with its `mmlu_all`: nothing, in one that `export` made."""
    found = list(problems(folder, WHOLE))
    recipe = RECIPES / f"{folder.name}.yaml"
    found += differences(recipe, folder / "params.yaml") if recipe.is_file() else [f"{recipe}: no such recipe"]
    second = folder / MMLU_ALL
    if second.is_dir():
        found += [f"{MMLU_ALL}: {problem}" for problem in (*problems(second, MMLU_ALONE), *other_run(folder, second))]
    return found


def _outputs(stages: Mapping[str, Mapping], parts: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the stages' outputs within `parts`, as `lock.written` has them."""
    return {path: entry for path, entry in lock.written(stages).items() if _is_within(path, parts)}


def _is_within(path: str, parts: Sequence[str]) -> bool:
    return any(f"{path}/".startswith(f"{part}/") for part in parts)


def _require_none(what: str, found: Iterable[str]) -> None:
    found = list(found)
    if found:
        raise UserError(f"{what}: not one whole run: {_listed(found)}")


def _listed(found: Sequence[str]) -> str:
    rest = f"; and {len(found) - 5} more" if len(found) > 5 else ""
    return f"{'; '.join(found[:5])}{rest}"


def _require_relative_places() -> None:
    """A committed set shall not name one machine's folders: params.yaml, dvc.lock and the report hold them."""
    data = load_params().data
    for key, value in (("data.spider", data.spider), ("data.mmlu", data.mmlu)):
        if Path(value).is_absolute():
            raise UserError(f"{key}: got {value}, wanted a path below the project: results name no machine's folders")


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value
