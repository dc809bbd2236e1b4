"""Hold out training databases, to choose a recipe on them: a dev split that is read while tuning measures nothing."""

import random
from pathlib import Path

from text2sql.core.errors import UserError
from text2sql.core.files import atomic_directory, write_json
from text2sql.data.spider import open_spider


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
