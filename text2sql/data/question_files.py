"""A user's own file of questions: JSON lines, CSV or Parquet in, records with known names out.

Columns: `question` and `query` (or `sql`, `SQL`); `db_id`, `evidence` (or `hint`) and `split` where there are any.
`query` may be a list of queries in JSON lines and Parquet. Some columns that other tools add are passed over; any other
is refused, so that none that was meant is lost by its spelling.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError, did_you_mean
from text2sql.data.archives import Archive
from text2sql.data.schema import kind_of

ENDINGS = ("jsonl", "csv", "parquet")
# What a column may be called, and what it is called in the records.
NAMES = {
    "question": "question",
    "query": "query",
    "sql": "query",
    "SQL": "query",
    "db_id": "db_id",
    "evidence": "evidence",
    "hint": "evidence",
    "split": "split",
}
# The last two are what pandas makes of an index; a column without a name is also what a spreadsheet leaves at the end.
_PASSED_OVER = frozenset(("id", "index", "question_id", "difficulty", "hardness", "", "__index_level_0__"))
_WANTED = ("question", "query")
_BATCH = 4096  # rows of Parquet read together
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}

Record = dict[str, object]


def iter_records(archive: Archive, name: str) -> Iterator[tuple[str, Record]]:
    """Yield (place for messages, record) of each row of the file `name`; values are as the file has them.

    A record's keys are among NAMES' values; a value that is missing has none. Raises UserError where the file is not
    in the form that its name says, lacks a column or has an unknown one.
    """
    shown = archive.describe(name)
    readers = {"jsonl": _json_lines, "csv": _csv_rows, "parquet": _parquet_rows}
    yield from readers[name.rpartition(".")[2]](archive, name, shown)


def _columns(names: Sequence[str], shown: str) -> dict[str, str]:
    """Return {column: its name in records} of the columns `names`. Raises UserError as `iter_records` does."""
    known: dict[str, str] = {}
    found = ", ".join(map(str, names))
    for name in names:
        if name in _PASSED_OVER:
            continue
        if name not in NAMES:
            raise UserError(
                f"{shown}: unknown column {name!r:.60}{did_you_mean(str(name), NAMES)}; found {found:.200}; "
                f"wanted {_all_names()}"
            )
        twin = next((other for other, field in known.items() if field == NAMES[name]), None)
        if twin is not None:
            raise UserError(f"{shown}: has both {twin!r} and {name!r}, which mean the same; wanted one of them")
        known[name] = NAMES[name]
    for wanted in _WANTED:
        if wanted not in known.values():
            raise UserError(f"{shown}: has no column {wanted!r}; found {found:.200}; wanted {_all_names()}")
    return known


def _all_names() -> str:
    return "question and query (or sql, SQL), and if need be db_id, evidence (or hint), split"


def _json_lines(archive: Archive, name: str, shown: str) -> Iterator[tuple[str, Record]]:
    columns: dict[tuple, dict[str, str]] = {}
    with archive.open_text(name) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"{shown}, line {number}"
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{place}: not valid JSON: {error}") from None
            if not isinstance(value, dict):
                raise UserError(f"{place}: found {kind_of(value)}, wanted an object")
            names = tuple(value)
            if names not in columns:
                columns[names] = _columns(names, place)
            yield place, {field: value[column] for column, field in columns[names].items() if value[column] is not None}


def _csv_rows(archive: Archive, name: str, shown: str) -> Iterator[tuple[str, Record]]:
    with archive.open_text(name) as file:
        # Strict: otherwise an unclosed quote silently swallows the rest of the file.
        rows = csv.reader(file, strict=True)
        try:
            header = next(rows, None)
            if not header:
                raise UserError(f"{shown}: begins with an empty line; wanted the columns' names")
            for separator, separators in _OTHER_SEPARATORS.items():
                if len(header) == 1 and separator in header[0]:
                    raise UserError(f"{shown}: its columns are separated by {separators}; wanted commas")
            columns = _columns(header, shown)
            for row in rows:
                place = f"{shown}, line {rows.line_num}"
                if not any(row):
                    continue  # as spreadsheets leave them
                if len(row) != len(header):
                    raise UserError(f"{place}: found {len(row)} fields, wanted {len(header)} as in the first line")
                values = dict(zip(header, row))
                yield place, {field: values[column] for column, field in columns.items() if values[column]}
        except csv.Error as error:
            raise UserError(f"{shown}, line {rows.line_num}: not valid CSV: {error}") from None


def _parquet_rows(archive: Archive, name: str, shown: str) -> Iterator[tuple[str, Record]]:
    import pyarrow
    import pyarrow.parquet

    try:
        # A folder's file is read where it lies; a zip's has no place to seek in.
        whole = Path(shown) if archive.path.is_dir() else io.BytesIO(archive.read(name))
        with archive.open(name), pyarrow.parquet.ParquetFile(whole) as parquet:
            schema = parquet.schema_arrow
            columns = _columns(schema.names, shown)
            for column in columns:
                kind = schema.field(column).type
                lists = columns[column] == "query" and pyarrow.types.is_list(kind)
                if not _is_text(kind.value_type if lists else kind):
                    raise UserError(f"{shown}: column {column!r} is of type {kind}, wanted string")
            number = 0
            for batch in parquet.iter_batches(_BATCH, columns=list(columns)):
                for row in batch.to_pylist():
                    number += 1
                    record = {field: row[column] for column, field in columns.items() if row[column] is not None}
                    yield f"{shown}, row {number}", record
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        raise UserError(f"{shown}: not a valid Parquet file: {' '.join(str(error).split())}") from None


def _is_text(kind: Any) -> bool:
    """Return whether values of an Arrow type are texts, or all missing."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return any(
        is_kind(kind) for is_kind in (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    )
