"""The sample's databases and questions as a user's own: SQLite files in one folder, and one file of questions."""

import json
from collections.abc import Iterable
from pathlib import Path

from text2sql.data.databases import build_database

SAMPLE = Path(__file__).parent.parent / "data/sample/spider"


def own_folder(folder: Path, databases: Iterable[str] = ("pet_shelter", "bakery", "farm_market")) -> Path:
    """Write `databases` of the sample and `questions.jsonl` about them into `folder`; return it."""
    folder.mkdir(parents=True)
    databases = list(databases)
    for name in databases:
        script = SAMPLE / f"database/{name}/{name}.sql"
        build_database(script.read_text(encoding="utf-8"), folder / f"{name}.sqlite", name)
    write_questions(folder, questions(databases))
    return folder


def questions(databases: Iterable[str]) -> list[dict]:
    """Return the sample's questions about `databases`."""
    databases = set(databases)
    splits = (json.loads((SAMPLE / f"{name}.json").read_text(encoding="utf-8")) for name in ("train_spider", "dev"))
    return [record for split in splits for record in split if record["db_id"] in databases]


def write_questions(folder: Path, records: Iterable[dict]) -> None:
    """Write `questions.jsonl`."""
    (folder / "questions.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
