"""What the points of a curve share: the prepared benchmarks, and a key of all that could make points differ unseen."""

from pathlib import Path
from typing import Any

from text2sql.core.dependencies import Key, code_of
from text2sql.core.digests import digest_of_tree
from text2sql.core.errors import UserError
from text2sql.core.files import read_json
from text2sql.core.journal import keep_key
from text2sql.core.params import Params
from text2sql.experiments.claims import claim
from text2sql.experiments.points import Run
from text2sql.model.loading import as_loaded
from text2sql.model.run_key import libraries_of, weights_and_runtime
from text2sql.preparation.prepare import prepare

# The stages of dvc.yaml whose work a point repeats: the pipeline says which code that is.
STAGES = ("prepare", "train_m1", "predict_spider", "eval_spider", "eval_mmlu", "eval_mmlu_chat")
# Of `generation`: points are asked greedily.
CHOOSING = {"samples", "temperature", "top_p", "seed", "choice", "when"}
# Below a prepared folder: what points are trained on and asked.
DATA = ("spider/qa_sharegpt.jsonl", "spider/dev.jsonl", "spider/schemas.json", "databases", "mmlu")


def prepared(params: Params, work: Path) -> Path:
    """Return the folder of the benchmarks in the form that `prepare` gives them, made below `work` where it has to be.

    Raises as `prepare` does.
    """
    folder, kept = work / "prepared", work / "prepared.key.json"
    raw = [Path(params.data.spider), Path(params.data.mmlu)]
    key = Key.of(
        {
            **code_of("prepare"),
            "raw": [digest_of_tree(path) if path.exists() else None for path in raw],
            "data": params.data.model_dump(exclude={"spider", "mmlu", "also", "name"}),
            "mmlu.subjects": params.mmlu.subjects,
            "execution": params.execution.model_dump(),
        }
    )
    with claim(work, "prepared", wait=True):
        if not (folder.is_dir() and holds(kept, key)):
            kept.unlink(missing_ok=True)
            prepare(params, folder, work / "prepared.json", say=lambda text: print(f"prepare: {text}", flush=True))
            keep_key(kept, key)
    return folder


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
        **_flat("generation", params.generation.model_dump(exclude=CHOOSING)),
        **_flat("mmlu", params.mmlu.model_dump(exclude={"rotations", "chat", "chat_limit"})),
        **_flat("execution", params.execution.model_dump()),
        **weights_and_runtime(params.model, as_loaded(params.model), libraries_of(params.generation.grammar)),
    }
    return Key.of(parts)


def own_key(run: Run) -> Key:
    """Return the key of what is a run's own: its prompt, what it is asked and, where it trains, recipe and strength."""
    asked: dict[str, Any] = {"mmlu.rotations": run.rotations}
    if run.in_chat:
        asked |= {"mmlu.chat": True, "mmlu.chat_limit": run.params.mmlu.chat_limit}
    if not run.trains:
        return Key.of(_prompt(run.params) | asked)
    asked["model.strength"] = run.params.model.strength
    return Key({**training_key(run.params).parts, **Key.of(asked).parts})


def training_key(params: Params) -> Key:
    """Return the key of what is a training's own: its prompt and its recipe."""
    recipe = params.train.model_dump(exclude={"checkpoint_minutes"})
    return Key.of(_prompt(params) | _flat("train", recipe))


def _prompt(params: Params) -> dict[str, Any]:
    return _flat("prompt", params.prompt.model_dump(exclude={"few_shot_file"}))


def _flat(section: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{section}.{name}": value for name, value in values.items()}
