"""Hold out training databases, to choose a recipe on them: a dev split that is read while tuning measures nothing."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from text2sql.core.errors import UserError
from text2sql.core.files import atomic_directory, write_json
from text2sql.data.spider import Example, open_spider
from text2sql.execution.executor import Executor, Limits


def hold_out(
    spider: str | Path, out: Path, databases: int, seed: int, say: Callable[[str], object] = lambda text: None
) -> tuple[int, int]:
    """Write the folder `out`; return how many examples its train and dev splits have.

    The choice depends on `seed` and the databases' names; one that cannot be measured on (a gold query fails, or most
    return nothing) is replaced by the next in the order that `seed` gives, and `say` gets a line. Raises UserError
    where `out` exists, or not more than `databases` training databases can be had.
    """
    if out.exists():
        raise UserError(f"{out}: is there already; wanted a folder to make")
    with open_spider(spider) as source:
        stored = source.database_ids()
        examples = [example for example in source.examples("train") if example.db_id in stored]
        names = sorted({example.db_id for example in examples})
        if not 0 < databases < len(names):
            raise UserError(f"--databases: got {databases}, takes a number from 1 to {len(names) - 1}")
        tables = source.tables_json()
        with atomic_directory(out) as folder:
            for name in names:
                database = _database(folder, name)
                database.parent.mkdir(parents=True)
                source.extract_database(name, database)
            held_out = _choose(examples, names, folder, databases, random.Random(seed), say)
            splits = {
                "train_spider.json": [example for example in examples if example.db_id not in held_out],
                "dev.json": [example for example in examples if example.db_id in held_out],
            }
            for name, split in splits.items():
                write_json(folder / name, list(map(_record, split)))
            write_json(folder / "tables.json", [tables[name] for name in names if name in tables])
    return len(splits["train_spider.json"]), len(splits["dev.json"])


def _choose(
    examples: Sequence[Example],
    names: Sequence[str],
    folder: Path,
    count: int,
    order: random.Random,
    say: Callable[[str], object],
) -> set[str]:
    """Return `count` of the databases `names`, all of which can be measured on."""
    held_out, waiting = set(), order.sample(names, count)
    others = order.sample([name for name in names if name not in waiting], len(names) - count)
    with Executor(Limits()) as executor:
        while waiting:
            for name in waiting:
                fault = _fault(
                    executor,
                    _database(folder, name),
                    [query for e in examples if e.db_id == name for query in e.queries],
                )
                if fault:
                    say(f"{name}: not held out: {fault}")
                else:
                    held_out.add(name)
            waiting, others = others[: count - len(held_out)], others[count - len(held_out) :]
    if len(held_out) < count:
        raise UserError(f"--databases: got {count}, only {len(held_out)} can be measured on")
    return held_out


def _fault(executor: Executor, database: Path, golds: Sequence[str]) -> str | None:
    """Return why nothing can be measured on a database, or None."""
    results = executor.run_all([(database, gold) for gold in golds])
    failed = sum(result.error is not None for result in results)
    empty = sum(not result.rows for result in results) - failed
    if failed:
        return f"{failed} of its {len(golds)} gold queries fail"
    return f"{empty} of its {len(golds)} gold queries return nothing" if 2 * empty > len(golds) else None


def _record(example: Example) -> dict:
    """Return an example as a file in Spider's layout has it."""
    record = example.to_record()
    del record["index"]
    return record | ({"query": [record["query"], *record.pop("others")]} if "others" in record else {})


def _database(folder: Path, name: str) -> Path:
    return folder / "database" / name / f"{name}.sqlite"
