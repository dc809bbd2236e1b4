"""One model's training as a stage of dvc.yaml: from conversations to a published adapter with its measurements."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from text2sql.core.files import write_json, write_text
from text2sql.core.params import Params
from text2sql.core.paths import DATABASES, METRICS, MODELS, SCHEMAS, TIMINGS
from text2sql.core.processes import current_processes
from text2sql.data.schema import read_schemas
from text2sql.model.model_card import model_card
from text2sql.model.run_key import as_measured
from text2sql.prompts.messages import load_few_shot
from text2sql.prompts.rich import in_folders, rich_schemas
from text2sql.training.examples import training_pairs
from text2sql.training.fine_tune import Interrupted, Training, loss_curve_csv, train_adapter
from text2sql.training.job import TrainingJob


@dataclass(frozen=True)
class StageRun:
    """What a stage trains: the model `name`, as the stage `stage` of dvc.yaml, on `conversations`.

    For pairs those hold the right answers and then the wrong ones. `start` is the adapter to go on from, `counts` what
    stands in the metrics besides the training's own. `train` trains, by rewards otherwise than by examples.
    """

    name: str
    stage: str
    conversations: Sequence[dict]
    start: Path | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)
    train: Callable[[TrainingJob, Sequence[tuple[list[dict], str]]], Training | None] = train_adapter


def train_and_publish(run: StageRun, params: Params) -> None:
    """Write `models/<model>/`, `metrics/train/<model>.json` and `_loss.csv`, and `data/timings/train_<model>.json`.

    The main process alone publishes. Raises as `train_adapter` does.
    """
    few_shot = load_few_shot(params.prompt.few_shot_file, params.prompt.few_shot)
    recipe, processes = params.train_for(run.name), current_processes()
    rich = rich_schemas(params.prompt, in_folders(DATABASES))
    schemas = read_schemas(SCHEMAS, params.prompt.descriptions)
    pairs = training_pairs(run.conversations, schemas, params.prompt, few_shot, rich, recipe)
    for line in rich.lines() if rich and processes.is_main else ():
        print(f"train_{run.name}: {line}", flush=True)
    template = params.prompt.template
    job = TrainingJob(run.name, params.model, recipe, processes, run.stage, template=template, start=run.start)
    training = run.train(job, pairs)
    if training is not None:
        _publish(training, run, params)


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
