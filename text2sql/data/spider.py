"""Spider: its files in, plain records out.

The official layout (Yu et al., 2018): `train_spider.json`, `dev.json`, `tables.json` and
`database/<db_id>/<db_id>.sqlite`, in a folder or a zip, below one top folder or none. A database may also be given
as text, `database/<db_id>/<db_id>.sql`, as in this project's own sample. `Spider-DK.json` may stand for `dev.json`, and
Spider-Syn's field for `question`.
"""

import contextlib
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from text2sql.core.errors import UserError
from text2sql.data.archives import Archive, is_safe_name, open_archive
from text2sql.data.databases import build_database, check_database
from text2sql.data.in_use import SIDE_FILES, copy_with_changes, merge_changes
from text2sql.data.schema import kind_of

# Spider-DK (Gan et al., 2021) is a file of its own, which needs Spider's databases beside its own three.
SPLIT_FILES = {"train": "train_spider.json", "dev": "dev.json", "dk": "Spider-DK.json"}
Split = Literal["train", "dev", "dk"]
_SYN_QUESTION = "SpiderSynQuestion"  # Spider-Syn (Gan et al., 2021) has it beside `SpiderQuestion`, the original


@dataclass(frozen=True)
class Example:
    """A question about a database and the SQL that answers it.

    `index` is its position in the split; `sql` the official parse, `evidence` what a reader is told besides the
    question, where the file carries them.
    """

    index: int
    db_id: str
    question: str
    query: str
    sql: dict | None = None
    evidence: str | None = None


class SpiderSource:
    """One copy of Spider, open for reading."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

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
        name = SPLIT_FILES[split]
        if split == "dev" and not self._archive.has(name) and self._archive.has(SPLIT_FILES["dk"]):
            name = SPLIT_FILES["dk"]
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

    def extract_database(self, db_id: str, destination: Path) -> list[str]:
        """Write a database to `destination` as an SQLite file, whole or not at all, with changes in files beside it.

        Return what its application brought along and plain SQLite lacks, such as `collation LOCALIZED`.
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
        archive.enter_top_folder(holds_spider, "dev.json")
        yield SpiderSource(archive)


def holds_spider(archive: Archive) -> bool:
    """Say whether Spider's files lie at `archive.root`."""
    return archive.has("dev.json") or archive.has(SPLIT_FILES["dk"])


def _example(index: int, record: dict, shown: str) -> Example:
    if "question" not in record and _SYN_QUESTION in record:
        record = {**record, "question": record[_SYN_QUESTION]}
    for field in ("db_id", "question", "query"):
        if field not in record:
            raise UserError(f"{shown}: has no field {field!r}; wanted db_id, question and query")
        value = record[field]
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{shown}: found {kind_of(value)} as {field!r}, wanted a text that is not empty")
        if _SURROGATE.search(value):
            raise UserError(f"{shown}: {field!r} holds half of a surrogate pair, which is no character")
    db_id = record["db_id"]
    if "/" in db_id or not is_safe_name(db_id):
        raise UserError(f"{shown}: found db_id {db_id!r:.60}, wanted a plain file name")
    sql = record.get("sql")
    if sql is not None and not isinstance(sql, dict):
        raise UserError(f"{shown}: found {kind_of(sql)} as 'sql', wanted an object (or no such field)")
    return Example(index, db_id, record["question"], record["query"], sql)


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
