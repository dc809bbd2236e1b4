"""Spider and what is laid out as it or as BIRD is: their files in, plain records out.

The official layout (Yu et al., 2018): `train_spider.json`, `dev.json`, `tables.json` and
`database/<db_id>/<db_id>.sqlite`, in a folder or a zip, below one top folder or none. A database may also be given
as text, `database/<db_id>/<db_id>.sql`, as in this project's own sample. `Spider-DK.json` may stand for `dev.json`, and
Spider-Syn's field for `question`.
BIRD's layout is that of `text2sql.data.layouts`.
"""

import contextlib
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from text2sql.core.errors import UserError
from text2sql.data.archives import Archive, is_safe_name, open_archive
from text2sql.data.databases import build_database, check_database
from text2sql.data.descriptions import DESCRIPTIONS, read_descriptions
from text2sql.data.in_use import SIDE_FILES, copy_with_changes, merge_changes
from text2sql.data.layouts import SPIDER, Layout, find_layout
from text2sql.data.schema import kind_of

Split = Literal["train", "dev", "dk"]
_SYN_QUESTION = "SpiderSynQuestion"  # Spider-Syn (Gan et al., 2021) has it beside `SpiderQuestion`, the original


@dataclass(frozen=True)
class Example:
    """A question about a database and the SQL that answers it.

    `index` is its position in the split; `sql` the official parse, where the file carries it. `others` are further
    queries that answer it, where a file gives a list; `evidence` is what a reader has to know besides, maybe empty, and
    `difficulty` (simple, moderate or challenging) BIRD's; None where the file does not have them. `of_bird`
    says whether it is scored by BIRD's definition too: in BIRD's layout all are, in Spider's those with a difficulty
    and those that `holdout` took from BIRD's.
    """

    index: int
    db_id: str
    question: str
    query: str
    sql: dict | None = None
    others: tuple[str, ...] = ()
    evidence: str | None = None
    difficulty: str | None = None
    of_bird: bool = False

    @property
    def queries(self) -> tuple[str, ...]:
        """All queries that answer it, the first one first."""
        return (self.query, *self.others)

    def to_record(self) -> dict[str, Any]:
        """Return the example as `prepare` keeps it: without the parse, and with no key for what it does not have."""
        record: dict[str, Any] = {name: getattr(self, name) for name in RECORD}
        if self.others:
            record["others"] = list(self.others)
        record |= {name: getattr(self, name) for name in FURTHER if getattr(self, name) is not None}
        return record | ({"of_bird": True} if self.of_bird else {})

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Example":
        """Return the example that `to_record` wrote."""
        return cls(
            record["index"],
            record["db_id"],
            record["question"],
            record["query"],
            others=tuple(record.get("others", ())),
            evidence=record.get("evidence"),
            difficulty=record.get("difficulty"),
            of_bird=record.get("of_bird", False),
        )


RECORD = {"index": int, "db_id": str, "question": str, "query": str}  # what every record of an example has
FURTHER = ("evidence", "difficulty")  # what not every example has


class SpiderSource:
    """One copy of a benchmark, open for reading."""

    def __init__(self, archive: Archive, layout: Layout = SPIDER) -> None:
        self._archive = archive
        self._layout = layout

    @property
    def path(self) -> Path:
        """The folder or zip, for messages."""
        return self._archive.path

    def examples(self, split: Split, limit: int | None = None) -> list[Example]:
        """Return the first `limit` examples of a split, all by default. Raises UserError as `iter_examples` does."""
        return list(self.iter_examples(split, limit))

    def iter_examples(self, split: Split, limit: int | None = None) -> Iterator[Example]:
        """Yield a split's examples one by one; the file is never held in memory as a whole.

        Raises UserError that names file and example where one is not right, or the split is empty.
        """
        name = self._layout.splits.get(split)
        if name is None:
            raise UserError(f"{self.path}: has no split {split}; takes {', '.join(self._layout.splits)}")
        shown = self._archive.describe(name)
        index = -1
        with self._archive.open_text(name) as file:
            for index, record in enumerate(itertools.islice(_iter_objects(file, shown, "example"), limit)):
                yield _example(index, record, f"{shown}, example {index}", self._layout)
        if index < 0:
            raise UserError(f"{shown}: holds no examples, wanted at least one")

    def database_ids(self) -> set[str]:
        """Return the ids of the databases that are there."""
        names = itertools.chain.from_iterable(map(self._archive.names, self._layout.databases))
        return {name for name in names if self._database_file(name)}

    @property
    def databases_lie_in(self) -> str:
        """The place of a database's file, in words."""
        return " or ".join(f"{folder}/<db_id>/<db_id>.sqlite" for folder in self._layout.databases)

    def extract_database(self, db_id: str, destination: Path) -> list[str]:
        """Write a database to `destination` as an SQLite file, whole or not at all, with changes in files beside it.

        Return what its application brought along and plain SQLite lacks, such as `collation LOCALIZED`.
        Raises UserError where the database is missing, is no SQLite file or damaged, or where its SQL text fails.
        """
        name = self._database_file(db_id)
        if name is None:
            folder = self._layout.databases[0]
            raise UserError(f"{self._archive.describe(f'{folder}/{db_id}/{db_id}.sqlite')}: no such file")
        shown = self._archive.describe(name)
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            if name.endswith(".sql"):
                with self._archive.open_text(name) as file:
                    build_database(file.read(), destination, shown)
            else:
                self._copy_database(name, destination)
            return check_database(destination, shown)
        except BaseException:
            destination.unlink(missing_ok=True)
            raise

    def _copy_database(self, name: str, destination: Path) -> None:
        beside = [ending for ending in SIDE_FILES if self._archive.has(name + ending)]
        if beside and self._archive.path.is_dir():
            copy_with_changes(Path(self._archive.describe(name)), destination)
            return
        for ending in ("", *beside):
            self._archive.copy(name + ending, Path(f"{destination}{ending}"))
        if beside:
            merge_changes(destination, self._archive.describe(name))

    def tables_json(self) -> dict[str, dict]:
        """Return the entries of `tables.json` by db_id; none where there is no such file."""
        entries = {}
        for name in filter(self._archive.has, self._layout.tables):
            shown = self._archive.describe(name)
            with self._archive.open_text(name) as file:
                for index, entry in enumerate(_iter_objects(file, shown, "entry")):
                    if not isinstance(entry.get("db_id"), str):
                        raise UserError(f"{shown}, entry {index}: has no text 'db_id'")
                    entries[entry["db_id"]] = entry
        return entries

    def descriptions(self, db_id: str) -> dict[tuple[str, str], str]:
        """Return what BIRD's `database_description/` says of a database's columns, as `Schema.described` takes it."""
        name = self._database_file(db_id)
        return {} if name is None else read_descriptions(self._archive, f"{name.rpartition('/')[0]}/{DESCRIPTIONS}")

    def _database_file(self, db_id: str) -> str | None:
        for folder, ending in itertools.product(self._layout.databases, ("sqlite", "sql")):
            name = f"{folder}/{db_id}/{db_id}.{ending}"
            if self._archive.has(name):
                return name
        return None


@contextlib.contextmanager
def open_spider(path: str | Path) -> Iterator[SpiderSource]:
    """Open a folder or zip in Spider's or BIRD's layout.

    Raises UserError where it is missing, damaged, or something else.
    """
    with open_archive(path) as archive:
        layout = find_layout(archive)
        yield SpiderSource(archive, layout)


def _example(index: int, record: dict, shown: str, layout: Layout) -> Example:
    if "question" not in record and _SYN_QUESTION in record:
        record = {**record, "question": record[_SYN_QUESTION]}
    for field in ("db_id", "question", layout.query):
        if field not in record:
            raise UserError(f"{shown}: has no field {field!r}; wanted db_id, question and {layout.query}")
    query, *others = queries_of(record[layout.query], layout.query, shown)
    db_id = text_of(record["db_id"], "db_id", shown)
    if "/" in db_id or not is_safe_name(db_id):
        raise UserError(f"{shown}: found db_id {db_id!r:.60}, wanted a plain file name")
    sql = record.get("sql")
    if sql is not None and not isinstance(sql, dict):
        raise UserError(f"{shown}: found {kind_of(sql)} as 'sql', wanted an object (or no such field)")
    evidence = record.get("evidence")
    if evidence is not None or layout.bird:
        evidence = text_of(evidence or "", "evidence", shown, empty=True)
    difficulty = record.get("difficulty")
    if difficulty is not None:
        difficulty = text_of(difficulty, "difficulty", shown)
    question = text_of(record["question"], "question", shown)
    # `holdout` writes examples of BIRD's, which need not have a difficulty, in Spider's layout.
    of_bird = layout.bird or difficulty is not None or record.get("of_bird") is True
    return Example(index, db_id, question, query, sql, tuple(others), evidence, difficulty, of_bird)


def queries_of(value: Any, field: str, shown: str) -> list[str]:
    """Return an example's queries, of which any is right: one text, or a list of them.

    Raises UserError that names the place `shown` and the field where it is neither.
    """
    values = value if isinstance(value, list) and value else [value]
    return list(dict.fromkeys(text_of(query, field, shown) for query in values))


def text_of(value: Any, field: str, shown: str, empty: bool = False) -> str:
    """Return a value that is a text, `empty` if it may be. Raises UserError as `queries_of` does."""
    if not isinstance(value, str) or not (empty or value.strip()):
        wanted = "a text" if empty else "a text that is not empty"
        raise UserError(f"{shown}: found {kind_of(value)} as {field!r}, wanted {wanted}")
    if not value.isascii() and _SURROGATE.search(value):
        raise UserError(f"{shown}: {field!r} holds half of a surrogate pair, which is no character")
    return value


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
            position = _SPACE.match(buffer, position).end()  # type: ignore[union-attr]  # it matches no space too
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
