"""Fine-tune one model: its adapter, or all of its weights.

python -m stages.train m1
"""

import sys
from collections.abc import Sequence

from text2sql.core.errors import run
from text2sql.core.files import read_jsonl, write_json, write_text
from text2sql.core.params import Params
from text2sql.core.paths import CONVERSATIONS, DATABASES, METRICS, MODELS, SCHEMAS, TIMINGS
from text2sql.core.stage_arguments import model_and_params
from text2sql.core.startup import load_ahead
from text2sql.data.schema import read_schemas


def main(arguments: Sequence[str]) -> int | None:
    """Write `models/<model>/`, `metrics/train/<model>.json` and `_loss.csv`, and `data/timings/train_<model>.json`."""
    load_ahead()
    name, params = model_and_params(__doc__.splitlines()[0], arguments, tuned_only=True)
    from text2sql.training.fine_tune import Interrupted

    try:
        train(name, params)
    except Interrupted as interruption:
        print(interruption, file=sys.stderr)
        return 128 + interruption.signal_number
    return None


def train(name: str, params: Params) -> None:
    """Train and publish; the main process alone publishes."""
    from text2sql.core.processes import current_processes
    from text2sql.model.model_card import model_card
    from text2sql.model.run_key import as_measured
    from text2sql.prompts.messages import load_few_shot
    from text2sql.prompts.rich import in_folders, rich_schemas
    from text2sql.training.examples import training_pairs
    from text2sql.training.fine_tune import loss_curve_csv, train_adapter
    from text2sql.training.job import TrainingJob

    few_shot = load_few_shot(params.prompt.few_shot_file, params.prompt.few_shot)
    recipe, processes = params.train_for(name), current_processes()
    rich = rich_schemas(params.prompt, in_folders(DATABASES))
    schemas = read_schemas(SCHEMAS, params.prompt.descriptions)
    pairs = training_pairs(read_jsonl(CONVERSATIONS), schemas, params.prompt, few_shot, rich, recipe)
    stage = f"train_{name}"
    for line in rich.lines() if rich and processes.is_main else ():
        print(f"{stage}: {line}", flush=True)
    job = TrainingJob(name, params.model, recipe, processes, stage, template=params.prompt.template)
    training = train_adapter(job, pairs)
    if training is None:
        return
    metrics = training.metrics
    loaded = as_measured(params.model, training.model)
    training.stopwatch.write(TIMINGS / f"{stage}.json", "train", name, metrics["examples"], metrics["tokens"], loaded)
    training.save(MODELS / name, model_card(name, params, metrics))
    write_text(METRICS / f"train/{name}_loss.csv", loss_curve_csv(training.loss_curve))
    write_json(METRICS / f"train/{name}.json", metrics)
    training.checkpoints.remove()


if __name__ == "__main__":
    run(main)
