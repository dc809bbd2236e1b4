"""What the points of a curve share: the prepared benchmarks, and a key of all that could make points differ unseen."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from text2sql.core.dependencies import Key, code_of
from text2sql.core.digests import digest_of_tree, file_sha256
from text2sql.core.errors import UserError
from text2sql.core.files import atomic_directory, read_json
from text2sql.core.journal import keep_key
from text2sql.core.params import Params, changed
from text2sql.core.timing import versions
from text2sql.experiments.claims import claim
from text2sql.experiments.points import HeldOut, Learning, Run, Verifier
from text2sql.model.loading import as_loaded
from text2sql.model.run_key import GRAMMAR_LIBRARY, weights_and_runtime
from text2sql.preparation.holdout import hold_out
from text2sql.preparation.prepare import prepare, prepare_spider, spider_path
from text2sql.training.folds import Fold

# The stages of dvc.yaml whose work a point repeats: the pipeline says which code that is.
STAGES = (
    "prepare", "train_m1", "predict_spider", "eval_spider", "sample_spider", "choose_spider", "eval_mmlu",
    "eval_mmlu_chat", "sample_train", "learn", "train_verifier", "judge_spider",
)  # fmt: skip
SAMPLING = {"samples", "temperature", "top_p", "seed"}  # of `generation`: a point's own, where it draws samples
# Of `generation`: whether a grammar holds answers is a point's own, and all ways to choose among samples are measured.
NOT_SHARED = SAMPLING | {"grammar", "choice", "when"}
# Below a prepared folder: what points are trained on and asked.
SPIDER = tuple(f"spider/{name}" for name in ("train.jsonl", "qa_sharegpt.jsonl", "dev.jsonl", "schemas.json"))
DATA = (*SPIDER, "databases", "mmlu")


def prepared(params: Params, work: Path) -> Path:
    """Return the folder of the benchmarks in the form that `prepare` gives them, made below `work` where it has to be.

    Raises as `prepare` does.
    """
    raw = [Path(params.data.spider), Path(params.data.mmlu)]
    key = _prepared_key(params, [digest_of_tree(path) if path.exists() else None for path in raw])
    return _made_once(work, key, lambda folder: prepare(params, folder, work / "prepared.json", say=_say))


def prepared_held_out(params: Params, work: Path, held: HeldOut, mmlu: bool = True) -> Path:
    """Return the folder of the train split as `prepare` would give it, the databases `held` out in place of dev.

    The dev split's questions and databases are not read. Without `mmlu` that is left out. Raises as `prepare` does.
    """
    raw = spider_path(params.data.spider, "data.spider", Path("data/raw"), _say)
    source = raw / "train_spider.json" if raw.is_dir() else raw
    key = _prepared_key(params, [str(raw), file_sha256(source) if source.is_file() else None, held.model_dump(), mmlu])

    def make(folder: Path) -> None:
        split = work / "split"
        shutil.rmtree(split, ignore_errors=True)
        counts = hold_out(raw, split, held.databases, held.seed, _say)
        _say(f"{counts[0]:,} questions to train on, {counts[1]:,} on {held.databases} databases held out")
        ours = changed(params, {"data.spider": str(split), "data.holdout": None}, "the split")
        if mmlu:
            prepare(ours, folder, work / "prepared.json", say=_say)
        else:
            with atomic_directory(folder) as temporary:
                prepare_spider(ours, temporary, split, _say)

    return _made_once(work, key, make)


def _prepared_key(params: Params, raw: list[Any]) -> Key:
    return Key.of(
        {
            **code_of("prepare"),
            "raw": raw,
            "data": params.data.model_dump(exclude={"spider", "mmlu", "also", "name"}),
            "mmlu.subjects": params.mmlu.subjects,
            "execution": params.execution.model_dump(),
        }
    )


def _made_once(work: Path, key: Key, make: Callable[[Path], object]) -> Path:
    """Return the folder that `make` makes below `work`, where one of this key is not there already."""
    folder, kept = work / "prepared", work / "prepared.key.json"
    with claim(work, "prepared", wait=True):
        if not (folder.is_dir() and holds(kept, key)):
            kept.unlink(missing_ok=True)
            make(folder)
            keep_key(kept, key)
    return folder


def _say(text: str) -> None:
    print(f"prepare: {text}", flush=True)


def holds(kept: Path, key: Key) -> bool:
    """Return whether the file `kept` has this key, as `keep_key` wrote it."""
    try:
        return read_json(kept) == dict(key.parts)
    except UserError:
        return False


def shared_key(params: Params, folder: Path) -> Key:
    """Return the key of what all points have in common: code, data in `folder`, base, libraries, machine, limits."""
    parts: dict[str, Any] = {
        **code_of(*STAGES),
        **{f"data/{part}": digest_of_tree(folder / part) for part in DATA},
        "prompt.few_shot_file": digest_of_tree(params.prompt.few_shot_file),
        "data.failing_gold": params.data.failing_gold,
        **_flat("model", params.model.model_dump(exclude={"strength", "files", "source"})),
        **_flat("generation", params.generation.model_dump(exclude=NOT_SHARED)),
        **_flat("mmlu", params.mmlu.model_dump(exclude={"rotations", "chat", "chat_limit"})),
        **_flat("execution", params.execution.model_dump()),
        **weights_and_runtime(params.model, as_loaded(params.model)),
    }
    return Key.of(parts)


def own_key(run: Run) -> Key:
    """Return the key of what is a run's own: its prompt, what it is asked and, where it trains, recipe and strength."""
    asked: dict[str, Any] = {"mmlu.rotations": run.rotations} | _answered(run)
    if run.in_chat:
        asked |= {"mmlu.chat": True, "mmlu.chat_limit": run.params.mmlu.chat_limit}
    if not run.trains:
        return Key.of(_prompt(run.params) | asked)
    asked |= {"model.strength": run.params.model.strength} | ({"along": run.along} if run.along else {})
    return Key({**training_key(run).parts, **Key.of(asked).parts})


def mmlu_key(run: Run) -> Key:
    """Return the key of what a run's choices on MMLU depend on, but for what all runs share."""
    asked: dict[str, Any] = {"mmlu.rotations": run.rotations}
    if run.trains:
        asked |= {"model.strength": run.params.model.strength, "the training": dict(training_key(run).parts)}
    return Key.of(asked)


def _answered(run: Run) -> dict[str, Any]:
    """Return how answers to Spider are generated, as far as that is the run's own."""
    generation = run.params.generation
    found = _grammar(run.params)
    if run.sampled:
        found |= _flat("generation", generation.model_dump(include=SAMPLING))
    if run.rule != "majority":  # what the runs have that were kept before there was another
        found["generation.choice"] = run.rule
    if run.verifier:
        found["the verifier's training"] = dict(training_key(run.verifier).parts)
    return found


def _grammar(params: Params) -> dict[str, Any]:
    found: dict[str, Any] = {"generation.grammar": params.generation.grammar}
    if params.generation.grammar:
        found |= {f"{library}'s version": version for library, version in versions([GRAMMAR_LIBRARY]).items()}
    return found


def training_key(run: Run, fold: Fold | None = None) -> Key:
    """Return the key of what is a training's own: its prompt, its recipe, the answers that it learns from, and the
    fold of the training databases that it leaves out.
    """
    recipe = run.params.train.model_dump(exclude={"checkpoint_minutes"})
    parts = _prompt(run.params) | _flat("train", recipe)
    if fold:
        parts |= {"fold": [fold.number, fold.count]}
    if isinstance(run, Verifier):
        parts["verifies"] = True
    if run.learns:
        teacher = dict(training_key(run.learns.teacher).parts)
        parts |= {"train.from's training": teacher, "answers": dict(answers_key(run.learns).parts)}
    return Key.of(parts)


def answers_key(learns: Learning) -> Key:
    """Return the key of how answers to training questions are drawn, but for the adapter that gives them."""
    teacher = learns.teacher.params
    return Key.of(_prompt(teacher) | _grammar(teacher) | _flat("answers", learns.answers.model_dump()))


def _prompt(params: Params) -> dict[str, Any]:
    return _flat("prompt", params.prompt.model_dump(exclude={"few_shot_file"}))


def _flat(section: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{section}.{name}": value for name, value in values.items()}
