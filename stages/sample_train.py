"""Draw answers to training questions from one tuned model, and run them: what other models learn from.

python -m stages.sample_train m1
"""

from collections.abc import Sequence
from dataclasses import asdict

from text2sql.core.digests import digest_of_tree
from text2sql.core.errors import UserError, run
from text2sql.core.files import read_jsonl, user_cache, write_json
from text2sql.core.paths import DATABASES, METRICS, MODELS, TIMINGS, TRAIN, TRAIN_SAMPLES, database_of
from text2sql.core.stage_arguments import entry_and_params
from text2sql.core.startup import load_ahead
from text2sql.core.timing import Stopwatch
from text2sql.data.spider import RECORD, Example
from text2sql.execution.executor import Limits
from text2sql.scoring.judged import Drawn, counts_of, judged, read_judged, write_judged


def main(arguments: Sequence[str]) -> None:
    """Write `data/samples/train/<model>.jsonl.gz`, `metrics/samples/<model>.json` and the timing."""
    name, params = entry_and_params(__doc__.splitlines()[0], arguments, "sample_train")
    stopwatch = Stopwatch()
    load_ahead()

    from text2sql.evaluation.drawing import Draw, draw_answers

    chosen = params.sample_train[name]
    records, without = asked(chosen.limit)
    adapter = MODELS / name
    how = chosen.model_dump(include={"samples", "temperature", "top_p", "seed"})
    generation = params.generation.model_copy(update=how)
    model = params.model.model_copy(update={"strength": 1})  # training goes on from the adapter as it is
    drawn = draw_answers(Draw("sample_train", name, model, adapter, generation), records, params)
    if drawn is None:
        return
    examples = [Example.from_record(record) for record in records]
    limits = Limits(**params.execution.model_dump())
    lines = judged(examples, drawn.samples, database_of, limits, cache_dir=user_cache() / "gold")
    header = Drawn(name, digest_of_tree(adapter), limit=chosen.limit, **how)
    path = TRAIN_SAMPLES / f"{name}.jsonl.gz"
    write_judged(path, header, lines)
    counts = counts_of(read_judged(path, examples)[1])
    metrics = asdict(header) | counts | {"without_database": without}
    del metrics["adapter"]  # the lock has it
    write_json(METRICS / f"samples/{name}.json", metrics)
    stopwatch.write(TIMINGS / f"sample_train_{name}.json", "sample_train", name, len(lines), drawn.tokens, drawn.loaded)
    drawn.journal.remove()
    print(
        f"sample_train {name}: {counts['right']} of {counts['answers']} answers right; {counts['right_and_wrong']} of "
        f"{counts['questions']} questions have right and wrong ones, {counts['none_right']} no right one"
    )


def asked(limit: int | None) -> tuple[list[dict], int]:
    """Return the records of the training questions that are asked, and how many are not, for want of their database.

    The training split is all that is read here: no dev question or database can get into what is learnt from.
    """
    records = read_jsonl(TRAIN, RECORD)[:limit]
    there = [record for record in records if (DATABASES / record["db_id"] / f"{record['db_id']}.sqlite").is_file()]
    if not there:
        raise UserError(f"sample_train: the database of none of the {len(records)} training questions is there")
    return there, len(records) - len(there)


if __name__ == "__main__":
    run(main)
