"""What constrained decoding lets through, of golds and of predictions; and how long its grammars take to make."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from text2sql.core.errors import UserError
from text2sql.data.schema import Schema, schema_from_sqlite, schema_from_tables_entry
from text2sql.data.spider import Example, SpiderSource
from text2sql.model.constrained import Constraints
from text2sql.scoring.verdicts import Verdict


class Schemas:
    """The schemas of a benchmark's databases, from their files, or where there is none from `tables.json`."""

    def __init__(self, source: SpiderSource, database_of: Callable[[str], Path]) -> None:
        """`database_of` gives a database's file."""
        self._database_of = database_of
        self._files, self._entries = source.database_ids(), source.tables_json()
        self._read: dict[str, Schema] = {}

    def names(self) -> list[str]:
        """Return the ids of all databases."""
        return sorted(self._files | set(self._entries))

    def __getitem__(self, db_id: str) -> Schema:
        """Return one database's schema. Raises UserError where it is neither in a file nor in `tables.json`."""
        if db_id not in self._read:
            if db_id in self._files:
                self._read[db_id] = schema_from_sqlite(self._database_of(db_id), db_id)
            elif db_id in self._entries:
                self._read[db_id] = schema_from_tables_entry(self._entries[db_id])
            else:
                raise UserError(f"database {db_id}: has neither a file nor an entry in tables.json")
        return self._read[db_id]


def seconds_to_compile(constraints: Constraints, schemas: Schemas) -> dict[str, float]:
    """Return how long each database's grammar took to make, in seconds, by database."""
    seconds = {}
    for db_id in schemas.names():
        schema, started = schemas[db_id], time.perf_counter()
        constraints.row(schema)
        seconds[db_id] = time.perf_counter() - started
    return seconds


def refused(constraints: Constraints, schemas: Schemas, queries: Iterable[tuple[str, str]]) -> Iterator[bool]:
    """Yield of each of `queries`, (db_id, query), whether the constraint refuses it."""
    for db_id, query in queries:
        yield not constraints.accepts(query.strip(), schemas[db_id])


@dataclass(frozen=True)
class Refusals:
    """How many of a model's answers fail, run wrongly or are right (official), and how many of each are refused."""

    failing: tuple[int, int]
    wrong: tuple[int, int]
    right: tuple[int, int]

    @classmethod
    def of(cls, verdicts: Sequence[Verdict], are_refused: Sequence[bool]) -> "Refusals":
        """Count `verdicts` beside whether each one's query is refused."""

        def count(chosen: Callable[[Verdict], bool]) -> tuple[int, int]:
            among = [is_refused for verdict, is_refused in zip(verdicts, are_refused, strict=True) if chosen(verdict)]
            return len(among), sum(among)

        return cls(
            count(lambda verdict: verdict.error is not None),
            count(lambda verdict: verdict.error is None and not _is_right(verdict)),
            count(_is_right),
        )


def _is_right(verdict: Verdict) -> bool:
    return bool(verdict.official_execution_accuracy)


def golds(examples: Iterable[Example]) -> list[tuple[str, str]]:
    """Return (db_id, query) of all right queries of `examples`."""
    return [(example.db_id, query) for example in examples for query in example.queries]
