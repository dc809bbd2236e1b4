"""What a database holds, as a prompt tells it: tables, columns, keys. From an SQLite file or Spider's `tables.json`."""

import contextlib
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.files import read_json
from text2sql.data.databases import open_read_only
from text2sql.data.in_use import pending_changes


@dataclass(frozen=True)
class Column:
    """A column; `type` as the schema declares it, maybe empty; `description` in words, where the benchmark has any."""

    name: str
    type: str
    description: str = ""


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
            {**table, "columns": list(map(_column, table["columns"])), "primary_key": list(table["primary_key"])}
            for table in value["tables"]
        ]
        value["foreign_keys"] = list(value["foreign_keys"])
        return value

    @classmethod
    def from_dict(cls, value: Any) -> "Schema":
        """Return the schema that `to_dict` wrote. Raises UserError where `value` is no such thing."""
        if not isinstance(value, dict):
            found = kind_of(value)
            raise UserError(f"not a schema: found {found}, wanted an object with db_id, tables and foreign_keys")
        try:
            schema = cls(
                value["db_id"],
                tuple(
                    Table(
                        table["name"],
                        tuple(
                            Column(column["name"], column["type"], column.get("description", ""))
                            for column in table["columns"]
                        ),
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
        except (TypeError, IndexError, AttributeError) as error:
            raise UserError(f"not a schema: {error}") from None
        texts = [schema.db_id]
        for table in schema.tables:
            texts += [table.name, *table.primary_key]
            texts += [text for column in table.columns for text in (column.name, column.type, column.description)]
        for key in schema.foreign_keys:
            texts += [key.table, key.column, key.ref_table, key.ref_column]
        for text in texts:
            if not isinstance(text, str):
                raise UserError(f"not a schema: found {text!r:.60} where it wants a text")
        return schema

    def described(self, descriptions: Mapping[tuple[str, str], str]) -> "Schema":
        """Return the schema with its columns' descriptions, {(table, column): text}, names in lower case.

        Without any, those that it has are left out.
        """
        tables = tuple(
            replace(
                table,
                columns=tuple(
                    replace(column, description=descriptions.get((table.name.lower(), column.name.lower()), ""))
                    for column in table.columns
                ),
            )
            for table in self.tables
        )
        return replace(self, tables=tables)


def _column(column: dict) -> dict:
    return column if column["description"] else {"name": column["name"], "type": column["type"]}


def read_schemas(path: str | Path, descriptions: bool = False) -> dict[str, Schema]:
    """Return {db_id: schema} of the file that `prepare` wrote, with `descriptions` of columns or without.

    Raises UserError where it is not one.
    """
    schemas = {db_id: Schema.from_dict(schema) for db_id, schema in read_json(path).items()}
    return schemas if descriptions else {db_id: schema.described({}) for db_id, schema in schemas.items()}


# In the order of creation. table_list is in SQLite from 3.37 on.
_SELECTABLE = """
    SELECT master.name FROM sqlite_master AS master JOIN pragma_table_list AS list
    ON list.schema = 'main' AND list.name = master.name AND master.type IN ('table', 'view')
    WHERE list.type IN ('table', 'view', 'virtual') AND master.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
    ORDER BY master.rowid
"""
_COLUMNS = "SELECT name, type, pk FROM pragma_table_xinfo(?) WHERE hidden IN (0, 2, 3)"


def schema_from_sqlite(path: str | Path, db_id: str) -> Schema:
    """Return the schema of an SQLite file: what can be selected from, in the order of creation.

    That is tables, views and virtual tables; not the shadow tables that virtual ones keep their content in, nor a view
    of something that is gone, nor a virtual table whose module SQLite lacks. Columns are those that SELECT * gives,
    generated ones too. Raises UserError where the file cannot be read, or holds changes in a file beside it.
    """
    tables, foreign_keys = [], []
    if pending := pending_changes(path):
        raise UserError(f"{pending}: holds changes of database {db_id} that its file does not have yet")
    try:
        with contextlib.closing(open_read_only(path)) as connection:
            for (name,) in connection.execute(_SELECTABLE).fetchall():
                table = _table(connection, name)
                if table is not None:
                    tables.append(table)
            keys_of = {table.name.lower(): table.primary_key for table in tables}
            for name in [table.name for table in tables]:
                for position, column, ref_table, ref_column in connection.execute(
                    'SELECT seq, "from", "table", "to" FROM pragma_foreign_key_list(?) ORDER BY id DESC, seq', (name,)
                ).fetchall():
                    ref_key = keys_of.get(ref_table.lower(), ())
                    if ref_column is None and position < len(ref_key):
                        # `REFERENCES other` without a column means the other table's primary key.
                        ref_column = ref_key[position]
                    if ref_column is not None:
                        foreign_keys.append(ForeignKey(name, column, ref_table, ref_column))
    except sqlite3.Error as error:
        raise UserError(f"{path}: cannot read the schema of database {db_id}: {error}") from None
    return Schema(db_id, tuple(tables), tuple(foreign_keys))


def _table(connection: sqlite3.Connection, name: str) -> Table | None:
    try:
        rows = connection.execute(_COLUMNS, (name,)).fetchall()
    except sqlite3.OperationalError:
        rows = []  # what a view selects from, or a virtual table's module, is not there
    rows = [row for row in rows if _selects(connection, name, row[0])]
    key = tuple(column for column, _, position in sorted(rows, key=lambda row: row[2]) if position)
    return Table(name, tuple(Column(column, kind or "") for column, kind, _ in rows), key) if rows else None


def _selects(connection: sqlite3.Connection, table: str, column: str) -> bool:
    """Return whether a column can be had; one generated by a function of the application's own cannot."""
    table, column = ('"' + name.replace('"', '""') + '"' for name in (table, column))
    try:
        connection.execute(f"EXPLAIN SELECT {table}.{column} FROM {table}").close()
    except sqlite3.OperationalError:
        return False
    return True


def schema_from_tables_entry(entry: dict) -> Schema:
    """Return the schema that an entry of `tables.json` describes. Raises UserError where it contradicts itself."""
    db_id = entry.get("db_id")
    try:
        db_id = _text(db_id)
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


def kind_of(value: Any) -> str:
    """Return what a value read from JSON is, in JSON's words."""
    if isinstance(value, str):
        return "an empty text" if not value.strip() else "a text"
    names = {dict: "an object", list: "an array", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
