"""`prompt.schema: rich`: a schema with types, keys and values, cut to a room, and the values that a question names.

    singer(singer_id INTEGER PRIMARY KEY [1], name TEXT ['Joe Sharp', 'Timbaland'], country TEXT ['France'])
    concert(concert_id INTEGER PRIMARY KEY [1], singer_id INTEGER REFERENCES singer(singer_id) [2])
    Values: singer.country = 'France'

A line a table: with CREATE TABLE statements and comments the same takes more tokens. What depends on the
question comes last, so that the prompts about one database begin alike, and share their cache. Where the schema does
not fit, what the question names stays; what was cut is counted, and so are databases whose files are not there.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from text2sql.core.files import user_cache
from text2sql.core.params import PromptParams
from text2sql.data.contents import ColumnContents, Contents, Value, read_contents
from text2sql.data.schema import Schema
from text2sql.prompts.matching import Match, ValueIndex, Word, named_columns, named_tables, words_of
from text2sql.prompts.names import quoted

CACHE = "contents"  # the folder of the user's cache with what databases hold
ROOM_OF_SAMPLES = 30  # characters of a column's, of which the first is always shown, cut there if need be
# Of a column: a text's categories tell more than further numbers, and a key's numbers nothing.
TEXTS, NUMBERS, KEYS = 3, 2, 1
# What a chat template might take for its own.
CONTROL = re.compile(r"<\||\|>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]|｜")

# A token of the carried bases' tokenizers holds a digit, a mark, or some letters of a word: see `tokens_at_most`.
_PIECE = re.compile(r"\d|[a-z]+|[A-Z]+|\s+|[^\w\s]+|\w")


def tokens_at_most(text: str) -> int:
    """Return a number of tokens that no carried base's tokenizer exceeds on schemas, counted without one.

    The same prompt for every base then, whoever renders it. Held against the tokenizers by tests.
    """
    return sum(_tokens_of(piece) for piece in _PIECE.findall(text))


def _tokens_of(piece: str) -> int:
    first = piece[0]
    if first.isspace():
        return piece.count("\n")
    if first.isascii() and first.isalpha():
        return -(-len(piece) // (6 if first.islower() else 2))
    return len(piece) if first.isascii() else len(piece.encode())


@dataclass(frozen=True)
class Shown:
    """What a prompt shows of a database: its schema, the line of values that the question names, and if it was cut."""

    schema: str
    values: str
    cut: bool

    @property
    def text(self) -> str:
        """Both, a line feed between them."""
        return f"{self.schema}\n{self.values}" if self.values else self.schema


@dataclass
class RichSchemas:
    """Shows databases, whose files `file_of` names by db_id (None: not there), in a room of so many tokens.

    `cache`: where what databases hold is kept, None for nowhere. `asked`, `cut` and `missing` say what happened.
    """

    file_of: Callable[[str], Path | None]
    room: int
    cache: Path | None = None
    asked: set[tuple[str, str]] = field(default_factory=set)  # (db_id, question)
    cut: set[tuple[str, str]] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    _known: dict[str, tuple[Contents, ValueIndex]] = field(default_factory=dict, repr=False)
    _layouts: dict[Schema, "_Layout"] = field(default_factory=dict, repr=False)

    def show(self, question: str, schema: Schema) -> str:
        """Return what the prompt of `question` shows of a database."""
        contents, index = self._of(schema.db_id)
        if schema not in self._layouts:
            self._layouts[schema] = _Layout(schema, contents)
        shown = show(question, self._layouts[schema], index, self.room)
        self.asked.add((schema.db_id, question))
        if shown.cut:
            self.cut.add((schema.db_id, question))
        return shown.text

    def show_without(self, question: str, schema: Schema) -> str:
        """Return the same of a worked example, whose database is nowhere: no values, and nothing counted."""
        return show(question, _Layout(schema, Contents()), ValueIndex(Contents()), self.room).text

    def lines(self) -> list[str]:
        """Return what has to be said of the prompts so far, a line each; nothing where all is whole."""
        said = []
        if self.cut:
            said.append(
                f"the schema was cut in {len(self.cut):,} of {len(self.asked):,} prompts, to prompt.schema_tokens "
                f"{self.room:,}"
            )
        if self.missing:
            names = ", ".join(sorted(self.missing))
            said.append(f"no values of {len(self.missing):,} databases whose files are not there: {names:.200}")
        return said

    def _of(self, db_id: str) -> tuple[Contents, ValueIndex]:
        if db_id not in self._known:
            file = self.file_of(db_id)
            if file is None:
                self.missing.add(db_id)
            contents = Contents() if file is None else read_contents(file, self.cache)
            self._known[db_id] = (contents, ValueIndex(contents))
        return self._known[db_id]


def rich_schemas(prompt: PromptParams, file_of: Callable[[str], Path | None]) -> RichSchemas | None:
    """Return what shows databases where `prompt` wants them shown rich, None where it does not."""
    if prompt.schema_ != "rich":
        return None
    return RichSchemas(file_of, prompt.schema_tokens, user_cache() / CACHE)


def in_folders(*folders: Path) -> Callable[[str], Path | None]:
    """Return a function from a db_id to its file, <db_id>/<db_id>.sqlite in the first of `folders` that has one."""

    def file_of(db_id: str) -> Path | None:
        files = (folder / db_id / f"{db_id}.sqlite" for folder in folders)
        return next((file for file in files if file.is_file()), None)

    return file_of


def show(question: str, layout: "_Layout", index: ValueIndex, room: int) -> Shown:
    """Return what the prompt of `question` shows of a database, whose values are in `index`.

    The schema and the line of values together take at most `room` tokens, by `tokens_at_most`; at least one column
    is shown. Cut are first values of columns, then columns and with them tables, the least relevant first.
    """
    words = words_of(question)
    named = named_columns(layout.schema, words)
    matches = [match for match in index.matches(words, named) if not CONTROL.search(match.value)]
    values = _values_line(matches)
    left = room - tokens_at_most(values)
    if layout.tokens <= left:
        return Shown(layout.whole, values, cut=False)
    ranks = _ranks(layout.schema, words, named, matches)
    for most in (_OF_NAMED_TABLES, _NAMED):  # values of ever fewer columns
        some = {place for place, rank in ranks.items() if rank <= most}
        if layout.tokens_with_values_of(some) <= left:
            return Shown(layout.text(ranks, some), values, cut=True)
    return Shown(_longest_that_fits(layout, ranks, left), values, cut=True)


# How relevant a column is to a question: it holds a value that is named; it is named itself; it is a key of a table
# that is named; another column of such a table; a key of any other; any other.
_HOLDS_VALUE, _NAMED, _KEYS_OF_NAMED, _OF_NAMED_TABLES, _KEY, _OTHER = range(6)
_Place = tuple[str, str]


def _ranks(
    schema: Schema, words: Sequence[Word], named: frozenset[_Place], matches: Sequence[Match]
) -> dict[_Place, int]:
    """Return how relevant each column (table, column) is, least first."""
    hold = {(match.table, match.column) for match in matches}
    tables = named_tables(schema, words) | {table for table, _ in named | hold}
    keys = _keys(schema)
    ranks = {}
    for table in schema.tables:
        for column in table.columns:
            place = (table.name, column.name)
            if place in hold:
                ranks[place] = _HOLDS_VALUE
            elif place in named:
                ranks[place] = _NAMED
            elif table.name in tables:
                ranks[place] = _KEYS_OF_NAMED if place in keys else _OF_NAMED_TABLES
            else:
                ranks[place] = _KEY if place in keys else _OTHER
    return ranks


def _keys(schema: Schema) -> set[_Place]:
    primary = {(table.name, name) for table in schema.tables for name in table.primary_key}
    ends = {(key.table, key.column) for key in schema.foreign_keys}
    return primary | ends | {(key.ref_table, key.ref_column) for key in schema.foreign_keys}


def _longest_that_fits(layout: "_Layout", ranks: dict[_Place, int], room: int) -> str:
    """Return the schema of as many columns as fit, the most relevant ones: at least one."""
    kept: set[_Place] = set()
    tables: set[str] = set()
    for place in sorted(ranks, key=lambda place: ranks[place]):  # of equal ones in the schema's order
        room -= layout.tokens_of(place, ranks[place] <= _NAMED)
        room -= 0 if place[0] in tables else layout.tokens_of_table(place[0])
        if room < 0 and kept:
            break
        kept.add(place)
        tables.add(place[0])
    return layout.text(kept, {place for place in kept if ranks[place] <= _NAMED})


@dataclass(frozen=True)
class _Written:
    """A column as it is written: itself, what it refers to, its description and its values, each maybe empty."""

    column: str
    reference: str
    referred: _Place | None
    description: str
    values: str


class _Layout:
    """Writes a schema, or some of its columns, with values of all of them or of some."""

    def __init__(self, schema: Schema, contents: Contents) -> None:
        self.schema = schema
        keys = _keys(schema)
        refers = {(key.table, key.column): key for key in schema.foreign_keys}
        self._written: dict[_Place, _Written] = {}
        for table in schema.tables:
            for column in table.columns:
                place = (table.name, column.name)
                own = [quoted(column.name), column.type, "PRIMARY KEY" if column.name in table.primary_key else ""]
                key = refers.get(place)
                values = _samples(contents.of(*place), place in keys)
                self._written[place] = _Written(
                    " ".join(part for part in own if part),
                    f"REFERENCES {quoted(key.ref_table)}({quoted(key.ref_column)})" if key else "",
                    (key.ref_table, key.ref_column) if key else None,
                    f"-- {column.description} --" if column.description else "",
                    f"[{values}]" if values else "",
                )
        places = self._written.keys()
        self.whole = self.text(places, places)
        self.tokens = tokens_at_most(self.whole)
        # Of parts: white space takes none, and no piece of a text goes over the marks and spaces between them.
        self._without_values = {place: tokens_at_most(self._column(place, places, ())) + 1 for place in places}
        self._of_values = {place: tokens_at_most(written.values) for place, written in self._written.items()}

    def tokens_of(self, place: _Place, with_values: bool) -> int:
        """Return how many tokens a column takes, its comma included."""
        return self._without_values[place] + (self._of_values[place] if with_values else 0)

    def tokens_of_table(self, name: str) -> int:
        """Return how many tokens a table's name, brackets and line feed take."""
        return tokens_at_most(quoted(name)) + 3

    def tokens_with_values_of(self, places: Collection[_Place]) -> int:
        """Return how many tokens the whole schema takes with values of these columns alone."""
        return self.tokens - sum(count for place, count in self._of_values.items() if place not in places)

    def text(self, shown: Collection[_Place], with_values: Collection[_Place]) -> str:
        """Return a line a table that has any of the columns `shown`; with values are those of the others."""
        lines = []
        for table in self.schema.tables:
            places = [(table.name, column.name) for column in table.columns]
            columns = [self._column(place, shown, with_values) for place in places if place in shown]
            if columns:
                lines.append(f"{quoted(table.name)}({', '.join(columns)})")
        return "\n".join(lines)

    def _column(self, place: _Place, shown: Collection[_Place], with_values: Collection[_Place]) -> str:
        written = self._written[place]
        reference = written.reference if written.referred in shown else ""
        values = written.values if place in with_values else ""
        return " ".join(part for part in (written.column, reference, written.description, values) if part)


def _samples(found: ColumnContents, is_key: bool) -> str:
    """Return a column's values as SQL writes them, the most frequent first; maybe none."""
    literals: list[str] = []
    left = ROOM_OF_SAMPLES
    for value in found.samples:
        if isinstance(value, str) and CONTROL.search(value):
            continue
        most = KEYS if is_key else TEXTS if isinstance(value, str) else NUMBERS
        literal = _literal(value, ROOM_OF_SAMPLES)
        left -= len(literal)
        if len(literals) >= most or (literals and left < 0):
            break
        literals.append(literal)
    return ", ".join(literals)


def _literal(value: Value, longest: int) -> str:
    """Return a value as SQL writes it; a text on one line, and cut behind so many characters."""
    if not isinstance(value, str):
        return repr(value)
    text = value if value.isprintable() else " ".join(value.split())
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return "'" + text.replace("'", "''") + "'"


def _values_line(matches: Sequence[Match]) -> str:
    found = [f"{quoted(m.table)}.{quoted(m.column)} = {_literal(m.value, len(m.value))}" for m in matches]
    return f"Values: {', '.join(found)}" if found else ""
