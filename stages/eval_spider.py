"""Score one model's predictions on Spider: run them in the sandbox, compare with gold, find the cause of each failure.

    python -m stages.eval_spider base

Needs neither torch nor a GPU. `text2sql score` is the same scoring, for any system's predictions.
"""

from collections.abc import Sequence

from text2sql.core.errors import run
from text2sql.core.files import read_jsonl, user_cache, write_json, write_jsonl
from text2sql.core.paths import DEV, METRICS, PREDICTIONS, TIMINGS, VERDICTS, database_of
from text2sql.core.stage_arguments import model_and_params
from text2sql.core.timing import Stopwatch
from text2sql.data.spider import RECORD, Example
from text2sql.execution.executor import Limits
from text2sql.scoring.golds import Gold
from text2sql.scoring.predictions import asked_in_halves, read_predictions, strength_of
from text2sql.scoring.verdicts import score_examples, summarise


def main(arguments: Sequence[str]) -> None:
    """Write `metrics/spider/<model>.json`, `data/verdicts/spider/<model>.jsonl` and the timing."""
    name, params = model_and_params(__doc__.splitlines()[0], arguments)
    stopwatch = Stopwatch()
    examples = [Example.from_record(line) for line in read_jsonl(DEV, RECORD)]
    predictions = PREDICTIONS / f"{name}.jsonl"
    golds: list[Gold] = []
    verdicts = score_examples(
        examples,
        read_predictions(predictions, examples, stage="predict_spider"),
        database_of,
        Limits(**params.execution.model_dump()),
        # Gold results are the same for all models: computed once, outside the pipeline's outputs.
        cache_dir=user_cache() / "gold",
        failing_gold=params.data.failing_gold,
        on_golds=golds.extend,
    )
    write_jsonl(VERDICTS / f"spider/{name}.jsonl", (verdict.to_dict() for verdict in verdicts))
    metrics = summarise(verdicts, golds, asked_in_halves(predictions)) | strength_of(predictions)
    write_json(METRICS / f"spider/{name}.json", metrics)
    stopwatch.write(TIMINGS / f"eval_spider_{name}.json", "eval_spider", name, len(verdicts))
    stopped = sum(verdict.stopped for verdict in verdicts)
    right = sum(verdict.execution_accuracy for verdict in verdicts)
    print(f"eval_spider {name}: {right} of {len(verdicts)} right; the sandbox stopped {stopped}")


if __name__ == "__main__":
    run(main)
