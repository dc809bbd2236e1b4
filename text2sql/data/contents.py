"""What the columns of a database hold: values to show of each, and the texts that a question may name.

Read once a database and kept in a user's cache, as one JSON file named by the digest of the database's bytes. All of it
is bounded: rows that are read, values that are kept, their length, SQLite's steps. The same bytes give the same
contents, on any machine.
"""

import contextlib
import heapq
import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

from text2sql.core.digests import digest_of, file_sha256
from text2sql.core.files import write_text
from text2sql.data.databases import open_read_only
from text2sql.data.schema import Table, schema_from_sqlite

FORMAT = 1  # incremented when what is kept, or how it is read, changes
SAMPLES = 3  # of a column, the most frequent first
LONGEST_TEXT = 60  # characters; a longer text is shown cut, and is none that a question names
MOST_ROWS = 100_000  # read of a table; of a larger one as many, in blocks evenly spread
MOST_CELLS = 2_000_000  # likewise, of a table with many columns
MOST_TEXTS = 20_000  # kept of a column
ROWS_OF_A_VIEW = 1_000  # it may take long, and holds what tables hold
BLOCKS = 100
_STEPS = 100_000  # of SQLite's virtual machine between two looks at the budget
_MOST_STEPS = 50_000_000  # for a table
_LONGEST_CELL = 10_000_000  # bytes; a row with a larger one ends the reading of its table

Value = str | int | float


@dataclass(frozen=True)
class ColumnContents:
    """Some values of a column: `samples` are shown, `texts` are all its short ones, in the order of the rows."""

    samples: tuple[Value, ...] = ()
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contents:
    """What a database holds, by (table, column); a column without values is left out."""

    columns: Mapping[tuple[str, str], ColumnContents] = field(default_factory=dict)

    def of(self, table: str, column: str) -> ColumnContents:
        """Return what a column holds, maybe nothing."""
        return self.columns.get((table, column), ColumnContents())


def read_contents(database: str | Path, cache: str | Path | None) -> Contents:
    """Return what `database` holds: as `cache`, a folder, has it, or read, and kept there where that can be written.

    Raises UserError where the file cannot be read, or holds changes in a file beside it.
    """
    limits = [FORMAT, SAMPLES, LONGEST_TEXT, MOST_ROWS, MOST_CELLS, MOST_TEXTS, ROWS_OF_A_VIEW, BLOCKS, _MOST_STEPS]
    kept = None if cache is None else Path(cache) / f"{digest_of([file_sha256(database), limits])}.json"
    if kept is not None:
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            return _from_json(json.loads(kept.read_text(encoding="utf-8")))
    contents = contents_of(database)
    if kept is not None:
        with contextlib.suppress(OSError):
            write_text(kept, json.dumps(_to_json(contents), allow_nan=False))
    return contents


def contents_of(database: str | Path) -> Contents:
    """Return what `database` holds, read now. Raises UserError as `schema_from_sqlite` does."""
    schema = schema_from_sqlite(database, Path(database).stem)
    found: dict[tuple[str, str], ColumnContents] = {}
    with contextlib.closing(open_read_only(database)) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_CELL)
        for table in schema.tables:
            is_view = _kind(connection, table.name) == "view"
            counts: list[Counter[Value]] = [Counter() for _ in table.columns]
            # What a view or a generated column computes may fail, or go on for ever: what was read until then counts.
            with contextlib.suppress(sqlite3.Error), _bounded(connection):
                for row in _rows(connection, table, is_view):
                    for count, value in zip(counts, row):
                        if _counts(value):
                            count[value] += 1
            for column, count in zip(table.columns, counts):
                if count:
                    found[table.name, column.name] = _column(count, is_view)
    return Contents(found)


def _column(count: Counter[Value], is_view: bool) -> ColumnContents:
    samples = heapq.nlargest(SAMPLES, count, key=count.__getitem__)  # of equal ones the first in the table
    texts = [value for value in count if isinstance(value, str) and len(value) <= LONGEST_TEXT]
    return ColumnContents(tuple(samples), () if is_view else tuple(texts[:MOST_TEXTS]))


def _counts(value: object) -> TypeGuard[Value]:
    """Whether a cell is worth showing: not NULL, a blob, an empty text or an infinite number."""
    if isinstance(value, str):
        return bool(value.strip())
    return isinstance(value, (int, float)) and math.isfinite(value)


def _kind(connection: sqlite3.Connection, table: str) -> str:
    found = connection.execute("SELECT type FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    return found[0] if found else "table"


def _rows(connection: sqlite3.Connection, table: Table, is_view: bool) -> Iterator[Sequence[object]]:
    """Yield rows of a table, texts cut behind LONGEST_TEXT: all, or blocks evenly spread over a large one."""
    most = min(MOST_ROWS, max(1, MOST_CELLS // len(table.columns)))
    cells = ", ".join(
        f"CASE typeof({name}) WHEN 'text' THEN substr({name}, 1, {LONGEST_TEXT + 1}) WHEN 'blob' THEN NULL "
        f"ELSE {name} END"
        for name in (_quoted(column.name) for column in table.columns)
    )
    # Never by an index, which would give another order.
    select = f"SELECT {cells} FROM {_quoted(table.name)} NOT INDEXED"
    if is_view:
        yield from connection.execute(f"{select} LIMIT {min(most, ROWS_OF_A_VIEW)}")
        return
    ends = _ends(connection, table) if _count(connection, table.name) > most else None
    if ends is None:
        yield from connection.execute(f"{select} LIMIT {most}")
        return
    name, low, high = ends
    starts = [low + (high - low) * number // BLOCKS for number in range(BLOCKS)]
    for start, stop in zip(starts, [*starts[1:], high + 1]):
        where = f"WHERE {name} >= ? AND {name} < ? ORDER BY {name} LIMIT {most // BLOCKS}"
        yield from connection.execute(f"{select} {where}", (start, min(stop, 2**63 - 1)))


def _count(connection: sqlite3.Connection, table: str) -> int:
    return connection.execute(f"SELECT count(*) FROM {_quoted(table)}").fetchone()[0]


def _ends(connection: sqlite3.Connection, table: Table) -> tuple[str, int, int] | None:
    """Return the name of a table's row id with its least and its greatest, or None where it has none."""
    taken = {column.name.lower() for column in table.columns}
    for name in ("rowid", "oid", "_rowid_"):
        if name not in taken:
            with contextlib.suppress(sqlite3.OperationalError):  # WITHOUT ROWID
                low, high = connection.execute(f"SELECT min({name}), max({name}) FROM {_quoted(table.name)}").fetchone()
                return (name, low, high) if isinstance(low, int) and isinstance(high, int) else None
    return None


@contextlib.contextmanager
def _bounded(connection: sqlite3.Connection) -> Iterator[None]:
    """End what runs on `connection` after so many steps, with an sqlite3.OperationalError."""
    looks = iter(range(_MOST_STEPS // _STEPS))
    connection.set_progress_handler(lambda: next(looks, None) is None, _STEPS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _to_json(contents: Contents) -> list:
    return [[*place, list(found.samples), list(found.texts)] for place, found in contents.columns.items()]


def _from_json(stored: list) -> Contents:
    return Contents(
        {(table, column): ColumnContents(tuple(samples), tuple(texts)) for table, column, samples, texts in stored}
    )
