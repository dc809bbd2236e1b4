"""A small Spider and a small MMLU, as their authors lay them out."""

import csv
import io
import json
from pathlib import Path
from typing import Any

SQL = """
CREATE TABLE team (id INTEGER PRIMARY KEY, "home town" TEXT);
CREATE TABLE player (name VARCHAR(20), team_id INT REFERENCES team, goals, PRIMARY KEY (name, team_id),
    FOREIGN KEY (team_id) REFERENCES team (id));
INSERT INTO team VALUES (1, 'Brno');
"""


GOOD = {"db_id": "league", "question": "How many teams?", "query": "SELECT count(*) FROM team"}


def spider_folder(folder: Path, train: Any = (GOOD,), dev: Any = (GOOD,), tables: Any = ()) -> Path:
    """Write Spider's layout with the one database `league`; a file is a value, or its text."""
    (folder / "database/league").mkdir(parents=True)
    (folder / "database/league/league.sql").write_text(SQL)
    for name, value in [("train_spider.json", train), ("dev.json", dev), ("tables.json", tables)]:
        (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


ROWS = [
    ['What is "justice", says\nPlato?', "Harmony", "Power", "Law, or custom", "Pleasure", "A"],
    ["Who wrote the Ethics?", "Kant", "Spinoza", "Hume", "Mill", "B"],
]


def csv_text(rows: list[list[str]]) -> str:
    """Return `rows` as one text of CSV."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def mmlu_folder(folder: Path, test: Any = ROWS, dev: Any = ROWS) -> Path:
    """Write MMLU's layout with the one subject philosophy; a split is rows, or a file's text or bytes."""
    for split, rows in (("test", test), ("dev", dev)):
        (folder / split).mkdir(parents=True)
        data = rows if isinstance(rows, bytes) else (rows if isinstance(rows, str) else csv_text(rows)).encode()
        (folder / split / f"philosophy_{split}.csv").write_bytes(data)
    return folder
