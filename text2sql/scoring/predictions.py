"""Files of predicted SQL: any system's, and those that this project's own stage writes."""

import gzip
import io
import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.files import iter_jsonl, read_jsonl
from text2sql.core.journal import HALVED, STRENGTH
from text2sql.core.paths import DEV
from text2sql.data.spider import Example

OWN_FIELDS = {"index": int, "sql": str}  # of each line that our stage writes

_GZIP = b"\x1f\x8b"
_BIRD = re.compile(r"\t-+ bird -+\t(?P<db_id>.*)\Z", re.DOTALL)  # what follows a query in BIRD's dictionary
_KINDS = {dict: "an object", list: "an array", str: "a text", type(None): "null", bool: "a truth value"}


def read_predictions(
    path: Path, examples: Sequence[Example], stage: str | None = None, field: str = "sql", split: Path = DEV
) -> list[str]:
    """Return the predicted SQL in `path`, one text an example, without space around it.

    The file holds one query a line, one JSON object or JSON text a line, a JSON array of objects or texts, or BIRD's
    dictionary from an example's index to its query, each with or without a byte order mark, compressed by gzip or not.
    Of an object, `field` is read: `sql`, or `raw` for the answer that it was taken from. `stage` is the stage of ours
    that wrote the file, if any, and `split` the file of its examples: all lines are objects then, and have
    `OWN_FIELDS`. Raises UserError where the file cannot be read, has another number of predictions than there are
    examples, or says itself that one belongs to another example.
    """
    if stage:
        values = [(f"line {number}", value) for number, value in enumerate(read_jsonl(path, OWN_FIELDS), start=1)]
        predictions = _of_values(path, values, examples, field, f" as in {split}; run {stage} again")
    else:
        text = text_of(path)
        found = _json_values(path, text, examples)
        if found is None:
            predictions = _of_text(text.split("\n"), len(examples))
        else:
            predictions = _of_values(path, found, examples, field, ": they have to come in the split's order")
    if len(predictions) != len(examples):
        wanted = f" as {split} has; run {stage} again" if stage else ", one a line for each example"
        first = "" if stage or not predictions else f" (the first: {predictions[0]!r:.80})"
        raise UserError(f"{path}: found {len(predictions)} predictions, wanted {len(examples)}{wanted}{first}")
    return predictions


def asked_in_halves(path: Path) -> int:
    """Return how many of the predictions that our stage wrote to `path` are of batches halved for lack of memory."""
    return sum(HALVED in line for line in read_jsonl(path, OWN_FIELDS))


def strength_of(path: Path) -> dict[str, float]:
    """Return `{"strength": 0.5}` where our stage scaled the adapter whose predictions it wrote to `path`, else {}."""
    first = next(iter_jsonl(path, OWN_FIELDS), {})
    return {STRENGTH: first[STRENGTH]} if STRENGTH in first else {}


def text_of(path: Path) -> str:
    """Return the text of a file; one that gzip compressed, as result sets keep theirs, is told by its first bytes.

    Raises UserError where it cannot be read.
    """
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP):
            content = gzip.decompress(content)
        return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig").read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: damaged: {error}; wanted a whole file of gzip") from None
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8: {error}") from None


def _json_values(path: Path, text: str, examples: Sequence[Example]) -> list[tuple[str, Any]] | None:
    """Return the JSON values in a file, each with its place, or None where the file is one of plain queries."""
    whole = _parsed(text) if text.lstrip()[:1] in ("{", "[") else None
    if isinstance(whole, list):
        return [(f"item {number}", value) for number, value in enumerate(whole, start=1)]
    if isinstance(whole, dict) and whole and all(key.isdecimal() for key in whole):
        return _of_dictionary(path, whole, examples)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    values = [(number, line, _parsed(line) if line.lstrip()[:1] in ("{", '"') else None) for number, line in lines]
    fitting = sum(isinstance(value, (dict, str)) for _, _, value in values)
    objects = bool(values) and isinstance(values[0][2], dict)
    if not objects and 2 * fitting <= len(values):
        if isinstance(whole, dict):
            raise UserError(f"{path}: found an object with {_names(whole)}, wanted one text an example by its index")
        if text.lstrip()[:1] in ("{", "["):
            raise UserError(f"{path}: begins as JSON does ({text.lstrip().splitlines()[0]!r:.60}), and is none")
        return None
    for number, line, value in values:
        if not isinstance(value, (dict, str)):
            raise UserError(f"{path}, line {number}: not valid JSON, as other lines are: {line.strip()!r:.60}")
    return [(f"line {number}", value) for number, _, value in values]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _of_dictionary(path: Path, whole: dict, examples: Sequence[Example]) -> list[tuple[str, Any]]:
    positions = {example.index: position for position, example in enumerate(examples)}
    by_index = {int(key): value for key, value in whole.items()}
    missing = sorted(set(positions) - set(by_index))
    if missing or len(by_index) != len(examples):
        what = f"none for example {missing[0]}" if missing else f"{len(by_index)}"
        raise UserError(f"{path}: found {what} in the dictionary of {len(whole)} predictions, wanted {len(examples)}")
    return [(f"key {example.index}", by_index[example.index]) for example in examples]


def _of_text(lines: list[str], wanted: int) -> list[str]:
    """Return one query a line; empty lines at the end count only where that many are wanted."""
    if not lines[-1]:
        lines = lines[:-1]  # what follows the last line's end
    predictions = [line.strip().split("\t")[0] for line in lines]
    while len(predictions) > wanted and not predictions[-1]:
        predictions.pop()
    return predictions


def _of_values(
    path: Path, values: list[tuple[str, Any]], examples: Sequence[Example], field: str, out_of_order: str
) -> list[str]:
    predictions = []
    for number, (place, value) in enumerate(values):
        said: dict = {}
        if isinstance(value, dict):
            if not isinstance(value.get(field), str):
                raise UserError(
                    f"{path}, {place}: found no text as {field!r}, wanted the predicted query; it has {_names(value)}"
                )
            said, text = value, value[field]
        elif isinstance(value, str):
            bird = _BIRD.search(value)
            said, text = ({"db_id": bird["db_id"].strip()}, value[: bird.start()]) if bird else ({}, value)
        else:
            kind = _KINDS.get(type(value), "a number")
            raise UserError(f"{path}, {place}: found {kind}, wanted a text, or an object with {field!r}")
        for name in ("index", "db_id"):
            if number < len(examples) and name in said and said[name] != getattr(examples[number], name):
                raise UserError(
                    f"{path}, {place}: found {name} {said[name]!r:.60}, wanted {getattr(examples[number], name)!r}"
                    f"{out_of_order}"
                )
        predictions.append(text.strip())
    return predictions


def _names(value: dict) -> str:
    return f"the fields {', '.join(map(repr, value))}"[:100] if value else "no fields"
