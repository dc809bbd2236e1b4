"""One model's training as a stage of dvc.yaml: from conversations to a published adapter with its measurements.

Or to adapters of the same recipe that leave out a fold each, which a stage asks and then removes.
"""

import contextlib
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from text2sql.core.dependencies import Key
from text2sql.core.files import read_json, write_json, write_text
from text2sql.core.params import Params
from text2sql.core.paths import DATABASES, METRICS, MODELS, SCHEMAS, TIMINGS
from text2sql.core.processes import current_processes
from text2sql.core.timing import PACKAGES, versions
from text2sql.data.schema import read_schemas
from text2sql.model.loading import as_loaded, free_memory
from text2sql.model.model_card import model_card
from text2sql.model.run_key import as_measured, run_key
from text2sql.prompts.messages import load_few_shot
from text2sql.prompts.rich import in_folders, rich_schemas
from text2sql.training.checkpoints import CHECKPOINTS
from text2sql.training.examples import training_pairs
from text2sql.training.fine_tune import Interrupted, Training, loss_curve_csv, train_adapter
from text2sql.training.folds import Fold
from text2sql.training.job import TrainingJob


@dataclass(frozen=True)
class StageRun:
    """What a stage trains: the recipe of the model `name`, as the stage `stage` of dvc.yaml, on `conversations`.

    For pairs those hold the right answers and then the wrong ones. `start` is the adapter to go on from, `counts` what
    stands in the metrics besides the training's own. `train` trains, by rewards otherwise than by examples. `called` is
    what the training is called where it is not the model itself.
    """

    name: str
    stage: str
    conversations: Sequence[dict]
    start: Path | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)
    train: Callable[[TrainingJob, Sequence[tuple[list[dict], str]]], Training | None] = train_adapter
    called: str | None = None


def train_and_publish(run: StageRun, params: Params) -> None:
    """Write `models/<model>/`, `metrics/train/<model>.json` and `_loss.csv`, and `data/timings/train_<model>.json`.

    The main process alone publishes. Raises as `train_adapter` does.
    """
    training = _trained(run, params)
    if training is not None:
        _publish(training, run, params)


def train_without(
    fold: Fold, name: str, stage: str, conversations: Sequence[dict], params: Params
) -> tuple[Path, float]:
    """Train the recipe of the model `name` on those of `conversations` that are about no database of `fold`.

    Returns the folder of what was trained and the seconds that it took. It is kept beside the checkpoints, where a
    stage that was cut finds it again, until `remove_trained_without`. Raises as `train_adapter` does.
    """
    processes = current_processes()
    called = f"{_without(name)}{fold.name}"
    folder = CHECKPOINTS / f"{called}-{_key_without(name, stage, params).digest}"
    about = folder.with_suffix(".json")
    if not about.is_file():
        run = StageRun(name, stage, fold.without(conversations), called=called)
        training = _trained(run, params)
        if training is not None:
            training.save(folder, model_card(name, params, training.metrics))
            write_json(about, {"seconds": round(training.stopwatch.seconds, 2)})
            training.checkpoints.remove()
        del training
        free_memory()
    processes.wait()  # for the main one, which saves it
    return folder, read_json(about)["seconds"]


def remove_trained_without(name: str) -> None:
    """Delete what `train_without` kept of the model `name`, of other params too."""
    for path in CHECKPOINTS.glob(f"{_without(name)}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with contextlib.suppress(OSError):
        CHECKPOINTS.rmdir()  # unless it has checkpoints


def _without(name: str) -> str:
    return f"{name}_without_"  # `_`: of the names of other trainings and journals of this model, none begins so


def _key_without(name: str, stage: str, params: Params) -> Key:
    own = {"the recipe": params.train_for(name).model_dump(exclude={"checkpoint_minutes"})}
    own |= {"libraries": versions((*PACKAGES, "liger-kernel"))}
    return Key({**run_key(stage, params.model, as_loaded(params.model)).parts, **Key.of(own).parts})


def _trained(run: StageRun, params: Params) -> Training | None:
    few_shot = load_few_shot(params.prompt.few_shot_file, params.prompt.few_shot)
    recipe, processes, called = params.train_for(run.name), current_processes(), run.called or run.name
    rich = rich_schemas(params.prompt, in_folders(DATABASES))
    schemas = read_schemas(SCHEMAS, params.prompt.descriptions)
    pairs = training_pairs(run.conversations, schemas, params.prompt, few_shot, rich, recipe)
    for line in rich.lines() if rich and processes.is_main else ():
        print(f"train_{called}: {line}", flush=True)
    template = params.prompt.template
    job = TrainingJob(called, params.model, recipe, processes, run.stage, template=template, start=run.start)
    return run.train(job, pairs)


def _publish(training: Training, run: StageRun, params: Params) -> None:
    metrics = training.metrics | dict(run.counts)
    loaded = as_measured(params.model, training.model)
    timing = TIMINGS / f"train_{run.name}.json"
    training.stopwatch.write(timing, "train", run.name, metrics["examples"], metrics["tokens"], loaded)
    training.save(MODELS / run.name, model_card(run.name, params, metrics))
    write_text(METRICS / f"train/{run.name}_loss.csv", loss_curve_csv(training.loss_curve))
    write_json(METRICS / f"train/{run.name}.json", metrics)
    training.checkpoints.remove()


def interruptible(train: Callable[[], None]) -> int | None:
    """Call `train`; return a stage's exit status: None, or that of the signal that stopped it after a checkpoint."""
    try:
        train()
    except Interrupted as interruption:
        print(interruption, file=sys.stderr)
        return 128 + interruption.signal_number
    return None
