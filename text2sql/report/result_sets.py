"""Result sets: what finished runs leave under `results/<name>/`.

A set is one whole run: params.yaml, dvc.lock, metrics/, timings/, report.md as the run left them, predictions/,
samples/, log_odds/ and chosen/ where there are any, and choices.csv.gz (each model's letter for each question of MMLU)
compressed. Beside it may lie

    mmlu_all/               the same adapters on all of MMLU
    also/                   the same adapters on further evaluation sets (`data.also`), with the predictions
    seeds/<seed>/           Model 1 trained again with another train.seed: its metrics alone
    seeds/<seed>/mmlu_all/  that adapter on all of MMLU

Each folder has its own params and lock. The lock says what each stage read and wrote, so that files of two runs never
pass for one: `export` refuses them, and `check` finds them later. Verdicts, adapters and the HTML report are not
copied; the lock has their checksums, and `text2sql results html` makes the page again. Of predictions on further
evaluation sets the answers alone are kept: questions and golds are others' data.
"""

import functools
import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.files import atomic_directory, iter_jsonl, read_json, read_yaml
from text2sql.core.params import load_params
from text2sql.core.recipes import RECIPES
from text2sql.report import lock
from text2sql.report.set_files import (
    CHOICE,
    CHOICES,
    answers_problem,
    choice_problems,
    read_choices,
    read_gzip,
    write_answers,
    write_choices,
    write_gzip,
)

RESULTS = Path("results")
MMLU_ALL = "mmlu_all"
ALSO = "also"
SEEDS = "seeds"
PREDICTIONS = "data/predictions"
SAMPLES, LOG_ODDS, CHOSEN = "data/samples", "data/log_odds", "data/chosen"
ALSO_PREDICTIONS = f"{PREDICTIONS}/also"
COMPRESSED = (PREDICTIONS, SAMPLES, LOG_ODDS, CHOSEN)
EMPTY = hashlib.md5(b"", usedforsecurity=False).hexdigest()  # as DVC has it of an empty file
VERDICTS = "data/verdicts/mmlu"
MMLU_KEYS = tuple(f"mmlu.{key}" for key in ("subjects", "limit", "batch_size", "rotations", "chat", "chat_limit"))
SEED_KEYS = ("train.seed",)
# Where a person's copy of the benchmarks lies is not part of the experiment; dvc.lock has their checksums.
PLACES = ("data.spider", "data.mmlu")


@dataclass(frozen=True)
class Kind:
    """What a folder of a set holds of its run.

    parts: the outputs that are copied, as the project names them. stages: those that have to be of one run; None for
    all. choices: whether it keeps the models' choices on MMLU.
    """

    parts: tuple[str, ...]
    stages: tuple[str, ...] | None = None
    choices: bool = True


WHOLE = Kind(("metrics", "data/timings", PREDICTIONS, SAMPLES, LOG_ODDS, CHOSEN, "reports/report.md"))
# Of the second run of the same adapters only MMLU is new.
MMLU_ALONE = Kind(("metrics/mmlu", "metrics/mmlu_chat", "metrics/compare.json", "data/timings", "reports/report.md"))
# Of a run that asked further evaluation sets, what is new: they stand against the same verdicts on the dev split.
ALSO_ALONE = Kind(
    ("metrics/also", ALSO_PREDICTIONS, "metrics/compare.json", "data/timings", "reports/report.md"), choices=False
)
SEED = Kind(
    ("metrics/train/m1.json", "metrics/spider/m1.json", "metrics/mmlu/m1.json"),
    ("prepare", "train_m1", "predict_spider@m1", "eval_spider@m1", "eval_mmlu@m1"),
    choices=False,
)
SEED_MMLU = Kind(("metrics/mmlu/m1.json",), ("prepare", "train_m1", "eval_mmlu@m1"), choices=False)


def kind_of(inner: Path) -> Kind:
    """Return the kind of the folder `inner` of a set, named from the set's own: `.` is that itself."""
    if inner.parts[:1] == (SEEDS,):
        return SEED_MMLU if inner.name == MMLU_ALL else SEED
    return {MMLU_ALL: MMLU_ALONE, ALSO: ALSO_ALONE}.get(inner.name, WHOLE)


def set_folders(results: Path) -> list[Path]:
    """Return the folders of the sets below `results`."""
    return sorted(path.parent for path in results.glob("*/params.yaml"))


def inner_folders(whole: Path) -> list[Path]:
    """Return the folders of further runs within a set, named from it: those that others are held against first."""
    patterns = (MMLU_ALL, ALSO, f"{SEEDS}/*", f"{SEEDS}/*/{MMLU_ALL}")
    return [path.relative_to(whole) for pattern in patterns for path in sorted(whole.glob(pattern)) if path.is_dir()]


# ---------------------------------------------------------------- export


def export(
    name: str, mmlu_all: bool = False, seed_run: bool = False, replace: bool = False, also: bool = False
) -> Path:
    """Copy the last run of the project in the current folder into `results/<name>/`; return the folder it is in.

    Runs within a set that is replaced stay where they belong to the new one too; else a printed line says that they
    are gone. Raises UserError where the files are not of one run with these params, do not belong to the set, or
    are there already.
    """
    whole = RESULTS / name
    inner = Path(SEEDS, str(load_params().train.seed)) if seed_run else Path()
    inner = inner / MMLU_ALL if mmlu_all else inner
    inner = Path(ALSO) if also else inner
    target = whole / inner
    if target.exists() and not replace:
        raise UserError(f"{target}: is there already; --replace puts this run in its place")
    _require_before(whole, inner)
    _require_relative_places()
    with atomic_directory(target) as folder:
        _copy_run(folder, kind_of(inner))
        found = list(problems(folder, kind_of(inner)))
        _require_none("this project", found and [*found, *_left_over()])
        _require_none("this project", misfits(whole, inner, folder))
        for further in inner_folders(target):
            if inner.parts:
                print(f"{target / further}: not kept, of another run; export it again")
            else:
                _keep(whole, folder, further)
    return target


def _left_over() -> Iterator[str]:
    """Say what lies in the folders that `compare` read, though no stage of these params wrote it.

    DVC leaves the outputs of a stage that is gone, as of a set of `data.also` that was taken away.
    """
    stages = lock.listed(lock.read_stages("dvc.lock"), read_yaml("params.yaml"))
    written = tuple(lock.written(stages))
    folders = sorted({path for stage, path, _ in lock.read(stages) if stage == "compare" and path.startswith("data/")})
    files = [file.as_posix() for folder in folders for file in sorted(Path(folder).rglob("*")) if file.is_file()]
    gone = [file for file in files if not _is_within(file, written)]
    if gone:
        more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
        yield f"no stage of params.yaml writes {gone[0]}{more}: remove what no stage writes, then `dvc repro`"


def _require_before(whole: Path, inner: Path) -> None:
    """Raise UserError unless the runs are there that the one at `inner` goes beside."""
    needed = {Path(): "the whole run"} if inner.parts else {}
    if kind_of(inner) is SEED_MMLU:
        needed |= {Path(MMLU_ALL): "that on all of MMLU", inner.parent: "this seed's run"}
    for folder, what in needed.items():
        if not (whole / folder).is_dir():
            raise UserError(f"{whole / folder}: no such set; export {what} first")


def _copy_run(folder: Path, kind: Kind) -> None:
    stages = lock.listed(lock.read_stages("dvc.lock"), read_yaml("params.yaml"))
    for path in ("params.yaml", "dvc.lock", *_outputs(_counted(stages, kind), kind.parts)):
        source, copy = Path(path), folder / place(path)
        if _is_within(path, COMPRESSED) and source.is_file() and not source.stat().st_size:
            continue  # there was nothing to choose among
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy)
        elif source.exists() and _is_within(path, (ALSO_PREDICTIONS,)):
            _require_written(source, stages)
            write_answers(copy.with_name(f"{copy.name}.gz"), source)
        elif source.exists() and _is_within(path, COMPRESSED):
            write_gzip(copy.with_name(f"{copy.name}.gz"), source.read_bytes())
        elif source.exists():
            shutil.copyfile(source, copy)
    if kind.choices:
        files = {model: Path(VERDICTS, f"{model}.jsonl") for model in load_params().model_table.names}
        for file in files.values():
            _require_written(file, stages)
        write_choices(folder / CHOICES, {model: iter_jsonl(file, CHOICE) for model, file in files.items()})


def _keep(before: Path, whole: Path, inner: Path) -> None:
    """Copy a run within the set `before` into `whole`, which takes its place, unless it does not belong there."""
    copy = whole / inner
    if inner.name == MMLU_ALL and not copy.parent.is_dir():
        found = ["the run that it belongs to is not there"]
    else:
        shutil.copytree(before / inner, copy, ignore=lambda folder, names: {MMLU_ALL}.intersection(names))
        found = list(misfits(whole, inner, copy))
    if found:
        shutil.rmtree(copy, ignore_errors=True)
        # Of the new set as it will be named, not as it is while it is written.
        print(f"{before / inner}: not kept, of another run: {_listed(found).replace(str(whole), str(before))}")


# ---------------------------------------------------------------- check


def check() -> None:
    """Hold every set against its own lock and its recipe. Raises UserError for the first that does not fit."""
    folders = set_folders(RESULTS)
    for folder in folders:
        _require_none(str(folder), set_problems(folder))
        print(f"{folder}: whole, and its recipe's")
    print(f"{len(folders)} sets")


def _require_written(file: Path, stages: Mapping[str, Mapping]) -> None:
    """Raise UserError where a file, of which a set keeps less than all, is not what its stage wrote."""
    stage, checksum = lock.written(stages).get(file.as_posix(), ("eval_mmlu", ""))
    if not file.is_file() or lock.md5(file) != checksum:
        raise UserError(f"this project: not one whole run: {file} is not what stage {stage} wrote")


def set_problems(folder: Path) -> list[str]:
    """Return what is wrong with the set in `folder` and the runs within it: nothing, in one that `export` made."""
    found = list(problems(folder, WHOLE))
    recipe = RECIPES / f"{folder.name}.yaml"
    found += differences(recipe, folder / "params.yaml") if recipe.is_file() else [f"{recipe}: no such recipe"]
    for inner in inner_folders(folder):
        run = folder / inner
        found += [f"{inner}: {one}" for one in (*problems(run, kind_of(inner)), *misfits(folder, inner, run))]
    return found


def place(path: str) -> Path:
    """Return where a set holds what the project has at `path`: `data/` and `reports/` are left out of it."""
    return Path(path.removeprefix("data/").removeprefix("reports/"))


def problems(folder: Path, kind: Kind) -> Iterator[str]:
    """Say what keeps `folder` from being one whole run of its kind.

    Held against its lock: every stage's params, that it read what the stage before it wrote, and the checksums of
    what was copied, unzipped.
    """
    params = read_yaml(folder / "params.yaml")
    stages = _counted(lock.listed(_stages(folder), params), kind)
    for stage, changed in lock.changed_params(stages, params):
        yield f"stage {stage} ran with another {', '.join(changed)} than params.yaml has"
    written = lock.written(stages)
    for stage, path, checksum in lock.read(stages):
        if path in written and written[path][1] != checksum:
            yield f"stage {stage} ran on an older {path}"
        elif (
            _is_within(path, kind.parts)
            and path not in written
            and not any(_is_within(other, (path,)) and _is_within(other, (ALSO_PREDICTIONS,)) for other in written)
            and _md5(folder, path) not in (None, checksum)
        ):
            yield f"{path} is not what stage {stage} read"
    for path, (stage, checksum) in _outputs(stages, kind.parts).items():
        if _is_within(path, (ALSO_PREDICTIONS,)):
            yield from _answers_problems(folder, path, stage)
            continue
        found = _md5(folder, path)
        if found is None and checksum == EMPTY and _is_within(path, COMPRESSED):
            continue
        if found is None:
            yield f"{path}: no such file; stage {stage} wrote it"
        elif found != checksum:
            yield f"{path} is not what stage {stage} wrote"
    for stage in kind.stages or ("compare",):
        if stage not in stages:
            yield f"dvc.lock has no stage {stage}: `dvc repro` has not come to its end"
    # Sets of the first form of params.yaml were made before choices were kept.
    if kind.choices and ("version" in params or (folder / CHOICES).exists()):
        yield from _choice_problems(folder)


def _answers_problems(folder: Path, path: str, stage: str) -> Iterator[str]:
    copy = folder / place(path)
    copy = copy.with_name(f"{copy.name}.gz")
    if not copy.exists():
        yield f"{path}: no such file; stage {stage} wrote it"
        return
    metrics = folder / "metrics/also" / Path(path).relative_to(ALSO_PREDICTIONS).with_suffix(".json")
    problem = answers_problem(copy, read_json(metrics)["total"]) if metrics.is_file() else None
    if problem:
        yield f"{path} {problem}"


def _choice_problems(folder: Path) -> Iterator[str]:
    models = load_params(folder / "params.yaml", older=True).model_table.names
    metrics = {model: read_json(folder / f"metrics/mmlu/{model}.json") for model in models}
    yield from choice_problems(read_choices(folder / CHOICES, models), metrics)


def _stages(folder: Path) -> dict[str, dict]:
    """Return what the lock in `folder` says, read once: parsing takes longer than all else here."""
    path = (folder / "dvc.lock").resolve()
    return _stages_of(path, path.stat().st_mtime_ns if path.exists() else 0)


@functools.lru_cache(maxsize=128)
def _stages_of(path: Path, changed: int) -> dict[str, dict]:
    del changed  # a part of the key
    return lock.read_stages(path)


def _counted(stages: Mapping[str, Mapping], kind: Kind) -> dict[str, Mapping]:
    return {name: entry for name, entry in stages.items() if kind.stages is None or name in kind.stages}


def _md5(folder: Path, path: str) -> str | None:
    """Return the checksum of a set's copy of `path` as the project had it, or None where it has none."""
    copy = folder / place(path)
    if not _is_within(path, COMPRESSED):
        return lock.md5(copy) if copy.exists() else None
    copy = copy if copy.is_dir() else copy.with_name(f"{copy.name}.gz")
    return lock.md5(copy, read_gzip, ".gz") if copy.exists() else None


# ---------------------------------------------------------------- what belongs together


def misfits(whole: Path, inner: Path, run: Path) -> Iterator[str]:
    """Say why `run` is no part of the set `whole` at its place `inner`; nothing for the set itself.

    A further run on all of MMLU is held against what it lies in, one of another seed against the set's own.
    """
    if inner.name == MMLU_ALL:
        beside = whole / inner.parent
        yield from differences(beside / "params.yaml", run / "params.yaml", (*PLACES, *MMLU_KEYS))
        yield from _other_adapters(beside, run, kind_of(inner))
    if inner.name == ALSO:
        yield from differences(whole / "params.yaml", run / "params.yaml", (*PLACES, "data.also"))
        yield from _other_adapters(whole, run, kind_of(inner))
        yield from _other_verdicts(whole, run)
    if inner.parts[:1] == (SEEDS,):
        beside = whole / MMLU_ALL if inner.name == MMLU_ALL else whole
        if not beside.is_dir():
            yield f"{beside} is not there"
            return
        yield from differences(beside / "params.yaml", run / "params.yaml", (*PLACES, *SEED_KEYS, "mmlu.batch_size"))
        yield from _other_questions(beside, run, kind_of(inner))


def _other_adapters(beside: Path, run: Path, kind: Kind) -> Iterator[str]:
    """Say each adapter of `run` that is not that of `beside`."""
    ours, theirs = (lock.written(_stages(root)) for root in (beside, run))
    tuned = load_params(beside / "params.yaml", older=True).model_table.tuned
    for model in tuned:
        adapter = f"models/{model}"
        if f"train_{model}" in (kind.stages or (f"train_{model}",)) and ours.get(adapter) != theirs.get(adapter):
            yield f"{adapter} is not the adapter of {beside}"


def _other_verdicts(beside: Path, run: Path) -> Iterator[str]:
    """Say each model whose verdicts on the dev split are others in `run` than in `beside`."""
    ours, theirs = (lock.written(_stages(root)) for root in (beside, run))
    for model in load_params(beside / "params.yaml", older=True).model_table.names:
        path = f"data/verdicts/spider/{model}.jsonl"
        if ours.get(path) != theirs.get(path):
            yield f"{path} is not that of {beside}"


def _other_questions(beside: Path, run: Path, kind: Kind) -> Iterator[str]:
    """Say why a gain of Model 1 in `run` is not over the base of `beside`: its seed, its questions, or its base."""
    seed, other = (load_params(root / "params.yaml", older=True).train.seed for root in (beside, run))
    if seed == other:
        yield f"train.seed is {seed}, that of {beside} itself"
    ours, theirs = (_stages(root) for root in (beside, run))
    for stage in kind.stages or ():
        for path, checksum in _read_by(theirs, stage).items():
            if path.startswith("data/prepared/") and _read_by(ours, stage).get(path) != checksum:
                yield f"stage {stage} read another {path} than that of {beside}"
    # The lock may hold the base's stages of an older run, with other params: only those of these questions tell.
    for stage in ("predict_spider@base", "eval_spider@base", "eval_mmlu@base"):
        if stage in theirs and theirs[stage].get("params") == ours.get(stage, {}).get("params"):
            for path, entry in lock.written({stage: theirs[stage]}).items():
                if not path.startswith("data/timings/") and lock.written(ours).get(path) != entry:
                    yield f"{path} is not that of {beside}: another base"


def _read_by(stages: Mapping[str, Mapping], stage: str) -> dict[str, str]:
    return {path: checksum for _, path, checksum in lock.read({stage: stages.get(stage, {})})}


def differences(one: Path, other: Path, but_for: Sequence[str] = PLACES) -> Iterator[str]:
    """Say each param, `but_for` those named, in which two files of params differ."""
    ours, theirs = (dict(_leaves(load_params(path, older=True).model_dump(by_alias=True))) for path in (one, other))
    for key in dict.fromkeys((*ours, *theirs)):
        # Of the subjects, a mapping, each category is a key.
        named = any(f"{key}.".startswith(f"{name}.") for name in but_for)
        if not named and ours.get(key) != theirs.get(key):
            yield f"{key} is {ours.get(key)!r} in {one} and {theirs.get(key)!r} in {other}"


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
    sets = ((f"data.also.{name}.spider", entry.spider) for name, entry in data.also.items())
    for key, value in (("data.spider", data.spider), ("data.mmlu", data.mmlu), *sets):
        if Path(value).is_absolute():
            raise UserError(f"{key}: got {value}, wanted a path below the project: results name no machine's folders")


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value
