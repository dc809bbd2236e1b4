"""SQLite files that somebody else made: opened for reading, checked, or built from their SQL text."""

import contextlib
import errno
import itertools
import os
import re
import sqlite3
import urllib.parse
from pathlib import Path

from text2sql.core.errors import UserError
from text2sql.data.in_use import not_sqlite

# Enough to build a database of some hundred megabytes; a script that never ends is stopped.
_MAX_BUILD_STEPS = 2_000_000_000
# What SQLite's own check reports about values that a careless schema forbids: the file is not damaged by them.
_HARMLESS = ("NULL value in ", "CHECK constraint failed", "NUMERIC value in ", "TEXT value in ")

MOST_BROUGHT = 100  # collations and functions of an application's own


def open_read_only(path: str | Path) -> sqlite3.Connection:
    address = "file:" + urllib.parse.quote(str(Path(path).absolute())) + "?mode=ro&immutable=1"
    connection = sqlite3.connect(address, uri=True)
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    return connection


_MISSING = re.compile(
    r"(?:no such|unknown) (?P<kind>collation|function)(?: sequence)?: (?P<name>.+?)(?:\(\))?", re.DOTALL
)


def check_database(path: Path, shown: str) -> list[str]:
    """Raise UserError unless `path` is a sound SQLite file that holds a table.

    Return what its application brought along and plain SQLite lacks, such as `collation LOCALIZED`: the check goes on
    without that, and queries that need it fail.
    """
    brought: list[str] = []
    try:
        with contextlib.closing(open_read_only(path)) as connection:
            while True:
                try:
                    problems = [row[0] for row in connection.execute("PRAGMA quick_check(10)") if row[0] != "ok"]
                    break
                except sqlite3.OperationalError as error:
                    missing = _MISSING.fullmatch(str(error))
                    if not missing or len(brought) == MOST_BROUGHT:
                        raise
                    name = missing["name"]
                    if missing["kind"] == "function":
                        connection.create_function(name, -1, lambda *arguments: None, deterministic=True)
                    else:
                        connection.create_collation(name, lambda one, other: (one > other) - (one < other))
                    brought.append(f"{missing['kind']} {name}")
            tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0]
    except sqlite3.Error as error:
        raise not_sqlite(shown, error) from None
    for problem in problems:
        if not problem.startswith(_HARMLESS):
            raise UserError(f"{shown}: a damaged SQLite file: {' '.join(problem.split())}")
    if not tables:
        raise UserError(f"{shown}: holds no table")
    return brought


def build_database(script: str, destination: Path, shown: str) -> None:
    """Run `script` on a new database at `destination`. It can reach no other file, and has to end."""
    destination.unlink(missing_ok=True)
    # Autocommit, and no fsync: the caller throws the file away where anything fails.
    with contextlib.closing(sqlite3.connect(destination, isolation_level=None)) as connection:
        connection.executescript("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;")
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        steps = itertools.count(1_000_000, 1_000_000)
        connection.set_progress_handler(lambda: next(steps) > _MAX_BUILD_STEPS, 1_000_000)
        try:
            connection.executescript(script)
        except (sqlite3.Error, ValueError) as error:
            # The second is what SQLite makes of a quota and of a limit on the size of files.
            if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(destination)) from None
            raise UserError(f"{shown}: SQLite refuses this text: {error}") from None
        if connection.in_transaction:
            raise UserError(f"{shown}: begins a transaction and does not end it")
