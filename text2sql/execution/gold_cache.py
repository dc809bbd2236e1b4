"""Results of gold queries, kept on disk: the second model scored on a benchmark need not run them again.

One JSON file a database, named by a digest of all that a result depends on: the database's bytes, the limits, the
version of SQLite. What reads the clock or a random number is not kept. Files appear whole or not at all, so that any
number of processes may share a folder; where two write the same file at once, the later one wins, and what the other
had found is found again.
"""

import contextlib
import hashlib
import itertools
import json
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from text2sql.core.files import atomic_file
from text2sql.data.databases import open_read_only
from text2sql.execution.executor import Limits, Result

# Incremented when the file format or the sandbox's behaviour changes.
FORMAT = 3


class GoldCache:
    """The results of gold queries on one database, as `folder` has them. Without a folder it is always empty."""

    def __init__(self, folder: str | Path | None, database: str | Path, limits: Limits) -> None:
        self._file = None if folder is None else Path(folder) / f"{_digest(database, limits)}.json"
        self._changing = _changing_views(database) if folder is not None else []
        self._stored = self._read()

    def results(self, queries: Iterable[str]) -> dict[str, Result]:
        """Return the results that are known, by query."""
        return {
            sql: _from_json(self._stored[digest])
            for sql in queries
            if (digest := _query_digest(sql)) in self._stored and not _changes(sql, self._changing)
        }

    def add(self, results: Mapping[str, Result]) -> None:
        """Keep the results, by query, of queries that ran. Does nothing where the folder is not writable."""
        if self._file is None or not results:
            return
        kept = {
            _query_digest(sql): _to_json(result) for sql, result in results.items() if not _changes(sql, self._changing)
        }
        if not kept:
            return
        stored = self._read() | kept
        with contextlib.suppress(OSError), atomic_file(self._file, sync=False) as file:
            file.write(json.dumps(stored, allow_nan=False))

    def _read(self) -> dict[str, dict]:
        if self._file is None or not self._file.is_file():
            return {}
        try:
            stored = json.loads(self._file.read_text(encoding="utf-8"))
            if isinstance(stored, dict) and all(map(_is_result, stored.values())):
                return stored
        except (OSError, ValueError, RecursionError):
            pass
        return {}  # missing or damaged: rewritten


# A date function without a time, or with the one called now, reads the clock; strftime has its format first.
_CHANGING = re.compile(
    r"""\bnow\b | \bcurrent_(?:date|time|timestamp)\b | \brandom(?:blob)?\b
    | \b(?:date|time|datetime|julianday|unixepoch)\s*\(\s*\) | \bstrftime\s*\(\s*(?:'[^']*'|"[^"]*")\s*\)""",
    re.VERBOSE | re.IGNORECASE,
)


def _changes(sql: str, views: Sequence[str]) -> bool:
    """Return whether the result of `sql` may be another one tomorrow, by itself or by one of `views`."""
    lower = sql.lower()
    return bool(_CHANGING.search(sql)) or any(view in lower for view in views)


def _changing_views(database: str | Path) -> list[str]:
    """Return the names, in lower case, of a database's views whose content changes with time."""
    try:
        with contextlib.closing(open_read_only(database)) as connection:
            rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type = 'view'")
            waiting = [(name.lower(), sql) for name, sql in rows.fetchall()]
    except sqlite3.Error:
        return []
    found: list[str] = []
    while more := [name for name, sql in waiting if _changes(sql, found)]:
        found += more
        waiting = [(name, sql) for name, sql in waiting if name not in more]
    return found


def _digest(database: str | Path, limits: Limits) -> str:
    with open(database, "rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    parts = [FORMAT, content, asdict(limits), sqlite3.sqlite_version]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _query_digest(sql: str) -> str:
    return hashlib.sha256(sql.encode("utf-8", "surrogatepass")).hexdigest()


def _is_result(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("columns"), list)
        and isinstance(value.get("rows"), list)
        and set(map(type, value["rows"])) <= {list}
        and isinstance(value.get("plain"), bool)
        and isinstance(value.get("lossy"), bool)
        and isinstance(value.get("seconds"), float)
    )


def _to_json(result: Result) -> dict:
    cells = list(itertools.chain.from_iterable(result.rows))
    kinds = set(map(type, cells))
    plain = bytes not in kinds and not (float in kinds and any(cell in _INFINITE for cell in cells))
    rows: Iterable = result.rows if plain else [list(map(_cell_to_json, row)) for row in result.rows]
    return {"columns": result.columns, "rows": rows, "plain": plain, "seconds": result.seconds, "lossy": result.lossy}


def _from_json(stored: dict) -> Result:
    rows: Iterable[tuple] = map(tuple, stored["rows"])
    if not stored["plain"]:
        rows = (tuple(map(_cell_from_json, row)) for row in rows)
    return Result(tuple(stored["columns"]), tuple(rows), None, None, stored["seconds"], lossy=stored["lossy"])


_INFINITE = (float("inf"), float("-inf"))


def _cell_to_json(cell: object) -> object:
    """Return a cell as JSON; what JSON cannot represent, as an object."""
    if isinstance(cell, bytes):
        return {"blob": cell.hex()}
    if cell in _INFINITE:
        return {"float": str(cell)}
    return cell


def _cell_from_json(value: object) -> object:
    if isinstance(value, dict):
        return bytes.fromhex(value["blob"]) if "blob" in value else float(value["float"])
    return value
