"""A benchmark written anew as BIRD lays its own out: its data cannot be had here, its form can."""

import csv
import json
from pathlib import Path

from text2sql.data.schema import schema_from_sqlite
from text2sql.data.spider import Example, SpiderSource
from text2sql.scoring.hardness import hardness_of_example

DIFFICULTY = {"easy": "simple", "medium": "moderate", "hard": "challenging", "extra": "challenging"}
EVIDENCE = "the question is about {}"
FOLDERS = {"dev": "dev_20240627", "train": "train"}  # as the archives unpack


def bird_folder(source: SpiderSource, folder: Path, train: bool = True) -> Path:
    """Write `source` to `folder` with its databases and their columns' descriptions; return the folder.

    The difficulty of dev examples is made of their hardness; every second example has evidence, of the others it is
    empty. `SQL` is a list where there are several.
    """
    for split in ("dev", "train") if train else ("dev",):
        place = folder / FOLDERS[split]
        place.mkdir(parents=True)
        examples = source.examples(split)  # type: ignore[arg-type]
        records = [_record(example, split) for example in examples]
        (place / f"{split}.json").write_text(json.dumps(records, indent=4))
        (place / f"{split}_tables.json").write_text(json.dumps(list(source.tables_json().values())))
        for db_id in sorted({example.db_id for example in examples} & source.database_ids()):
            database = place / f"{split}_databases" / db_id / f"{db_id}.sqlite"
            source.extract_database(db_id, database)
            _write_descriptions(database, db_id)
    return folder


def _record(example: Example, split: str) -> dict:
    record = {
        "db_id": example.db_id,
        "question": example.question,
        "evidence": "" if example.index % 2 else EVIDENCE.format(example.db_id),
        "SQL": list(example.queries) if example.others else example.query,
    }
    if split == "train":
        return record
    difficulty = DIFFICULTY[hardness_of_example(example, f"example {example.index}")]
    return {"question_id": example.index, **record, "difficulty": difficulty}


def _write_descriptions(database: Path, db_id: str) -> None:
    folder = database.parent / "database_description"
    folder.mkdir()
    for table in schema_from_sqlite(database, db_id).tables:
        with open(folder / f"{table.name}.csv", "w", encoding="utf-8-sig", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(
                ["original_column_name", "column_name", "column_description", "data_format", "value_description"]
            )
            for column in table.columns:
                rows.writerow(
                    [column.name, column.name.replace("_", " "), f"{column.name}, described", column.type, ""]
                )
