"""Hold out training databases, to choose a recipe on them: a dev split that is read while tuning measures nothing.

python -m text2sql.preparation.holdout --spider spider_data.zip --out data/raw/holdout --databases 20
dvc exp run -S data.spider=data/raw/holdout -S train.lr=1e-3
"""

import random
from collections.abc import Sequence
from pathlib import Path

from text2sql.core.errors import ArgumentParser, UserError, run
from text2sql.core.files import atomic_directory, write_json
from text2sql.data.spider import open_spider


def main(arguments: Sequence[str]) -> None:
    """Write the train split of Spider to a folder in the official layout, with some of its databases as `dev`."""
    parser = ArgumentParser(prog="text2sql.preparation.holdout", description=__doc__.splitlines()[0])
    parser.add_argument("--spider", required=True, help="a folder or zip in the official layout")
    parser.add_argument("--out", required=True, type=Path, help="the folder to write")
    parser.add_argument("--databases", type=int, default=20, help="how many to hold out (default: 20, as dev has)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    counts = hold_out(options.spider, options.out, options.databases, options.seed)
    print(f"{options.out}: {counts[0]} questions to train on, {counts[1]} on {options.databases} databases held out")


def hold_out(spider: str | Path, out: Path, databases: int, seed: int) -> tuple[int, int]:
    """Write the folder `out`; return how many examples its train and dev splits have.

    The choice depends on `seed` and the databases' names alone. Raises UserError where `out` exists, or there are
    not more than `databases` training databases.
    """
    if out.exists():
        raise UserError(f"{out}: is there already; wanted a folder to make")
    with open_spider(spider) as source:
        stored = source.database_ids()
        examples = [example for example in source.examples("train") if example.db_id in stored]
        names = sorted({example.db_id for example in examples})
        if not 0 < databases < len(names):
            raise UserError(f"--databases: got {databases}, takes a number from 1 to {len(names) - 1}")
        held_out = set(random.Random(seed).sample(names, databases))
        splits = {
            "train_spider.json": [example for example in examples if example.db_id not in held_out],
            "dev.json": [example for example in examples if example.db_id in held_out],
        }
        tables = source.tables_json()
        with atomic_directory(out) as folder:
            for name, split in splits.items():
                records = [{"db_id": e.db_id, "question": e.question, "query": e.query} for e in split]
                write_json(folder / name, records)
            write_json(folder / "tables.json", [tables[name] for name in names if name in tables])
            for name in names:
                database = folder / "database" / name / f"{name}.sqlite"
                database.parent.mkdir(parents=True)
                source.extract_database(name, database)
    return len(splits["train_spider.json"]), len(splits["dev.json"])


if __name__ == "__main__":
    run(main)
