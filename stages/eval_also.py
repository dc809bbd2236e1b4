"""Score one model's predictions on a further evaluation set, as `eval_spider` does on Spider's dev split.

python -m stages.eval_also syn base
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from text2sql.core.errors import UserError, run
from text2sql.core.files import read_jsonl, user_cache, write_json, write_jsonl
from text2sql.core.paths import ALSO, DATABASES, METRICS, PREDICTIONS, TIMINGS, VERDICTS
from text2sql.core.stage_arguments import set_model_and_params
from text2sql.core.timing import Stopwatch
from text2sql.data.spider import RECORD, Example
from text2sql.execution.executor import Limits
from text2sql.scoring.golds import Gold
from text2sql.scoring.predictions import asked_in_halves, read_predictions, strength_of
from text2sql.scoring.verdicts import score_examples, summarise


def main(arguments: Sequence[str]) -> None:
    """Write `metrics/also/<set>/<model>.json`, `data/verdicts/also/<set>/<model>.jsonl` and the timing."""
    asked, name, params = set_model_and_params(__doc__.splitlines()[0], arguments)
    stopwatch = Stopwatch()
    split = ALSO / asked / "dev.jsonl"
    examples = [Example.from_record(line) for line in read_jsonl(split, RECORD)]
    predictions = PREDICTIONS / f"also/{asked}/{name}.jsonl"
    golds: list[Gold] = []
    verdicts = score_examples(
        examples,
        read_predictions(predictions, examples, stage="predict_also", split=split),
        partial(database_of, asked),
        Limits(**params.execution.model_dump()),
        cache_dir=user_cache() / "gold",
        failing_gold=params.failing_gold_in(asked),
        on_golds=golds.extend,
    )
    write_jsonl(VERDICTS / f"also/{asked}/{name}.jsonl", (verdict.to_dict() for verdict in verdicts))
    metrics = summarise(verdicts, golds, asked_in_halves(predictions)) | strength_of(predictions)
    write_json(METRICS / f"also/{asked}/{name}.json", metrics)
    stopwatch.write(TIMINGS / f"eval_also_{asked}_{name}.json", f"eval_also@{asked}", name, len(verdicts))
    right = sum(verdict.execution_accuracy for verdict in verdicts)
    print(f"eval_also {asked} {name}: {right} of {len(verdicts)} right")


def database_of(asked: str, db_id: str) -> Path:
    """Return the file of a database: the set's own, or Spider's. Raises UserError if it is missing."""
    for folder in (ALSO / asked / "databases", DATABASES):
        path = folder / db_id / f"{db_id}.sqlite"
        if path.is_file():
            return path
    raise UserError(f"{path}: no such file; run prepare and prepare_also again")


if __name__ == "__main__":
    run(main)
