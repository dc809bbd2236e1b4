"""A first look at a user's own data: what is in it, which of its golds are of no use, and a recipe to run it with."""

import contextlib
import itertools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.params import Params
from text2sql.data.databases import check_database
from text2sql.data.in_use import state_of
from text2sql.data.own import Faults, NoSplit, OwnSource
from text2sql.data.schema import Schema, schema_from_sqlite
from text2sql.data.sources import open_source
from text2sql.execution.executor import Executor, Limits
from text2sql.prompts.messages import spider_messages
from text2sql.prompts.rich import RichSchemas, rich_schemas

HOLDOUT = 0.2  # of data that name no split
NAMED = 3  # failing golds that are quoted
SPLITS = ("train", "dev")


@dataclass
class Found:
    """What a look at a folder found; counts by split, longest texts in characters."""

    path: Path
    files: list[str]
    databases: list[str]  # that questions name
    unused: list[str]
    holdout: float | None
    questions: Counter = field(default_factory=Counter)
    asked: dict[str, set] = field(default_factory=lambda: {split: set() for split in SPLITS})  # databases
    failing: dict[str, list[str]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    empty: Counter = field(default_factory=Counter)
    evidence: int = 0
    equal: list[str] = field(default_factory=list)  # places of dev questions that train has too
    longest_prompt: int = 0
    longest_of: str = ""
    longest_query: int = 0
    lacking: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return what is said of it, a line each."""
        beside = f"; {len(self.unused)} more without a question" if self.unused else ""
        lines = [f"{self.path}: {counted(len(self.databases), 'database')}{beside}; {', '.join(self.files)}"]
        lines += [self._split_line(split) for split in SPLITS]
        if self.holdout is not None:
            by = "database" if len(self.databases) > 1 else "question, equal queries together"
            lines.append(f"dev is held out by {by}: data.holdout {self.holdout:g}")
        for split in SPLITS:
            lines += [f"{split}, {gold}" for gold in self.failing[split][:NAMED]]
            if len(self.failing[split]) > NAMED:
                lines.append(f"{split}: {len(self.failing[split]) - NAMED} more gold queries fail")
        first = f", the first: {self.equal[0]}" if self.equal else ""
        lines.append(f"equal questions across splits: {len(self.equal)}{first}")
        if self.evidence:
            lines.append(f"evidence: {counted(self.evidence, 'question')} of {self.questions.total()}")
        lines.append(f"longest prompt: {self.longest_prompt:,} characters ({self.longest_of})")
        return lines + self.lacking

    def _split_line(self, split: str) -> str:
        return (
            f"{split}: {counted(self.questions[split], 'question')} on "
            f"{counted(len(self.asked[split]), 'database')}; gold queries: {len(self.failing[split])} fail, "
            f"{self.empty[split]} return nothing"
        )


def counted(number: int, what: str) -> str:
    """Return a number with its noun: `1 question`, `1,034 questions`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def look(path: Path, params: Params, holdout: float | None, say: Callable[[str], Any] = lambda text: None) -> Found:
    """Read a folder of own data, check its databases, and run all gold queries: of several to a question, each.

    `params` give the prompt's form and the limits on queries. `holdout` None: HOLDOUT where the data name no split.
    Raises Faults or UserError where the data cannot be used. Nothing is written beside them.
    """
    with _opened(path, holdout) as source, tempfile.TemporaryDirectory(prefix="text2sql-") as temporary:
        for split in SPLITS:
            source.require_split(split)
        used = {row.db_id for _, row in source.placed_rows()}
        named = sorted(used)
        found = Found(path, source.files, named, sorted(source.database_ids() - used), source.holdout)
        say(f"checking {counted(len(named), 'database')}")
        states: dict[str, list] = {}
        files = _checked_databases(source, named, Path(temporary), found, states)
        schemas = {db_id: schema_from_sqlite(file, db_id) for db_id, file in files.items()}
        _count(source, schemas, params, found, rich_schemas(params.prompt, files.get))
        say(f"running {found.questions.total():,} gold queries")
        queries = [(files[row.db_id], query) for _, row in source.placed_rows() for query in row.queries]
        with Executor(Limits(**params.execution.model_dump())) as executor:
            results = executor.run_each(queries)
            for split, row in source.placed_rows():
                of_row = list(zip(row.queries, itertools.islice(results, len(row.queries)), strict=True))
                failed = next(((query, result.error) for query, result in of_row if result.error is not None), None)
                if failed:
                    gold, error = " ".join(failed[0].split()), failed[1]
                    place = f"{row.place} (database {row.db_id})"
                    found.failing[split].append(f"{place}: its gold query fails: {error}: {gold:.200}")
                else:
                    found.empty[split] += not of_row[0][1].rows
        for db_id, file in files.items():
            if state_of(file) != states[db_id]:
                raise UserError(f"{file}: changed while it was read; run it again")
    return found


@contextlib.contextmanager
def _opened(path: Path, holdout: float | None) -> Iterator[OwnSource]:
    """Open own data; with HOLDOUT where no share is given and no split is named."""
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(open_source(path, holdout))
        except NoSplit:
            source = stack.enter_context(open_source(path, HOLDOUT))
        if not isinstance(source, OwnSource):
            raise UserError(f"{path}: is in Spider's layout, and needs no recipe of its own: data.spider takes it")
        yield source


def _checked_databases(
    source: OwnSource, names: list[str], folder: Path, found: Found, states: dict[str, list]
) -> dict[str, Path]:
    """Return the file of each database, once it is known to be sound, and put what it was then into `states`.

    Copies, where need be, go into `folder`.
    """
    files, faults = {}, []
    for db_id in names:
        try:
            path = source.database_path(db_id)
            if path is None:
                path = folder / f"{db_id}.sqlite"
                lacking = source.extract_database(db_id, path)
                states[db_id] = state_of(path)
            else:
                states[db_id] = state_of(path)
                lacking = check_database(path, str(path))
            files[db_id] = path
            for what in lacking:
                found.lacking.append(f"database {db_id}: needs its application's {what}, which SQLite lacks")
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise Faults(faults)
    return files


def _count(
    source: OwnSource, schemas: dict[str, Schema], params: Params, found: Found, rich: RichSchemas | None
) -> None:
    in_train, form = set(), params.prompt.schema_
    shown = {
        db_id: len(spider_messages("", schema, form, rich=rich)[0]["content"]) for db_id, schema in schemas.items()
    }
    for split, row in source.placed_rows():
        found.questions[split] += 1
        found.asked[split].add(row.db_id)
        found.evidence += row.evidence is not None
        characters = shown[row.db_id] + len(row.question.strip()) + len(row.evidence or "")
        if characters > found.longest_prompt:
            found.longest_prompt, found.longest_of = characters, row.place
        found.longest_query = max(found.longest_query, len(row.queries[0]))
        if split == "train":
            in_train.add(_plain(row.question))
    found.equal = [
        row.place for split, row in source.placed_rows() if split == "dev" and _plain(row.question) in in_train
    ]


def _plain(question: str) -> str:
    return " ".join(question.lower().split()).rstrip(" ?.!")
