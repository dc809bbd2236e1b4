"""Whether a query that is being written can still name only columns that its tables have.

A grammar knows which columns a database has. Which of them the tables of one SELECT have is said here, token by token:
`SELECT PetType FROM Has_Pet` cannot end, nor go on with WHERE, where PetType is a column of Pets; it can go on with
JOIN. What is read has passed the grammar of `text2sql.prompts.grammar`; other SQL is not understood.

A text counts as a query's beginning by its characters alone, however a model cuts them into tokens.
"""

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, field

from text2sql.data.schema import Schema
from text2sql.prompts.grammar import AGGREGATES, NO_ALIAS, SCALARS

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)  # SQLite folds no others
_VALUES = frozenset({"null", "true", "false", "end", "current_date", "current_time", "current_timestamp"})
_KEYWORDS = frozenset(NO_ALIAS) | _VALUES
_ENDS = frozenset({"asc", "desc", "isnull", "notnull"})  # a keyword follows, no name
_AFTER_FROM = frozenset({"where", "group", "order", "having", "limit", "union", "intersect", "except"})
_FUNCTIONS = frozenset((*SCALARS, *AGGREGATES))
_AGGREGATES = frozenset({"avg", "count", "group_concat", "max", "min", "sum", "total"})
# What may stand where a name may, or between a keyword and a name.
_BEFORE_NAMES = (
    *SCALARS,
    *(_VALUES - {"end"}),
    *"not case cast exists select distinct by all when in like glob between partition order".split(),
)
_JOINS = "join inner left right full cross natural".split()
_AFTER_SOURCE = (*_JOINS, "on", "using", "as")
_AFTER_CONDITION = (*_JOINS, *"and or not in is isnull notnull like glob between escape".split())
_NAME = r"""(?:[^\W\d][\w$]*|"(?:[^"]|"")+"|`(?:[^`]|``)+`|\[[^\[\]]+\])"""
_TOKEN = re.compile(
    rf"""(?P<space>\s+) | (?P<string>'(?:[^']|'')*')
    | (?P<name>{_NAME})(?:\.(?P<column>\*|{_NAME}))?(?P<call>\s*\()? | (?P<number>\d[\w.]*|\.\d+) | (?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_UNFINISHED = re.compile(rf"(?:(?P<table>{_NAME})\.)?(?P<word>[^\W\d][\w$]*)?")
_WHOLE = re.compile(rf"{_NAME}(?:\.{_NAME})?")
_BEGINNING = re.compile(r"\s*(?:```\w*\s+)?(?=select\s)", re.IGNORECASE)
_FENCE = "```"
MOST_TIMES = 3  # that one FROM names a table: none of Spider's 8,659 golds names one more often
_DOUBLED = ('""', "``")  # a quote within quotes


def folded(name: str) -> str:
    """Return a name as SQLite compares it: without quotes, its ASCII letters in lower case."""
    quote = name[:1]
    if quote in ('"', "`", "'"):
        name = name[1:-1].replace(quote * 2, quote)
    elif quote == "[":
        name = name[1:-1]
    return name.translate(_LOWER)


def columns_of(schema: Schema) -> dict[str, frozenset[str]]:
    """Return {table: its columns}, the names as SQLite compares them."""
    return {
        table.name.translate(_LOWER): frozenset(column.name.translate(_LOWER) for column in table.columns)
        for table in schema.tables
    }


@dataclass(slots=True)
class _Select:
    """One SELECT: where it has come to, its tables, and the names that wait for them."""

    depth: int  # how many parentheses are open around it
    outer: "_Select | None"
    compound: bool = False  # it follows UNION or the like
    anything: bool = False  # in a compound's ORDER BY, which may name another SELECT's columns
    phase: str = "list"  # then from, then after
    wants: str = ""  # in FROM: source, alias (after AS: named), condition; in a list after AS: name
    aggregates: bool = False  # it may have them in ORDER BY: it has some in its list, or GROUP BY
    merged: bool = False  # a NATURAL join or one with USING: a name of both sides is one column
    sources: list[tuple[str, frozenset[str] | None]] = field(default_factory=list)  # columns: None for a subquery's
    bare: set[str] = field(default_factory=set)
    of: dict[str, frozenset[str]] = field(default_factory=dict)
    aliases: set[str] = field(default_factory=set)

    def copied(self) -> "_Select":
        return _Select(
            self.depth,
            self.outer and self.outer.copied(),
            self.compound,
            self.anything,
            self.phase,
            self.wants,
            self.aggregates,
            self.merged,
            self.sources[:],
            set(self.bare),
            dict(self.of),
            set(self.aliases),
        )

    def has(self, table: str, column: str) -> bool | None:
        """Return whether a name is one of its tables'; None where an outer SELECT is asked next."""
        if table:
            for name, columns in self.sources:
                if name == table:
                    return columns is None or column == "*" or column in columns
            return None
        found = 0
        for _, columns in self.sources:
            if columns is None:
                return True
            found += column in columns
        if found:
            return found == 1 or self.merged
        return True if column in self.aliases or self.anything else None

    def doubled(self, columns: frozenset[str]) -> bool:
        """Return whether a further table's columns make a name of the list ambiguous."""
        return not self.merged and any(
            name in columns and any(name in (others or ()) for _, others in self.sources) for name in self.bare
        )

    def has_enough_of(self, columns: frozenset[str]) -> bool:
        """Return whether the table of these `columns` (the object itself) is joined as often as any query needs it.

        A FROM that names wait for in vain would grow up to the limit.
        """
        return sum(others is columns for _, others in self.sources) == MOST_TIMES

    def names(self) -> Iterator[str]:
        """Yield what a bare name may be, or a table's name before its point."""
        for name, columns in self.sources:
            yield name
            for column in columns or ():
                if self.has("", column):
                    yield column
        yield from self.aliases


class Names:
    """The names of a query up to some character, for a database of `columns` ({table: its columns})."""

    def __init__(self, columns: dict[str, frozenset[str]]) -> None:
        self._columns = columns
        self._select: _Select | None = None
        self._nested: list[bool] = []  # of each open parenthesis, whether a SELECT stands in it
        self._opened = False  # the last token opened one
        self._begun = False  # bytes of a further character are there
        self._type = False  # CAST's: what comes next is no column
        self._operand = False  # the last token was a name or a value: what follows is no other
        self._rest = ""  # of the text, what may still become another token
        self._shares = False  # the two above with the state before, until a token changes them

    def after(self, text: str, begun: bool = False) -> "Names | None":
        """Return the state after `text`, or None if no query over existing columns begins so.

        `begun`: some bytes of a further character follow, which is no ASCII one.
        """
        new = self._changed(self._rest + text)
        new._begun = begun
        return new if new._read() and new._can_go_on() else None

    def can_end(self) -> bool:
        """Return whether the query may end here."""
        new = self._changed(self._rest.removesuffix(_FENCE).rstrip("; \t\r\n") + " ")
        if not new._read(ending=True) or new._select is None:
            return False
        return _closed(new._select.copied())

    def _changed(self, rest: str) -> "Names":
        new = Names(self._columns)
        new._select, new._nested, new._shares = self._select, self._nested, True
        new._opened, new._type, new._operand, new._rest = self._opened, self._type, self._operand, rest
        return new

    def _read(self, ending: bool = False) -> bool:
        """Take the tokens that are complete; return whether all of their names are there."""
        text, position = self._rest, 0
        if self._select is None:
            begins = _BEGINNING.match(text)
            if begins is None:
                return True
            position = begins.end()
        while position < len(text):
            token = _TOKEN.match(text, position)
            assert token is not None  # any character is a token
            if not ending and _may_grow(text, token):
                break
            position = token.end()
            if not self._take(token):
                return False
        self._rest = text[position:]
        return True

    def _take(self, token: re.Match) -> bool:
        kind = token.lastgroup
        if kind == "space":
            return True
        if self._shares:
            self._select = self._select and self._select.copied()
            self._nested, self._shares = self._nested[:], False
        opened, self._opened = self._opened, False
        self._operand = kind != "mark" or token["mark"] == ")"
        if token["name"]:
            name, quoted = folded(token["name"]), token["name"][0] in '"`['
            if token["column"]:
                return self._name(name, folded(token["column"]))
            if name in _KEYWORDS and not quoted and not self._is_table(name):
                right = self._keyword(name, opened)
                self._operand = name in _VALUES or name in _ENDS
            elif token["call"] and not quoted:
                right = self._called(name)
            else:
                right = self._lone(name, literal=token["name"][0] == '"')
            if token["call"]:
                self._open()
                self._operand = False
            return right
        if token["string"]:
            return self._lone(folded(token["string"]), literal=True)
        return self._mark(token["mark"]) if token["mark"] else True

    def _open(self) -> None:
        self._nested.append(False)
        self._opened = True

    def _mark(self, mark: str) -> bool:
        select = self._select
        if mark == "(":
            self._open()
        elif mark == ")" and self._nested and select is not None:
            if self._nested.pop():
                right, self._select = _closed(select), select.outer
                outer = self._select
                if outer is not None and outer.wants == "source" and outer.phase == "from":
                    outer.sources.append(("", None))
                    outer.wants = "alias"
                return right
        elif mark == "," and self._at_level() and select is not None and select.phase == "from":
            select.wants = "source"
        elif mark == ";" and select is not None:
            return _closed(select)
        return True

    def _at_level(self) -> bool:
        return self._select is not None and len(self._nested) == self._select.depth

    def _called(self, function: str) -> bool:
        """Take a function's name; return whether it may stand here."""
        select = self._select
        if select is None or function not in _AGGREGATES:
            return True
        select.aggregates |= select.phase == "list"
        return select.aggregates or select.anything or select.phase != "after"

    def _is_table(self, word: str) -> bool:
        """Whether a word that is a keyword elsewhere stands where a table's name does."""
        select = self._select
        return select is not None and select.wants == "source" and self._at_level() and word in self._columns

    def _keyword(self, word: str, opened: bool) -> bool:
        select = self._select
        if word == "select":
            if opened and self._nested:
                self._nested[-1] = True
            outer = select if opened or select is None else select.outer
            compound = select is not None and not opened
            self._select = _Select(len(self._nested), outer, compound)
            return True
        if select is None or not self._at_level():
            self._type = word == "as"
            return True
        if word == "as":
            select.wants = "named" if select.phase == "from" else "name"
        elif word == "from":
            select.phase, select.wants = "from", "source"
        elif word == "join":
            select.wants = "source"
        elif word in ("natural", "using"):
            select.merged = True
            select.wants = "columns" if word == "using" else ""
        elif word in _AFTER_FROM:
            select.anything = select.compound and word == "order"
            select.aggregates |= word == "group"
            return _closed(select)
        elif word == "on":
            select.wants = "condition"
        elif word in _JOINS or word == "outer":
            select.wants = ""
        return True

    def _lone(self, name: str, literal: bool) -> bool:
        """Take a name without a table's: a table, an alias or a column. `literal`: its quotes may be a value's."""
        select = self._select
        if select is None or select.wants == "columns" or self._type:
            self._type = False
            return True
        if select.wants == "name":
            select.aliases.add(name)
            select.wants = ""
        elif select.wants == "source" and self._at_level():
            columns = self._columns.get(name)
            if columns is None or select.doubled(columns) or select.has_enough_of(columns):
                return False
            select.sources.append((name, columns))
            select.wants = "alias"
        elif select.wants in ("alias", "named") and self._at_level():
            columns = select.sources[-1][1]
            if any(name == other for other, _ in select.sources[:-1]) or not _fits(select.of.get(name), columns):
                return False
            select.sources[-1] = (name, columns)
            select.wants = ""
        elif not literal:
            return self._name("", name)
        return True

    def _name(self, table: str, column: str) -> bool:
        select = self._select
        if select is None:
            return True
        return self._waits(select, table, column) if select.phase == "list" else _is_there(select, table, column)

    def _waits(self, select: _Select, table: str, column: str) -> bool:
        """Keep a name of the list until the tables are known; return whether a table can have it."""
        if not table:
            select.bare.add(column)
            return True
        known = select.of.get(table, frozenset())
        select.of[table] = known | ({column} - {"*"})
        return any(self._candidates(table, select.of[table]))

    def _candidates(self, table: str, columns: frozenset[str]) -> Iterator[frozenset[str]]:
        """Yield the columns of each table that `table`, its name or an alias, may stand for."""
        if table in self._columns:
            yield from [self._columns[table]] if columns <= self._columns[table] else []
        else:
            yield from (others for others in self._columns.values() if columns <= others)

    def _can_go_on(self) -> bool:
        """Return whether a name that is not finished can become one that is there."""
        select, rest = self._select, self._rest
        if select is None or not rest:
            return True
        if rest.startswith(_FENCE):
            return self.can_end()
        if rest[-1].isspace() and _WHOLE.fullmatch(rest.rstrip()):
            return self._whole(rest.rstrip())
        part = _UNFINISHED.fullmatch(rest)
        if part is None or self._type or select.wants in ("name", "columns"):
            return True
        word = (part["word"] or "").translate(_LOWER)
        if part["table"]:
            return self._column_can_be(select, folded(part["table"]), word)
        if self._operand and select.phase == "from" and self._at_level() and self._only_ends(select, word):
            return _closed(select.copied())
        if select.wants in ("source", "alias", "named") and self._at_level():
            return self._source_can_be(select, word)
        if select.phase == "list" or select.anything or any(columns is None for _, columns in select.sources):
            return True
        if self._operand:
            return True  # a keyword, which the grammar knows
        joins = (*_JOINS, "outer") if select.phase == "from" and select.wants == "" else ()
        aggregates = AGGREGATES if select.aggregates or select.anything or select.phase != "after" else ()
        possible = (_outwards(select), _BEFORE_NAMES, aggregates, joins)
        return any(self._may_be(word, name) for names in possible for name in names)

    def _whole(self, name: str) -> bool:
        """Return whether a name that a space has ended is there, or a function's, whose arguments may yet come."""
        if self._changed(f"{name} =")._read():
            return True
        return name.translate(_LOWER) in _FUNCTIONS and self._changed(f"{name}(")._read()

    def _may_be(self, word: str, name: str) -> bool:
        """Return whether a word that is not finished may become `name`."""
        return name.startswith(word) and (not self._begun or name[len(word) : len(word) + 1] > "\x7f")

    def _only_ends(self, select: _Select, word: str) -> bool:
        """Return whether a word that begins so after a table, an alias or a join's condition ends the FROM."""
        if select.wants in ("alias", "named"):  # it may be an alias
            return select.wants == "alias" and word in _AFTER_FROM
        others = _AFTER_CONDITION if select.wants == "condition" else _AFTER_SOURCE
        return not any(other.startswith(word) for other in others)

    def _source_can_be(self, select: _Select, word: str) -> bool:
        if select.wants == "source":
            return "select".startswith(word) or any(
                self._may_be(word, name) and not (select.doubled(columns) or select.has_enough_of(columns))
                for name, columns in self._columns.items()
            )
        if _fits(select.of.get(word), select.sources[-1][1]):
            return True
        return any(name != word and name.startswith(word) for name in (*select.of, *_KEYWORDS))

    def _column_can_be(self, select: _Select, table: str, word: str) -> bool:
        if select.phase == "list":
            known = select.of.get(table, frozenset())
            found: Iterator[frozenset[str] | None] = self._candidates(table, known)
            return any(self._may_be(word, name) for columns in found for name in columns or ())
        inner: _Select | None = select
        while inner is not None and (inner.phase != "list" or inner is select):
            for name, columns in inner.sources:
                if name == table:
                    return columns is None or any(self._may_be(word, column) for column in columns)
            inner = inner.outer
        return inner is not None


def _may_grow(text: str, token: re.Match) -> bool:
    """Return whether more characters at the end of `text` could make another token of the last one."""
    end = token.end()
    if token.lastgroup in ("space", "number", "string"):
        return end == len(text) and token.lastgroup != "space"
    if token["mark"]:
        return token["mark"] in "'\"`["
    return not token["call"] and (not text[end:].strip() or text[end] == "." or text[end - 1 : end + 1] in _DOUBLED)


def _fits(wanted: frozenset[str] | None, columns: frozenset[str] | None) -> bool:
    return not wanted or columns is None or wanted <= columns


def _is_there(select: _Select | None, table: str, column: str) -> bool:
    """Return whether a name is one of the tables around it; where those are not known yet, it waits for them."""
    while select is not None:
        if select.phase == "list":
            if table:
                select.of[table] = select.of.get(table, frozenset()) | ({column} - {"*"})
            else:
                select.bare.add(column)
            return True
        found = select.has(table, column)
        if found is not None:
            return found
        # An outer SELECT's column takes its table's name. SQLite reads one without, too, but it is never meant: none of
        # 8,659 golds has one, and `WHERE id IN (SELECT id FROM other)` with it returns every row.
        select = select.outer if table else None
    return False


def _closed(select: _Select) -> bool:
    """End the FROM of `select`; return whether all names that waited for it are there."""
    if select.phase == "after":
        return True
    select.phase, select.wants = "after", ""
    waiting = [(table, column) for table, columns in select.of.items() for column in columns or {"*"}]
    waiting += [("", column) for column in select.bare]
    # Its own aliases are for what comes later.
    aliases, select.aliases = select.aliases, set()
    right = all(_is_there(select, table, column) for table, column in waiting)
    select.aliases = aliases
    return right


def _outwards(select: _Select) -> Iterator[str]:
    """Yield what a word may begin in `select`: a column, or a table around it, whose column then follows."""
    yield from select.names()
    outer = select.outer
    while outer is not None:
        yield from (name for name, _ in outer.sources)
        outer = outer.outer


def accepts(query: str, columns: dict[str, frozenset[str]]) -> bool:
    """Return whether all beginnings of `query` can go on, and it can end; see `columns_of`."""
    state = Names(columns)
    for char in query:
        after = state.after(char)
        if after is None:
            return False
        state = after
    return state.can_end()
