"""Draw answers to training questions from one tuned model, and run them: what other models learn from.

python -m stages.sample_train m1
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from text2sql.core.digests import digest_of_tree
from text2sql.core.errors import UserError, run
from text2sql.core.files import read_jsonl, user_cache, write_json
from text2sql.core.params import Params
from text2sql.core.paths import (
    CONVERSATIONS,
    DATABASES,
    METRICS,
    MODELS,
    TIMINGS,
    TRAIN,
    TRAIN_SAMPLES,
    database_of,
)
from text2sql.core.stage_arguments import entry_and_params
from text2sql.core.startup import load_ahead
from text2sql.core.timing import Stopwatch
from text2sql.data.spider import RECORD, Example
from text2sql.execution.executor import Limits
from text2sql.scoring.judged import Drawn, counts_of, judged, read_judged, write_judged

if TYPE_CHECKING:
    from text2sql.evaluation.drawing import Draw

HOW = {"samples", "temperature", "top_p", "seed"}  # of the params, how answers are drawn


def main(arguments: Sequence[str]) -> int | None:
    """Write `data/samples/train/<model>.jsonl.gz`, `metrics/samples/<model>.json` and the timing."""
    name, params = entry_and_params(__doc__.splitlines()[0], arguments, "sample_train")
    load_ahead()

    from text2sql.training.run import interruptible

    return interruptible(lambda: draw_and_judge(name, params))


def draw_and_judge(name: str, params: Params) -> None:
    """Write it all; of several folds each is drawn from an adapter that is trained first, and removed at the end."""
    from text2sql.evaluation.drawing import draw_in_turn
    from text2sql.training.run import remove_trained_without

    chosen = params.sample_train[name]
    records, without = asked(chosen.limit)
    draws, training = whom_to_ask(name, records, params)
    stopwatch = Stopwatch(training=training)
    drawn = draw_in_turn(draws, params)
    if drawn is None:
        return
    examples = [Example.from_record(record) for record in records]
    limits = Limits(**params.execution.model_dump())
    lines = judged(examples, drawn.samples, database_of, limits, cache_dir=user_cache() / "gold")
    adapter = digest_of_tree(MODELS / name)
    header = Drawn(name, adapter, **chosen.model_dump())
    path = TRAIN_SAMPLES / f"{name}.jsonl.gz"
    write_judged(path, header, lines)
    counts = counts_of(read_judged(path, examples)[1])
    metrics = asdict(header) | counts | {"without_database": without}
    del metrics["adapter"]  # the lock has it
    write_json(METRICS / f"samples/{name}.json", metrics)
    stopwatch.write(TIMINGS / f"sample_train_{name}.json", "sample_train", name, len(lines), drawn.tokens, drawn.loaded)
    drawn.remove_journals()
    remove_trained_without(name)
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


def whom_to_ask(
    name: str, records: Sequence[dict], params: Params
) -> tuple[list[tuple["Draw", Sequence[dict]]], float | None]:
    """Return the model, or of each fold one that was trained without it, with the records that it is asked.

    And for how many seconds was trained, None without folds.
    """
    from text2sql.evaluation.drawing import Draw
    from text2sql.training.folds import folds_of
    from text2sql.training.run import train_without

    chosen, stage = params.sample_train[name], f"sample_train@{name}"
    generation = params.generation.model_copy(update=chosen.model_dump(include=HOW))
    model = params.model.model_copy(update={"strength": 1})  # training goes on from the adapter as it is
    if chosen.folds == 1:
        return [(Draw("sample_train", name, model, MODELS / name, generation), records)], None
    conversations = read_jsonl(CONVERSATIONS)
    draws: list[tuple[Draw, Sequence[dict]]] = []
    training = 0.0
    for fold in folds_of((one["db_id"] for one in conversations), chosen.folds, f"sample_train.{name}.folds"):
        if fold and (of_fold := fold.of(records)):
            adapter, seconds = train_without(fold, name, stage, conversations, params)
            draws.append((Draw("sample_train", name, model, adapter, generation, fold.name), of_fold))
            training += seconds
    return draws, training


if __name__ == "__main__":
    run(main)
