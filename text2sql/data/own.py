"""A user's own data: a folder (or zip) with SQLite files and files of questions in, Spider's plain records out.

Databases are the files `*.sqlite`, `*.sqlite3` and `*.db` below the folder, up to three folders deep; `db_id` is a
file's name without its ending, in Unicode's composed form, since some systems decompose what they were given.
Questions lie at the top: in `questions.*`, which may have a column `split`, or in a
file a split, such as `train.csv` and `dev.jsonl` (`question_files` says what they hold). Where no split is named, a
share is held out for dev: by database where they name several, since questions about one database resemble each
other, else by question, with equal queries kept together. The draw depends on names and queries alone, so that it is
the same on any machine, and that few questions change sides where some are added.

`data.spider` names such a folder as it names Spider's, and no param of its own does: the pipeline, `score`, `results
html` and `tradeoff` then take one path, and DVC has one dependency to hash.
"""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from text2sql.core.errors import UserError, did_you_mean
from text2sql.data.archives import Archive, is_safe_name
from text2sql.data.in_use import copy_with_changes, pending_changes
from text2sql.data.question_files import ENDINGS, Record, iter_records
from text2sql.data.spider import Example, SpiderSource, queries_of, text_of

WANTED = "questions.jsonl, questions.csv or questions.parquet"
DATABASE_ENDINGS = ("sqlite", "sqlite3", "db")
# What a split may be called, in a column or as a file's name, and what it is called here.
SPLITS = {"train": "train", **dict.fromkeys(("dev", "validation", "valid", "val", "test"), "dev")}
DEPTH = 3  # folders below the data's in which databases are looked for
MOST_FAULTS = 20  # that are collected


class Faults(UserError):
    """Several faults of one folder, each in one line."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        more = f"; and {len(faults) - 1} more: `text2sql init` shows them" if len(faults) > 1 else ""
        super().__init__(f"{faults[0]}{more}")


class NoSplit(UserError):
    """No split is named, and no share to hold out."""


@dataclass(frozen=True)
class Row:
    """One row of a file of questions: its place for messages, and what it says."""

    place: str
    file: str
    db_id: str
    question: str
    queries: tuple[str, ...]
    evidence: str | None
    split: str | None


def question_files(archive: Archive) -> list[str]:
    """Return the names of the files of questions at `archive.root`."""
    return [
        name
        for name in archive.names()
        for stem, _, ending in [name.rpartition(".")]
        if ending in ENDINGS and (stem == "questions" or stem in SPLITS) and archive.has(name)
    ]


class OwnSource(SpiderSource):
    """One folder of a user's own, open for reading; all of its questions have been checked.

    `holdout` is the share of the questions to hold out, and `files` the names of those that hold them. Raises Faults
    where rows are not right, and UserError where the folder is not.
    """

    def __init__(self, archive: Archive, holdout: float | None) -> None:
        super().__init__(archive)
        self.files = question_files(archive)
        self._state = self._file_state()
        self._databases = self._find_databases()
        self.holdout = holdout
        self._in_dev = bytearray()  # a byte a row, over all files
        self._assign()

    def iter_examples(self, split: str, limit: int | None = None) -> Iterator[Example]:
        """Yield a split's examples one by one, in the files' order.

        Raises UserError where there are none, or where the data have changed.
        """
        self.require_split(split)
        index = 0
        for number, row in enumerate(self._rows()):
            if limit is not None and index >= limit:
                return
            if number >= len(self._in_dev):
                break
            if self._in_dev[number] == (split == "dev"):
                query, *others = row.queries
                yield Example(index, row.db_id, row.question, query, others=tuple(others), evidence=row.evidence)
                index += 1
        self.require_unchanged()

    def require_split(self, split: str) -> None:
        """Raise UserError unless some question is of `split`."""
        if split not in ("train", "dev"):
            raise UserError(f"{self.path}: own data, without a split {split!r}; wanted train or dev")
        if (split == "dev") not in self._in_dev:
            raise UserError(f"{self.path}: no question is of the {split} split; wanted some to train on and to ask")

    def placed_rows(self) -> Iterator[tuple[str, Row]]:
        """Yield (split, row) of all questions, in the files' order."""
        for in_dev, row in zip(self._in_dev, self._rows()):
            yield ("dev" if in_dev else "train"), row

    def database_ids(self) -> set[str]:
        """Return the ids of the databases that are there."""
        return set(self._databases)

    def database_path(self, db_id: str) -> Path | None:
        """Return the file to read a database from where it lies; None where it has to be extracted first.

        Raises UserError where it may not be read.
        """
        if not self._archive.path.is_dir():
            return None
        with self._archive.open(self._databases[db_id]):  # says whether it may be read
            pass
        path = Path(self._archive.describe(self._databases[db_id]))
        return None if pending_changes(path) else path

    def tables_json(self) -> dict[str, dict]:
        """Return nothing: schemas are read from the databases."""
        return {}

    def require_unchanged(self) -> None:
        """Raise UserError where a file of questions changed since this was opened."""
        before, now = self._state, self._file_state()
        for name in before:
            if before[name] != now.get(name):
                raise UserError(f"{self._archive.describe(name)}: changed while it was read; run it again")

    def _file_state(self) -> dict[str, tuple[int, int, int] | None]:
        state: dict[str, tuple[int, int, int] | None] = {}
        for name in self.files:
            try:
                status = os.stat(self._archive.describe(name) if self._archive.path.is_dir() else self._archive.path)
                state[name] = status.st_ino, status.st_size, status.st_mtime_ns
            except OSError:
                state[name] = None
        return state

    # ---------------------------------------------------------------- databases

    def _find_databases(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in self._walk("", DEPTH):
            stem, _, ending = unicodedata.normalize("NFC", name).rpartition("/")[2].rpartition(".")
            if ending.lower() not in DATABASE_ENDINGS or not stem or not is_safe_name(stem):
                continue
            if stem in found:
                raise UserError(f"{self.path}: {found[stem]} and {name} are both database {stem}; wanted one of them")
            found[stem] = name
        if not found:
            endings = ", ".join(f"*.{ending}" for ending in DATABASE_ENDINGS)
            raise UserError(f"{self.path}: holds no database; wanted SQLite files ({endings})")
        return found

    def _walk(self, folder: str, depth: int) -> Iterator[str]:
        for name in self._archive.names(folder):
            path = f"{folder}/{name}" if folder else name
            if self._archive.has(path):
                yield path
            elif depth:
                yield from self._walk(path, depth - 1)

    def _database_file(self, db_id: str) -> str | None:
        return self._databases.get(db_id)

    def _copy_database(self, name: str, destination: Path) -> None:
        if not self._archive.path.is_dir():
            super()._copy_database(name, destination)
            return
        with self._archive.open(name):  # says whether it may be read
            pass
        copy_with_changes(Path(self._archive.describe(name)), destination)

    # ---------------------------------------------------------------- questions

    def _rows(self, faults: list[str] | None = None) -> Iterator[Row]:
        """Yield the rows of all files. Those that are not right go into `faults`, where that is given."""
        for file in self.files:
            for place, record in iter_records(self._archive, file):
                try:
                    yield self._row(place, file, record)
                except UserError as error:
                    if faults is None or len(faults) >= MOST_FAULTS:
                        raise
                    faults.append(str(error))

    def _row(self, place: str, file: str, record: Record) -> Row:
        for field in ("question", "query"):
            if field not in record:
                raise UserError(f"{place}: has no {field}; wanted a text that is not empty")
        queries = queries_of(record["query"], "query", place)
        texts = {
            field: text_of(value, field, place, empty=field != "question")
            for field, value in record.items()
            if field != "query"
        }
        split = self._split(place, file, texts.get("split", "").strip())
        evidence = texts.get("evidence", "").strip() or None
        return Row(place, file, self._db_id(place, texts), texts["question"], tuple(queries), evidence, split)

    def _db_id(self, place: str, texts: dict[str, str]) -> str:
        db_id = unicodedata.normalize("NFC", texts.get("db_id", "").strip())
        if not db_id and len(self._databases) > 1:
            raise UserError(f"{place}: has no db_id, and there are {len(self._databases)} databases; wanted one's name")
        if not db_id:
            return next(iter(self._databases))
        if db_id not in self._databases:
            near = did_you_mean(db_id, self._databases)
            raise UserError(f"{place}: found no database {db_id!r:.60}{near} below {self.path}; wanted its SQLite file")
        return db_id

    def _split(self, place: str, file: str, value: str) -> str | None:
        of_file = file.rpartition(".")[0]
        if value and value not in SPLITS:
            raise UserError(
                f"{place}: found split {value!r:.60}{did_you_mean(value, SPLITS)}, wanted one of {', '.join(SPLITS)}"
            )
        if of_file not in SPLITS:
            return value or None
        if value and SPLITS[value] != SPLITS[of_file]:
            raise UserError(f"{place}: found split {value!r} in the file of {of_file}")
        return of_file

    def _assign(self) -> None:
        """Check all rows and say which split each is of. Raises Faults."""
        faults: list[str] = []
        claims: dict[str | None, tuple[str, str | None]] = {}
        databases = _Units()
        try:
            for row in self._rows(faults):
                split = SPLITS[row.split] if row.split else None
                first = claims.setdefault(split, (row.file, row.split))
                if first != (row.file, row.split):
                    raise UserError(self._two_claims(row, split, first))
                if None in claims and len(claims) > 1:
                    raise UserError(f"{row.place}: {_some_claims(claims)}")
                self._in_dev.append(split == "dev")
                if split is None:
                    databases.add(row.db_id.encode())
        except UserError as error:
            faults.append(str(error))
        if faults:
            raise Faults(faults)
        if not self._in_dev:
            raise UserError(f"{self.path}: {', '.join(self.files)}: no question in it")
        if None in claims:
            self._hold_out(databases)
        elif self.holdout is not None:
            raise UserError(f"data.holdout: got {self.holdout:g}, and the questions of {self.path} name their splits")

    def _two_claims(self, row: Row, split: str | None, first: tuple[str, str | None]) -> str:
        file, name = first
        if file != row.file:
            of = f"the {split} split" if split else "all questions"
            return f"{self.path}: {file} and {row.file} both hold {of}; wanted one file"
        return f"{row.place}: found split {row.split!r}, and {name!r} before, which mean the same; wanted one of them"

    def _hold_out(self, databases: "_Units") -> None:
        if self.holdout is None:
            raise NoSplit(
                f"{self.path}: its questions name no split; wanted a column split (train, dev), a file a split, or, of "
                "data.spider, a share to hold out (data.holdout, --holdout), such as 0.2"
            )
        units = databases
        if len(units.sizes) == 1:
            units = _Units()
            for row in self._rows():
                units.add(_plain_query(row))
        if len(units.sizes) < 2:
            raise UserError(f"{self.path}: data.holdout: all questions have one query, which cannot be divided")
        self._in_dev = units.held_out(self.holdout)


class _Units:
    """What is held out as a whole, a question each: its database, or all questions with its query."""

    def __init__(self) -> None:
        self.sizes: Counter[bytes] = Counter()
        self._numbers: dict[bytes, int] = {}
        self._of_rows: list[int] = []  # numbers, since equal bytes repeat

    def add(self, unit: bytes) -> None:
        """Take the next question's."""
        self.sizes[unit] += 1
        self._of_rows.append(self._numbers.setdefault(unit, len(self._numbers)))

    def held_out(self, share: float) -> bytearray:
        """Return a byte a question: whether it is held out."""
        chosen = {self._numbers[unit] for unit in held_out(self.sizes, share)}
        return bytearray(number in chosen for number in self._of_rows)


def held_out(sizes: Counter[bytes], share: float) -> set[bytes]:
    """Return which units, of `sizes` questions each, are held out: as near below `share` of all as whole ones allow.

    They are drawn in the order of their digests. One at least is drawn, the smallest if need be, and never all.
    """
    most = share * sizes.total()
    order = sorted(sizes, key=lambda unit: hashlib.sha256(unit).digest())
    chosen: set[bytes] = set()
    count = 0
    for unit in order:
        if count + sizes[unit] <= most and len(chosen) < len(order) - 1:
            chosen.add(unit)
            count += sizes[unit]
    return chosen or {min(order, key=lambda unit: sizes[unit])}


def _plain_query(row: Row) -> bytes:
    return hashlib.sha256(" ".join(row.queries[0].split()).rstrip("; ").lower().encode()).digest()


def _some_claims(claims: dict[str | None, tuple[str, str | None]]) -> str:
    named, name = next(claim for split, claim in claims.items() if split)
    unnamed, _ = claims[None]
    return f"some questions name a split ({named}: {name}) and others none ({unnamed}); wanted all or none"
