"""Draw further answers to the dev split's questions from one model, to choose among.

    python -m stages.sample_spider base

Nothing is drawn where generation.samples is 1.
"""

from collections.abc import Sequence

from text2sql.core.errors import run
from text2sql.core.files import read_jsonl, write_jsonl
from text2sql.core.params import Params
from text2sql.core.paths import DEV, PREDICTIONS, SAMPLES, TIMINGS, adapter_of, database_of
from text2sql.core.stage_arguments import model_and_params
from text2sql.core.startup import load_ahead
from text2sql.core.timing import Stopwatch
from text2sql.data.spider import RECORD, Example
from text2sql.execution.executor import Limits
from text2sql.scoring.choice import failing
from text2sql.scoring.predictions import read_predictions


def main(arguments: Sequence[str]) -> None:
    """Write `data/samples/<model>.jsonl` and `data/timings/sample_spider_<model>.json`."""
    name, params = model_and_params(__doc__.splitlines()[0], arguments)
    stopwatch = Stopwatch()
    timing = TIMINGS / f"sample_spider_{name}.json"
    if params.generation.samples == 1:
        write_jsonl(SAMPLES / f"{name}.jsonl", [])
        stopwatch.write(timing, "sample_spider", name, 0)
        return

    load_ahead()

    from text2sql.evaluation.drawing import Draw, draw_answers

    adapter = adapter_of(name, params.model_table.base)
    draw = Draw("sample_spider", name, params.model, adapter, params.generation)
    drawn = draw_answers(draw, asked(name, params), params)
    if drawn is None:
        return
    write_jsonl(SAMPLES / f"{name}.jsonl", drawn.samples)
    stopwatch.write(timing, "sample_spider", name, len(drawn.samples), drawn.tokens, drawn.loaded)
    drawn.remove_journals()


def asked(name: str, params: Params) -> list[dict]:
    """Return the records of the questions that get samples: all, or those whose greedy answer does not run."""
    records = read_jsonl(DEV, RECORD)
    if params.generation.when == "always":
        return records
    examples = [Example.from_record(record) for record in records]
    greedy = read_predictions(PREDICTIONS / f"{name}.jsonl", examples, stage="predict_spider")
    pairs = [(example.db_id, sql) for example, sql in zip(examples, greedy, strict=True)]
    failed = failing(pairs, database_of, Limits(**params.execution.model_dump()))
    return [record for record, pair in zip(records, pairs, strict=True) if pair in failed]


if __name__ == "__main__":
    run(main)
