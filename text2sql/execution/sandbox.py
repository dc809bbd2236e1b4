"""One untrusted SQL text on one SQLite database, in this process, whose SQLite heap limit stays set.

`text2sql.execution.executor` runs this in worker processes, and lists what all of it guards against.
"""

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from text2sql.data.in_use import pending_changes

MAX_SQL_BYTES = 100_000
MAX_VALUE_BYTES = 250_000  # Spider's longest value has 213; searching one such value in another is still quick
MAX_DATABASE_BYTES = 128 * 1024 * 1024  # of a database that is read into memory
MAX_HEAP_BYTES = 512 * 1024 * 1024 + MAX_DATABASE_BYTES
MAX_MESSAGE = 1_000  # characters: SQLite's messages quote names of any length
CELL_BYTES = 32  # a cell's overhead besides its text or bytes
STEPS_BETWEEN_CHECKS = 1_000
STEPS_BEFORE_FORESIGHT = 500_000  # some 20 ms: longer queries are worth an EXPLAIN

_SQLITE_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: MAX_VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: MAX_SQL_BYTES,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 250,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 250_000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    # SQLite's own defaults: beyond them a query fails on a plain connection too.
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 1_000,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 500,
    sqlite3.SQLITE_LIMIT_COLUMN: 2_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 127,
}

# Functions that compute from their arguments alone, or tell the time or a random number.
_FUNCTIONS = frozenset(
    """
    abs acos acosh asin asinh atan atan2 atanh avg bm25 ceil ceiling changes char coalesce concat concat_ws cos cosh
    count cume_dist current_date current_time current_timestamp date datetime degrees dense_rank exp first_value floor
    format glob group_concat hex highlight if ifnull iif instr json json_array json_array_insert json_array_length
    json_error_position json_extract json_group_array json_group_object json_insert json_object json_patch json_pretty
    json_quote json_remove json_replace json_set json_type json_valid jsonb jsonb_array jsonb_array_insert jsonb_extract
    jsonb_group_array jsonb_group_object jsonb_insert jsonb_object jsonb_patch jsonb_remove jsonb_replace jsonb_set
    julianday lag last_insert_rowid last_value lead length like likelihood likely ln log log10 log2 lower ltrim match
    max median min mod nth_value ntile nullif octet_length percent_rank percentile percentile_cont percentile_disc pi
    pow power printf quote radians random randomblob rank regexp replace round row_number rtrim sign sin sinh snippet
    soundex sqlite_version sqrt strftime string_agg substr substring sum tan tanh time timediff total total_changes trim
    trunc typeof unhex unicode unistr unistr_quote unixepoch unlikely upper zeroblob -> ->>
    """.split()
)
_TABLE_FUNCTIONS = ("json_each", "json_tree")
_OWN_MODULE = re.compile(r"\busing\s+(?:fts[345]|rtree|rtree_i32|geopoly)\b", re.IGNORECASE)
_PRAGMAS_OF_FULL_TEXT = ("data_version", "page_size")
_CATALOGUE = ("sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_temp_schema")

# The authorizer's action codes, as SQLite's documentation lists them.
_ACTIONS = {
    getattr(sqlite3, f"SQLITE_{name}"): name.replace("_", " ")
    for name in """
    CREATE_INDEX CREATE_TABLE CREATE_TEMP_INDEX CREATE_TEMP_TABLE CREATE_TEMP_TRIGGER CREATE_TEMP_VIEW CREATE_TRIGGER
    CREATE_VIEW DELETE DROP_INDEX DROP_TABLE DROP_TEMP_INDEX DROP_TEMP_TABLE DROP_TEMP_TRIGGER DROP_TEMP_VIEW
    DROP_TRIGGER DROP_VIEW INSERT PRAGMA TRANSACTION UPDATE ATTACH DETACH ALTER_TABLE REINDEX ANALYZE CREATE_VTABLE
    DROP_VTABLE SAVEPOINT READ FUNCTION
    """.split()
}

# Operations of whose constants EXPLAIN shows 16 digits, or what comes before a NUL.
_NOT_SHOWN_WHOLE = frozenset(("Real", "Blob"))
_NUMBERED = re.compile(r":\d+$")
_FIRST_WORD = re.compile(r"(?:[\s;\ufeff]|--[^\n]*+|/\*(?s:.*?)\*/)*+(\w*)")


@dataclass(frozen=True)
class Limits:
    """What one query may cost: SQLite steps, seconds, and the rows and megabytes (10^6 bytes) of its result.

    Seconds are CPU time, not wall-clock time: a busy or stalled machine costs a query nothing. A cell
    counts for 32 bytes and the length of its text. Raises ValueError where a limit is not positive.
    """

    max_steps: int = field(default=50_000_000, metadata={"help": "SQLite virtual-machine steps of one query"})
    timeout_s: float = field(default=30, metadata={"help": "seconds of the processor's time for one query"})
    max_rows: int = field(default=100_000, metadata={"help": "rows of one result"})
    max_megabytes: float = field(default=64, metadata={"help": "megabytes of one result"})

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name}: found {value}, wanted a number above 0")


@dataclass(frozen=True)
class Purpose:
    """What the caller needs of a result, so that a long query may stop early where that is already known.

    `widths`: the numbers of columns that a useful result may have (None: any). `known`: queries whose results
    the caller has.
    """

    widths: frozenset[int] | None = None
    known: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What came of one query: its columns' names and its rows, or an error.

    Cells are int, float, str, bytes or None; text is decoded as UTF-8 with errors ignored, as the official evaluator
    does, and `lossy` says whether there were any. `seconds` are the processor's. `error_kind` is None for rows, else
    - sqlite: SQLite's own message (syntax, unknown names, anything else it says);
    - limit: too many steps, too much time or memory, or too long a text or pattern;
    - too_large: the result, or one value on the way to it;
    - forbidden: an operation that the sandbox refuses; the message names it;
    - multiple: more than one statement; empty: no statement; invalid_text: NUL, or text that UTF-8 cannot hold;
    - crash: the worker process ended while running it;
    - width: stopped early: its number of columns is of no use to the caller (`Purpose.widths`).
    `same_as` is a query among `Purpose.known` that gives these very rows, which are not given again.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple, ...]
    error: str | None
    error_kind: str | None
    seconds: float
    same_as: str | None = None
    lossy: bool = False


def failure(kind: str, message: str, started: float) -> Result:
    """Return the result of a query that began at `started` (`time.process_time`) and gave no rows."""
    return Result((), (), message[:MAX_MESSAGE], kind, time.process_time() - started)


ANY_PURPOSE = Purpose()


class Sandbox:
    """One database, open for reading and nothing else.

    With `in_memory`, a database that is not too large is read into memory first; otherwise only where it is asked.
    """

    def __init__(self, database: str | os.PathLike, in_memory: bool = True) -> None:
        if not os.path.isfile(database):
            raise sqlite3.OperationalError("no such file")
        if pending := pending_changes(database):
            raise sqlite3.OperationalError(f"{os.path.basename(pending)} beside it holds changes, which are not read")
        self._database = database
        self._second: Sandbox | None = None
        self._lossy = False
        self._connection = connection = _open_copy(database) if in_memory else _open_file(database)
        try:
            connection.text_factory = self._decode
            for pragma in (f"hard_heap_limit={MAX_HEAP_BYTES}", "query_only=ON", "mmap_size=0"):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            for table in [*(f"{function}('[]')" for function in _TABLE_FUNCTIONS), *_virtual_tables(connection)]:
                # SQLite creates these tables on first use, which the authorizer would see as a change to the schema.
                with contextlib.suppress(sqlite3.Error):
                    connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchall()
            for limit, value in _SQLITE_LIMITS.items():
                connection.setlimit(limit, value)
        except BaseException:
            connection.close()
            raise
        self._readable = names.union(_TABLE_FUNCTIONS, _CATALOGUE)
        self._refused: str | None = None
        connection.set_authorizer(self._authorize)

    def close(self) -> None:
        self._connection.close()
        if self._second is not None:
            self._second.close()

    def run(self, sql: str, limits: Limits, purpose: Purpose = ANY_PURPOSE) -> Result:
        """Run one text. Afterwards the sandbox can run another."""
        started = time.process_time()
        try:
            size = len(sql.encode("utf-8"))
        except UnicodeEncodeError as error:
            return failure("invalid_text", f"not text that UTF-8 can hold: {error.reason}", started)
        if "\0" in sql:
            return failure("invalid_text", "the query contains a NUL character", started)
        if size > MAX_SQL_BYTES:
            return failure("limit", f"the query is {size} bytes long, more than {MAX_SQL_BYTES}", started)
        first_word = _FIRST_WORD.match(sql)[1].upper()  # type: ignore[index]  # it matches any text
        self._refused, self._lossy = None, False
        meter = _Meter(limits, lambda: self._foresee(sql, purpose, started))
        self._connection.set_progress_handler(meter, meter.interval)
        try:
            cursor = self._connection.execute(sql)
            if cursor.description is None:
                return failure("empty", "the query holds no statement", started)
            if first_word in ("EXPLAIN", "PRAGMA"):
                return failure("forbidden", f"{first_word} is not allowed", started)
            columns = tuple(column[0] for column in cursor.description)
            rows, too_large = _fetch(cursor, limits)
            if too_large:
                return failure("too_large", too_large, started)
            return Result(columns, rows, None, None, time.process_time() - started, lossy=self._lossy)
        except Exception as error:
            if meter.foreseen:
                return meter.foreseen
            if self._refused:
                refused = self._refused if first_word in ("", "SELECT", "WITH", "VALUES") else first_word
                return failure("forbidden", f"{refused} is not allowed", started)
            return failure(*_explain(error, meter), started)
        finally:
            self._connection.set_progress_handler(None, 0)

    def _foresee(self, sql: str, purpose: Purpose, started: float) -> Result | None:
        """Return the result of the running query `sql` ahead of time, or None if it cannot be known.

        The same program of SQLite's virtual machine, on the same file, gives the same rows in the same steps.
        """
        if purpose == ANY_PURPOSE:
            return None
        try:
            if self._second is None:
                # SQLite forbids the use of a connection from its own progress handler.
                self._second = Sandbox(self._database, in_memory=False)
            program = self._second.program(sql)
            width = next((operation[3] for operation in program if operation[1] == "ResultRow"), None)
            if width is None:
                return None
            if purpose.widths is not None and width not in purpose.widths:
                wanted = " or ".join(map(str, sorted(purpose.widths)))
                steps = f"not run beyond {STEPS_BEFORE_FORESIGHT} SQLite steps"
                return failure("width", f"{width} columns, where {wanted} are wanted: {steps}", started)
            if not _NOT_SHOWN_WHOLE.isdisjoint(operation[1] for operation in program):
                return None
            for known in purpose.known:
                if self._second.program(known) == program and (columns := self._second.columns(sql)):
                    return Result(columns, (), None, None, time.process_time() - started, known)
        except (sqlite3.Error, sqlite3.Warning, OSError, MemoryError):
            pass  # no early result
        return None

    def program(self, sql: str) -> list[tuple]:
        """Return the virtual machine's operations for a query, or nothing where EXPLAIN does not take it."""
        try:
            return [row[:7] for row in self._connection.execute(f"EXPLAIN {sql}")]
        except (sqlite3.Error, sqlite3.Warning):
            return []

    def columns(self, sql: str) -> tuple[str, ...]:
        """Return the columns' names of a query, without running it, or nothing where they cannot be had so."""
        self._connection.set_progress_handler(lambda: True, STEPS_BETWEEN_CHECKS)
        try:
            description = self._connection.execute(f"SELECT * FROM ({sql}\n) LIMIT 0").description
        finally:
            self._connection.set_progress_handler(None, 0)  # it would stop later queries' programs as well
        names = tuple(column[0] for column in description)
        return () if any(map(_NUMBERED.search, names)) else names  # so a subquery tells equal names apart

    def _decode(self, text: bytes) -> str:
        try:
            return text.decode()
        except UnicodeDecodeError:
            self._lossy = True
            return text.decode(errors="ignore")

    def _authorize(
        self, action: int, first: str | None, second: str | None, schema: str | None, source: str | None
    ) -> int:
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return sqlite3.SQLITE_OK
        # A table of which no column is read comes with an empty column, also where it is a WITH table of the query.
        if action == sqlite3.SQLITE_READ and (first in self._readable or not second):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FUNCTIONS:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_PRAGMA and first in _PRAGMAS_OF_FULL_TEXT and second is None:
            return sqlite3.SQLITE_OK
        if self._refused is None:
            if action == sqlite3.SQLITE_UPDATE and first in _CATALOGUE:  # so looks a virtual table's first use
                self._refused = "a virtual table"
            else:
                self._refused = " ".join(filter(None, (_ACTIONS.get(action, f"action {action}"), first, second)))
        return sqlite3.SQLITE_DENY


def _virtual_tables(connection: sqlite3.Connection) -> list[str]:
    """Return the names, quoted, of the virtual tables of the modules that compute from their shadow tables alone."""
    return [
        '"' + name.replace('"', '""') + '"'
        for name, sql in connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND rootpage = 0")
        if _OWN_MODULE.search(sql or "")
    ]


def _open_file(database: str | os.PathLike) -> sqlite3.Connection:
    uri = Path(database).absolute().as_uri() + "?mode=ro&immutable=1"
    # No statement is cached: a cached statement keeps its step counter.
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, cached_statements=0)
    connection.execute("PRAGMA temp_store=MEMORY")
    return connection


def _open_copy(database: str | os.PathLike) -> sqlite3.Connection:
    """Open a copy of the database in memory, by a part of SQLite that knows no files.

    Temporary storage is in memory too, but in SQLite's format for files, which sorts a large table in runs as large as
    SQLite's own cache: half the time of its format for memory. A run of a megabyte, SQLite's least, fits the CPU's
    cache; its default are two.
    """
    size = os.path.getsize(database)
    if not 0 < size <= MAX_DATABASE_BYTES or not hasattr(sqlite3.Connection, "deserialize"):
        return _open_file(database)
    content = bytearray(Path(database).read_bytes())
    if content[18:20] == b"\2\2":
        content[18:20] = b"\1\1"  # a file in WAL mode; as for an immutable file, what its WAL holds does not count
    connection = sqlite3.connect("file:copy?vfs=memdb", uri=True, isolation_level=None, cached_statements=0)
    try:
        connection.execute("PRAGMA temp_store=FILE")
        connection.deserialize(content)
        connection.execute("PRAGMA cache_size=-500")  # `deserialize` sets it back
    except BaseException:
        connection.close()
        raise
    return connection


class _Meter:
    """SQLite's progress handler: called every `interval` steps, stops the query once a limit is passed.

    Once, at a certain step, it asks `foresee` for the query's result, and stops where it gets one.
    """

    def __init__(self, limits: Limits, foresee: Callable[[], Result | None]) -> None:
        self.interval = min(STEPS_BETWEEN_CHECKS, limits.max_steps)
        self.exceeded: str | None = None
        self.foreseen: Result | None = None
        self._foresee = foresee
        self._limits = limits
        self._steps = 0
        self._deadline = time.process_time() + limits.timeout_s

    def __call__(self) -> bool:
        self._steps += self.interval
        if self._steps >= self._limits.max_steps:
            self.exceeded = f"{self._limits.max_steps} SQLite steps were not enough"
        elif time.process_time() > self._deadline:
            self.exceeded = f"{self._limits.timeout_s:g} seconds of processor time were not enough"
        elif self._steps == STEPS_BEFORE_FORESIGHT:
            self.foreseen = self._foresee()
        return self.exceeded is not None or self.foreseen is not None


def _explain(error: Exception, meter: _Meter) -> tuple[str, str]:
    """Return the kind of an error that stopped a query, and what to say of it."""
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_INTERRUPT and meter.exceeded:
        return "limit", meter.exceeded
    if isinstance(error, MemoryError):
        return "limit", f"{MAX_HEAP_BYTES >> 20} MiB of memory were not enough"
    if code == sqlite3.SQLITE_TOOBIG:
        return "too_large", f"a value is larger than {MAX_VALUE_BYTES} bytes"
    message = str(error)
    if message == "LIKE or GLOB pattern too complex":
        return "limit", message
    if message == "You can only execute one statement at a time.":
        return "multiple", message
    return "sqlite", message


def _fetch(cursor: sqlite3.Cursor, limits: Limits) -> tuple[tuple[tuple, ...], str | None]:
    """Return the rows of `cursor`, or none and which limit they break."""
    rows = []
    left = limits.max_megabytes * 1_000_000
    for row in cursor:
        rows.append(row)
        left -= CELL_BYTES * len(row) + sum(len(cell) for cell in row if isinstance(cell, (str, bytes)))
        if len(rows) > limits.max_rows:
            return (), f"the result has more than {limits.max_rows} rows"
        if left < 0:
            return (), f"the result is larger than {limits.max_megabytes:g} megabytes"
    return tuple(rows), None
