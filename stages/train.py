"""Fine-tune one model's adapter.

python -m stages.train m1|m2
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from text2sql.core.errors import ArgumentParser, run
from text2sql.core.files import read_json, read_jsonl, write_json, write_text
from text2sql.core.params import load_params
from text2sql.data.schema import Schema

CONVERSATIONS = Path("data/prepared/spider/qa_sharegpt.jsonl")
SCHEMAS = Path("data/prepared/spider/schemas.json")


def main(arguments: Sequence[str]) -> int | None:
    """Write `models/<model>/`, `metrics/train/<model>.json` and `_loss.csv`, and `data/timings/train_<model>.json`."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=["m1", "m2"])
    name = parser.parse_args(arguments).model
    params = load_params()

    from text2sql.core.processes import current_processes
    from text2sql.model.adapters import model_card, save_adapter
    from text2sql.prompts.messages import load_few_shot
    from text2sql.training.examples import training_pairs
    from text2sql.training.fine_tune import Interrupted, loss_curve_csv, train_adapter

    pairs = training_pairs(
        read_jsonl(CONVERSATIONS),
        {db_id: Schema.from_dict(schema) for db_id, schema in read_json(SCHEMAS).items()},
        params.prompt,
        load_few_shot(params.prompt.few_shot_file, params.prompt.few_shot),
    )
    try:
        training = train_adapter(name, pairs, params.model, params.train_for(name), current_processes())
    except Interrupted as interruption:
        print(interruption, file=sys.stderr)
        return 128 + interruption.signal_number
    if training is None:
        return None  # not the main process
    metrics = training.metrics
    training.stopwatch.write(f"data/timings/train_{name}.json", "train", name, metrics["examples"], metrics["tokens"])
    save_adapter(training.model, Path("models") / name, params.model, model_card(name, params, metrics))
    write_text(f"metrics/train/{name}_loss.csv", loss_curve_csv(training.loss_curve))
    write_json(f"metrics/train/{name}.json", metrics)
    training.checkpoints.remove()
    return None


if __name__ == "__main__":
    run(main)
