"""Files of predicted SQL: any system's, and those that this project's own stage writes."""

import json
from collections.abc import Sequence
from pathlib import Path

from text2sql.core.errors import UserError
from text2sql.core.files import read_jsonl
from text2sql.core.paths import DEV
from text2sql.data.spider import Example

OWN_FIELDS = {"index": int, "sql": str}  # of each line that our stage writes


def read_predictions(path: Path, examples: Sequence[Example], stage: str | None = None) -> list[str]:
    """Return the predicted SQL in `path`, one text an example, without space around it.

    A line is JSON where the first one is a JSON object. `stage` is the stage of ours that wrote the file, if any: all
    lines are JSON then, and have `OWN_FIELDS`. Raises UserError where the file cannot be read, has another number of
    lines than there are examples, or says itself that a line belongs to another example.
    """
    if stage:
        predictions = _of_records(path, read_jsonl(path, OWN_FIELDS), examples, f" as in {DEV}; run {stage} again")
    else:
        lines = _lines(path)
        if _is_json_object(next(filter(str.strip, lines), "")):
            out_of_order = ": lines have to come in the split's order"
            predictions = _of_records(path, read_jsonl(path), examples, out_of_order)
        else:
            predictions = _of_text(lines, len(examples))
    if len(predictions) != len(examples):
        wanted = f" as {DEV} has; run {stage} again" if stage else ", one a line for each example"
        raise UserError(f"{path}: found {len(predictions)} predictions, wanted {len(examples)}{wanted}")
    return predictions


def _lines(path: Path) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().split("\n")
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8: {error}") from None


def _is_json_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _of_text(lines: list[str], wanted: int) -> list[str]:
    """Return one query a line; empty lines at the end count only where that many are wanted."""
    if not lines[-1]:
        lines = lines[:-1]  # what follows the last line's end
    predictions = [line.strip().split("\t")[0] for line in lines]
    while len(predictions) > wanted and not predictions[-1]:
        predictions.pop()
    return predictions


def _of_records(path: Path, records: list[dict], examples: Sequence[Example], out_of_order: str) -> list[str]:
    for number, record in enumerate(records, start=1):
        if not isinstance(record.get("sql"), str):
            raise UserError(f"{path}, line {number}: found no text as 'sql', wanted the predicted query")
    for number, (record, example) in enumerate(zip(records, examples), start=1):
        for field in ("index", "db_id"):
            if field in record and record[field] != getattr(example, field):
                raise UserError(
                    f"{path}, line {number}: found {field} {record[field]!r:.60}, wanted "
                    f"{getattr(example, field)!r}{out_of_order}"
                )
    return [record["sql"].strip() for record in records]
