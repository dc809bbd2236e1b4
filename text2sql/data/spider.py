"""Spider: its files in, plain records out.

The official layout (Yu et al., 2018): `train_spider.json`, `dev.json`, `tables.json` and
`database/<db_id>/<db_id>.sqlite`, in a folder or a zip, below one top folder or none. A database may also be given
as text, `database/<db_id>/<db_id>.sql`, as in this project's own sample.
"""

import contextlib
import errno
import itertools
import json
import os
import re
import sqlite3
import urllib.parse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from text2sql.core.errors import UserError
from text2sql.core.files import read_json
from text2sql.data.archives import Archive, is_safe_name, open_archive

SPLIT_FILES = {"train": "train_spider.json", "dev": "dev.json"}

# Enough to build a database of some hundred megabytes; a script that never ends is stopped.
_MAX_BUILD_STEPS = 2_000_000_000
# What SQLite's own check reports about values that a careless schema forbids: the file is not damaged by them.
_HARMLESS = ("NULL value in ", "CHECK constraint failed", "NUMERIC value in ", "TEXT value in ")


@dataclass(frozen=True)
class Example:
    """A question about a database and the SQL that answers it.

    `index` is its position in the official split; `sql` the official parse, where the file carries it.
    """

    index: int
    db_id: str
    question: str
    query: str
    sql: dict | None = None


@dataclass(frozen=True)
class Column:
    """A column; `type` as the schema declares it, maybe empty."""

    name: str
    type: str


@dataclass(frozen=True)
class Table:
    """A table; `primary_key` names its key's columns, in order, maybe none."""

    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()


@dataclass(frozen=True)
class ForeignKey:
    """A column that refers to a column of another table."""

    table: str
    column: str
    ref_table: str
    ref_column: str


@dataclass(frozen=True)
class Schema:
    """A database's tables and how they hang together."""

    db_id: str
    tables: tuple[Table, ...]
    foreign_keys: tuple[ForeignKey, ...] = ()

    def to_dict(self) -> dict:
        """Return the schema as JSON can hold it."""
        value = asdict(self)
        value["tables"] = [
            {**table, "columns": list(table["columns"]), "primary_key": list(table["primary_key"])}
            for table in value["tables"]
        ]
        value["foreign_keys"] = list(value["foreign_keys"])
        return value

    @classmethod
    def from_dict(cls, value: Any) -> "Schema":
        """Return the schema that `to_dict` wrote. Raises UserError where `value` is no such thing."""
        if not isinstance(value, dict):
            raise UserError(f"not a schema: found {_kind(value)}, wanted an object with db_id, tables and foreign_keys")
        try:
            schema = cls(
                value["db_id"],
                tuple(
                    Table(
                        table["name"],
                        tuple(Column(column["name"], column["type"]) for column in table["columns"]),
                        tuple(table["primary_key"]),
                    )
                    for table in value["tables"]
                ),
                tuple(
                    ForeignKey(key["table"], key["column"], key["ref_table"], key["ref_column"])
                    for key in value["foreign_keys"]
                ),
            )
        except KeyError as error:
            raise UserError(f"not a schema: has no field {error}") from None
        except (TypeError, IndexError) as error:
            raise UserError(f"not a schema: {error}") from None
        texts = [schema.db_id]
        for table in schema.tables:
            texts += [table.name, *table.primary_key]
            texts += [text for column in table.columns for text in (column.name, column.type)]
        for key in schema.foreign_keys:
            texts += [key.table, key.column, key.ref_table, key.ref_column]
        for text in texts:
            if not isinstance(text, str):
                raise UserError(f"not a schema: found {text!r:.60} where it wants a text")
        return schema


class SpiderSource:
    """One copy of Spider, open for reading."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    @property
    def path(self) -> Path:
        """The folder or zip, for messages."""
        return self._archive.path

    def examples(self, split: Literal["train", "dev"], limit: int | None = None) -> list[Example]:
        """Return the first `limit` examples of a split, all by default. Raises UserError as `iter_examples` does."""
        return list(self.iter_examples(split, limit))

    def iter_examples(self, split: Literal["train", "dev"], limit: int | None = None) -> Iterator[Example]:
        """Yield a split's examples one by one; the file is never held in memory as a whole.

        Raises UserError that names file and example where one is not right, or where there is none.
        """
        name = SPLIT_FILES[split]
        shown = self._archive.describe(name)
        index = -1
        with self._archive.open_text(name) as file:
            for index, record in enumerate(itertools.islice(_iter_objects(file, shown, "example"), limit)):
                yield _example(index, record, f"{shown}, example {index}")
        if index < 0:
            raise UserError(f"{shown}: holds no examples, wanted at least one")

    def database_ids(self) -> set[str]:
        """Return the ids of the databases that are there."""
        return {name for name in self._archive.names("database") if self._database_file(name)}

    def extract_database(self, db_id: str, destination: Path) -> None:
        """Write a database to `destination` as an SQLite file, whole or not at all.

        Raises UserError where the database is missing, is no SQLite file or damaged, or where its SQL text fails.
        """
        name = self._database_file(db_id)
        if name is None:
            raise UserError(f"{self._archive.describe(f'database/{db_id}/{db_id}.sqlite')}: no such file")
        shown = self._archive.describe(name)
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            if name.endswith(".sql"):
                with self._archive.open_text(name) as file:
                    _build_database(file.read(), destination, shown)
            else:
                self._archive.copy(name, destination)
            _check_database(destination, shown)
        except BaseException:
            destination.unlink(missing_ok=True)
            raise

    def tables_json(self) -> dict[str, dict]:
        """Return the entries of `tables.json` by db_id; none where there is no such file."""
        if not self._archive.has("tables.json"):
            return {}
        shown = self._archive.describe("tables.json")
        entries = {}
        with self._archive.open_text("tables.json") as file:
            for index, entry in enumerate(_iter_objects(file, shown, "entry")):
                if not isinstance(entry.get("db_id"), str):
                    raise UserError(f"{shown}, entry {index}: has no text 'db_id'")
                entries[entry["db_id"]] = entry
        return entries

    def _database_file(self, db_id: str) -> str | None:
        for ending in ("sqlite", "sql"):
            name = f"database/{db_id}/{db_id}.{ending}"
            if self._archive.has(name):
                return name
        return None


@contextlib.contextmanager
def open_spider(path: str | Path) -> Iterator[SpiderSource]:
    """Open a folder or zip in Spider's layout. Raises UserError where it is missing, damaged, or something else."""
    with open_archive(path) as archive:
        archive.enter_top_folder(lambda here: here.has("dev.json"), "dev.json")
        yield SpiderSource(archive)


def read_schemas(path: str | Path) -> dict[str, Schema]:
    """Return {db_id: schema} of the file that `prepare` wrote. Raises UserError where it is not one."""
    return {db_id: Schema.from_dict(schema) for db_id, schema in read_json(path).items()}


def schema_from_sqlite(path: str | Path, db_id: str) -> Schema:
    """Return the schema of an SQLite file, its tables in the order of their creation.

    Raises UserError where the file cannot be read.
    """
    tables, foreign_keys = [], []
    try:
        with contextlib.closing(_open_read_only(path)) as connection:
            names = connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
                "ORDER BY rowid"
            ).fetchall()
            for (table,) in names:
                rows = connection.execute("SELECT name, type, pk FROM pragma_table_info(?)", (table,)).fetchall()
                key = tuple(name for name, _, position in sorted(rows, key=lambda row: row[2]) if position)
                tables.append(Table(table, tuple(Column(name, kind) for name, kind, _ in rows), key))
            keys_of = {table.name.lower(): table.primary_key for table in tables}
            for (table,) in names:
                for position, column, ref_table, ref_column in connection.execute(
                    'SELECT seq, "from", "table", "to" FROM pragma_foreign_key_list(?) ORDER BY id DESC, seq', (table,)
                ).fetchall():
                    ref_key = keys_of.get(ref_table.lower(), ())
                    if ref_column is None and position < len(ref_key):
                        # `REFERENCES other` without a column means the other table's primary key.
                        ref_column = ref_key[position]
                    if ref_column is not None:
                        foreign_keys.append(ForeignKey(table, column, ref_table, ref_column))
    except sqlite3.Error as error:
        raise UserError(f"{path}: cannot read the schema of database {db_id}: {error}") from None
    return Schema(db_id, tuple(tables), tuple(foreign_keys))


def schema_from_tables_entry(entry: dict) -> Schema:
    """Return the schema that an entry of `tables.json` describes. Raises UserError where it contradicts itself."""
    db_id = entry.get("db_id")
    try:
        _text(db_id)
        table_names = entry["table_names_original"]
        # The first column is `*`, of no table.
        columns = [
            (number, Column(_text(name), _text(kind)))
            for (number, name), kind in zip(entry["column_names_original"], entry["column_types"], strict=True)
        ]
        # A key of several columns is a list inside the list.
        key_groups = [key if isinstance(key, list) else [key] for key in entry["primary_keys"]]
        keys = [columns[number] for group in key_groups for number in group]
        tables = tuple(
            Table(
                _text(table),
                tuple(column for number, column in columns if number == position),
                tuple(column.name for number, column in keys if number == position),
            )
            for position, table in enumerate(table_names)
        )
        places = [(table_names[number], column.name) for number, column in columns]
        foreign_keys = tuple(ForeignKey(*places[here], *places[there]) for here, there in entry["foreign_keys"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"tables.json, database {db_id}: not a schema: {type(error).__name__}: {error}") from None
    return Schema(db_id, tables, foreign_keys)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"found {value!r:.60}, wanted a text")
    return value


def _example(index: int, record: dict, shown: str) -> Example:
    for field in ("db_id", "question", "query"):
        if field not in record:
            raise UserError(f"{shown}: has no field {field!r}; wanted db_id, question and query")
        value = record[field]
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{shown}: found {_kind(value)} as {field!r}, wanted a text that is not empty")
        if _SURROGATE.search(value):
            raise UserError(f"{shown}: {field!r} holds half of a surrogate pair, which is no character")
    db_id = record["db_id"]
    if "/" in db_id or not is_safe_name(db_id):
        raise UserError(f"{shown}: found db_id {db_id!r:.60}, wanted a plain file name")
    sql = record.get("sql")
    if sql is not None and not isinstance(sql, dict):
        raise UserError(f"{shown}: found {_kind(sql)} as 'sql', wanted an object (or no such field)")
    return Example(index, db_id, record["question"], record["query"], sql)


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "an empty text" if not value.strip() else "a text"
    names = {dict: "an object", list: "an array", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


_SPACE = re.compile(r"[ \t\r\n]*")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _iter_objects(file: TextIO, shown: str, item: str) -> Iterator[dict]:
    """Yield the objects of the JSON array in `file`, holding little more than one of them in memory.

    Raises UserError that names the place, as the `item` of that number, where the text is not such an array.
    """
    decoder = json.JSONDecoder()
    buffer, position = "", 0

    def read_on() -> bool:
        nonlocal buffer, position
        # Twice as much each time one object does not end, so that a long one costs no more than its length.
        chunk = file.read(max(65536, len(buffer) - position))
        buffer, position = buffer[position:] + chunk, 0
        return bool(chunk)

    def next_character() -> str:
        nonlocal position
        while True:
            position = _SPACE.match(buffer, position).end()
            if position < len(buffer):
                return buffer[position]
            if not read_on():
                return ""

    start = next_character()
    if start != "[":
        found = f"text that begins with {start!r}" if start else "an empty file"
        raise UserError(f"{shown}: found {found}, wanted a JSON array")
    position += 1
    for index in itertools.count():
        start = next_character()
        if index == 0 and start == "]":
            break
        if start != "{":
            found = f"{start!r}" if start else "the end of the file"
            raise UserError(f"{shown}, {item} {index}: found {found}, wanted a JSON object")
        while True:
            try:
                value, position = decoder.raw_decode(buffer, position)
                break
            except (ValueError, RecursionError) as error:
                problem = getattr(error, "msg", None) or str(error)
            if not read_on():
                raise UserError(f"{shown}, {item} {index}: not valid JSON: {problem}")
        yield value
        separator = next_character()
        if separator == "]":
            break
        if separator != ",":
            raise UserError(f"{shown}, {item} {index}: not valid JSON: wanted , or ] after it")
        position += 1
    position += 1
    if next_character():
        raise UserError(f"{shown}: not valid JSON: text after the array's end")


def _open_read_only(path: str | Path) -> sqlite3.Connection:
    address = "file:" + urllib.parse.quote(str(Path(path).absolute())) + "?mode=ro&immutable=1"
    connection = sqlite3.connect(address, uri=True)
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    return connection


def _check_database(path: Path, shown: str) -> None:
    """Raise UserError unless `path` is a sound SQLite file that holds a table."""
    try:
        with contextlib.closing(_open_read_only(path)) as connection:
            problems = [row[0] for row in connection.execute("PRAGMA quick_check(10)") if row[0] != "ok"]
            tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0]
    except sqlite3.Error as error:
        raise UserError(f"{shown}: not a valid SQLite file: {error}") from None
    for problem in problems:
        if not problem.startswith(_HARMLESS):
            raise UserError(f"{shown}: a damaged SQLite file: {' '.join(problem.split())}")
    if not tables:
        raise UserError(f"{shown}: holds no table")


def _build_database(script: str, destination: Path, shown: str) -> None:
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
