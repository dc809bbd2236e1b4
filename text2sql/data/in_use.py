"""SQLite files that an application has open: what it has not yet written into the file itself is read too.

Worker processes import this: what only copying needs is imported there.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from text2sql.core.errors import UserError

SIDE_FILES = ("-wal", "-journal")
COPY_TRIES = 3
PAUSE_S = 0.2  # longer from try to try

_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")  # of a journal that is not spent


def pending_changes(path: str | os.PathLike) -> str | None:
    """Return the file beside a database that holds changes not yet in it, or a transaction to roll back, if any."""
    if not os.path.isfile(path):
        return None
    wal, journal = (os.fspath(path) + ending for ending in SIDE_FILES)
    with contextlib.suppress(OSError):
        if os.path.getsize(wal):
            return wal
    with contextlib.suppress(OSError), open(journal, "rb") as file:
        if file.read(len(_JOURNAL_MAGIC)) == _JOURNAL_MAGIC:
            return journal
    return None


@contextlib.contextmanager
def readable(path: str | Path) -> Iterator[Path]:
    """Yield a file to read the database at `path` from: itself, or a copy that has its pending changes.

    The copy lies in a temporary folder and is removed; nothing is written beside the original. Raises UserError
    as `copy_with_changes` does.
    """
    if pending_changes(path) is None:
        yield Path(path)
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="text2sql-") as folder:
        copy = Path(folder) / Path(path).name
        copy_with_changes(Path(path), copy)
        yield copy


def copy_with_changes(path: Path, copy: Path) -> None:
    """Copy a database and its pending changes, while neither changes, into the one file `copy`.

    Raises UserError where the database is written to without a pause, or is none.
    """
    import shutil
    import time

    for attempt in range(COPY_TRIES):
        time.sleep(attempt * PAUSE_S)
        before = state_of(path)
        for ending in ("", *SIDE_FILES):
            Path(f"{copy}{ending}").unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{path}{ending}", f"{copy}{ending}")
        if state_of(path) == before:
            return merge_changes(copy, str(path))
    from text2sql.core.errors import UserError

    raise UserError(
        f"{path}: changed during each of {COPY_TRIES} attempts to copy it; close what writes to it, or copy it with "
        "the sqlite3 shell's .backup"
    )


def merge_changes(path: Path, shown: str) -> None:
    """Write into the database at `path` what the files beside it hold, and remove those."""
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    except sqlite3.Error as error:
        raise not_sqlite(shown, error) from None
    finally:
        for ending in (*SIDE_FILES, "-shm"):
            Path(f"{path}{ending}").unlink(missing_ok=True)


def not_sqlite(shown: str, error: sqlite3.Error) -> "UserError":
    """Return what to raise for a file that SQLite does not read, and what that mostly means."""
    meanings = {sqlite3.SQLITE_NOTADB: ", but encrypted or of another kind", sqlite3.SQLITE_CORRUPT: " or cut short"}
    meaning = meanings.get(getattr(error, "sqlite_errorcode", None) or 0, "")
    from text2sql.core.errors import UserError

    return UserError(f"{shown}: not a valid SQLite file: {error}{meaning}")


def state_of(path: Path) -> list:
    """Return what changes whenever a connection writes to a database: sizes, times, change counter, the log's salts."""
    state = []
    for ending in ("", *SIDE_FILES):
        with contextlib.suppress(FileNotFoundError), open(f"{path}{ending}", "rb") as file:
            status = os.fstat(file.fileno())
            state.append((ending, status.st_ino, status.st_size, status.st_mtime_ns, file.read(100)))
    return state
