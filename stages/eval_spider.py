"""Score one model's predictions on Spider: run them in the sandbox, compare with gold, find the cause of each failure.

    python -m stages.eval_spider base|m1|m2

Needs neither torch nor a GPU. `python -m text2sql.score` is the same scoring, for any system's predictions.
"""

from collections.abc import Sequence
from pathlib import Path

from text2sql.embedded import user_cache
from text2sql.errors import ArgumentParser, UserError, run
from text2sql.execution import Limits
from text2sql.files import read_jsonl, write_json, write_jsonl
from text2sql.params import load_params
from text2sql.scoring import score_examples, summarise
from text2sql.spider import Example
from text2sql.timing import Stopwatch

DEV = Path("data/prepared/spider/dev.jsonl")
DATABASES = Path("data/prepared/databases")


def main(arguments: Sequence[str]) -> None:
    """Write `metrics/spider/<model>.json`, `data/verdicts/spider/<model>.jsonl` and the timing."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=["base", "m1", "m2"])
    name = parser.parse_args(arguments).model
    params = load_params()
    stopwatch = Stopwatch()
    records = read_jsonl(DEV)
    examples = [Example(line["index"], line["db_id"], line["question"], line["query"]) for line in records]
    predictions = read_jsonl(f"data/predictions/{name}.jsonl")
    if [line["index"] for line in predictions] != [example.index for example in examples]:
        raise UserError(f"data/predictions/{name}.jsonl: does not hold the examples of {DEV}; run predict_spider again")
    verdicts = score_examples(
        examples,
        [line["sql"] for line in predictions],
        lambda db_id: DATABASES / db_id / f"{db_id}.sqlite",
        Limits(**params.execution.model_dump()),
        # Gold results are the same for all models: computed once, outside the pipeline's outputs.
        cache_dir=user_cache() / "gold",
    )
    write_jsonl(f"data/verdicts/spider/{name}.jsonl", (verdict.to_dict() for verdict in verdicts))
    write_json(f"metrics/spider/{name}.json", summarise(verdicts))
    stopwatch.write(f"data/timings/eval_spider_{name}.json", "eval_spider", name, len(verdicts))
    stopped = sum(verdict.stopped for verdict in verdicts)
    right = sum(verdict.execution_accuracy for verdict in verdicts)
    print(f"eval_spider {name}: {right} of {len(verdicts)} right; the sandbox stopped {stopped}")


if __name__ == "__main__":
    run(main)
