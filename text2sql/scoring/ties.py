"""Golds that are one of several right answers: `ORDER BY … LIMIT n` where rows tie at the limit.

Which of the tied rows SQLite returns depends on its plan, and the question does not say. To tell what else gold might
return, it is run with a higher LIMIT, with each row's rank by its ORDER BY (`Ranking.sql`), and where still more tie,
once more for those (`Ranking.more_sql`). A result is another one of gold's where it holds, in the order of the ranks,
as many rows of each as gold's cut leaves of them, for some order of the columns. Read are queries with one outermost
SELECT, not DISTINCT, and a LIMIT and OFFSET in digits; ties in a subquery, or in a set operation, are not looked for.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from text2sql.scoring.official import Row, Rows

_MOST_COLUMNS = 6  # of which all orders are tried
_RANK = '"rank by its ORDER BY"'
_MORE = 1000  # rows that are looked at behind gold's LIMIT: SQLite keeps so few while it sorts, instead of all

_TOKEN = re.compile(
    r"""(?P<skipped> \s+ | --[^\n]* | /\*.*?(?:\*/|$) )
      | (?P<quoted> '(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | \[[^]]*\] )
      | (?P<word> \w+ ) | (?P<mark> . )""",
    re.VERBOSE | re.DOTALL,
)
_LIMIT = re.compile(r"\s*(?P<first>\d+)\s*(?:(?P<how>,|offset\b)\s*(?P<second>\d+)\s*)?", re.IGNORECASE)
_DIRECTION = re.compile(r"(?:\s+(?:asc|desc))?(?:\s+nulls\s+(?:first|last))?\s*\Z", re.IGNORECASE)
_ALIAS = re.compile(r"(?P<value>.*\S)\s+as\s+(?P<name>\w+|\"[^\"]*\"|`[^`]*`|\[[^]]*\])\s*", re.IGNORECASE | re.DOTALL)
_OTHERWISE = frozenset(("union", "intersect", "except", "distinct", "window"))


@dataclass(frozen=True)
class Ranking:
    """Gold in parts, to run it with another LIMIT and each row's rank.

    `before` ends before its FROM and `after` begins there, up to its ORDER BY, which is `order`; `keys` are the values
    it orders by, with their directions.
    """

    before: str
    after: str
    order: str
    keys: tuple[tuple[str, str], ...]
    limit: int
    offset: int

    @property
    def last(self) -> int:
        """The last row that gold's LIMIT and OFFSET leave, from 1."""
        return self.offset + self.limit

    def sql(self, width: int) -> str:
        """Return a query of the rows that may come before gold's LIMIT: `width` cells, keys, rank, and how many.

        Equal rows of one rank are one row: there may be very many, all tied. No row behind `last` + _MORE is seen.
        """
        inner = f"{self._with_keys}\n{self.order}\nLIMIT {self.last + _MORE}"
        terms = ", ".join(f"{name}{direction}" for (_, direction), name in zip(self.keys, self._names))
        ranked = f"SELECT *, rank() OVER (ORDER BY {terms}) AS {_RANK} FROM ({inner}\n)"
        return self._counted(f"({ranked}\n) WHERE {_RANK} <= {self.last}", width + len(self.keys) + 1)

    def more_sql(self, rows: Rows, width: int) -> str:
        """Return a query of all rows that tie with the last of `rows`, which are those of `sql`."""
        last = max(rows, key=lambda row: row[-2])
        keys = last[width:-2]
        if any(isinstance(key, float) or (isinstance(key, str) and not key.isascii()) for key in keys):
            # No literal stands for such a value for certain: rank all rows, which takes twice as long.
            rank = f"rank() OVER (ORDER BY {', '.join(map(''.join, self.keys))})"
            ranked = f"{self.before}\n, {self._keys}, {rank} AS {_RANK} {self.after}"
            return self._counted(f"({ranked}\n) WHERE {_RANK} = {last[-2]}", width + len(keys) + 1)
        same = " AND ".join(f"{name} IS {_literal(key)}" for name, key in zip(self._names, keys))
        ranked = f"SELECT *, {last[-2]} AS {_RANK} FROM ({self._with_keys}\n) WHERE {same}"
        return self._counted(f"({ranked}\n)", width + len(keys) + 1)

    @property
    def _names(self) -> list[str]:
        return [f'"key {number} of its ORDER BY"' for number in range(1, len(self.keys) + 1)]

    @property
    def _keys(self) -> str:
        return ", ".join(f"{value} AS {name}" for (value, _), name in zip(self.keys, self._names))

    @property
    def _with_keys(self) -> str:
        return f"{self.before}\n, {self._keys} {self.after}"

    @staticmethod
    def _counted(ranked: str, columns: int) -> str:
        return f"SELECT *, count(*) FROM {ranked} GROUP BY {', '.join(map(str, range(1, columns + 1)))}"

    def complete(self, rows: Rows) -> bool:
        """Return whether the rows of `sql` are all of their ranks."""
        return sum(row[-1] for row in rows) < self.last + _MORE

    def joined(self, rows: Rows, more: Rows, width: int) -> Rows:
        """Return the rows of `sql` and `more_sql`, if any, without keys: `width` cells, the rank, and how many."""
        replaced = more[0][-2] if more else None
        kept = [row for row in rows if row[-2] != replaced]
        return [(*row[:width], *row[-2:]) for row in (*kept, *more)]


def _literal(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


class _Top:
    """A query's words and commas outside all parentheses and quotes, each with where it begins and ends."""

    def __init__(self, sql: str) -> None:
        self.words: list[tuple[str, int, int]] = []
        self.commas: list[int] = []
        self.end = len(sql)  # where the statement ends
        level = 0
        for match in _TOKEN.finditer(sql):
            token = match[0].lower()
            level += {"(": 1, ")": -1}.get(token, 0)
            if level == 0 and match.lastgroup == "word":
                self.words.append((token, *match.span()))
            elif level == 0 and token == ",":
                self.commas.append(match.start())
            elif level == 0 and token == ";":
                self.end = match.start()
                break

    def parts(self, sql: str, start: int, end: int) -> list[str]:
        """Return the text from `start` to `end`, split at commas."""
        bounds = [start, *(at for at in self.commas if start <= at < end), end]
        return [sql[left:right].lstrip(",").strip() for left, right in itertools.pairwise(bounds)]


def ranking(gold: str) -> Ranking | None:
    """Return how to rank the rows of a gold query; None where it is none that `LIMIT` cuts in order, or not read."""
    if "limit" not in gold.lower():
        return None
    top = _Top(gold)
    places: dict[str, tuple[int, int]] = {}
    for position, (word, start, end) in enumerate(top.words):
        if word in _OTHERWISE or (word == "select" and "select" in places):
            return None
        if word == "order" and top.words[position + 1 : position + 2] != []:
            places["order"] = (start, top.words[position + 1][2])
        elif word in ("select", "from", "limit"):
            places.setdefault(word, (start, end))
    if list(places) != ["select", "from", "order", "limit"]:
        return None
    limit = _LIMIT.fullmatch(gold, places["limit"][1], top.end)
    if limit is None:
        return None
    numbers = int(limit["first"]), int(limit["second"] or 0)
    count, offset = reversed(numbers) if limit["how"] == "," else numbers
    selected = top.parts(gold, places["select"][1], places["from"][0])
    terms = top.parts(gold, places["order"][1], places["limit"][0])
    keys = [_key(term, selected) for term in terms]
    if None in keys:
        return None
    start, order, limited = places["from"][0], places["order"][0], places["limit"][0]
    before, after = gold[:start].rstrip(), gold[start:order].rstrip()
    return Ranking(before, after, gold[order:limited].rstrip(), tuple(filter(None, keys)), count, offset)


def _key(term: str, selected: Sequence[str]) -> tuple[str, str] | None:
    """Return the value of a term of ORDER BY, and its direction. A position or an alias is replaced by its value."""
    direction = _DIRECTION.search(term)
    assert direction is not None  # it matches no direction too
    value = term[: direction.start()].strip()
    if value.isdecimal():
        if any(item.endswith("*") for item in selected) or not 0 < int(value) <= len(selected):
            return None
        value = _value_and_alias(selected[int(value) - 1])[0]
    else:
        values = {alias: expression for expression, alias in map(_value_and_alias, selected) if alias}
        value = values.get(_unquoted(value), value)
    return value, direction[0].rstrip()


def _value_and_alias(item: str) -> tuple[str, str]:
    match = _ALIAS.fullmatch(item)
    return (match["value"], _unquoted(match["name"])) if match else (item, "")


def _unquoted(name: str) -> str:
    return name.strip('"`[]').lower()


def tied(ranking: Ranking, ranked: Rows) -> bool:
    """Return whether rows tie at gold's LIMIT and differ, so that another result would be as right."""
    return any(left < rows.total() and len(rows) > 1 for rows, left in _groups(ranking, ranked))


def only_tied(ranking: Ranking, ranked: Rows, gold: Rows, predicted: Rows) -> bool:
    """Return whether rows tie at gold's LIMIT, and `predicted` is another result that gold might have had.

    `ranked` are the rows that `ranking.joined` gives, `gold` those of the gold query itself.
    """
    groups = _groups(ranking, ranked)
    if not tied(ranking, ranked) or not _fits(groups, gold):
        return False
    width = len(gold[0])
    if len(predicted) != len(gold) or len(predicted[0]) != width:
        return False
    orders: Iterator = itertools.permutations(range(width)) if width <= _MOST_COLUMNS else iter([range(width)])
    return any(_fits(groups, [tuple(row[column] for column in order) for row in predicted]) for order in orders)


def _groups(ranking: Ranking, ranked: Rows) -> list[tuple[Counter[Row], int]]:
    """Return the rows of each rank that LIMIT and OFFSET leave some of, in order, with how many they leave."""
    found, begin = [], 0
    by_rank = sorted(ranked, key=lambda row: row[-2])
    for _, group in itertools.groupby(by_rank, key=lambda row: row[-2]):
        rows: Counter[Row] = Counter()
        for *row, _, count in group:
            rows[tuple(row)] += count
        end = begin + rows.total()
        left = min(end, ranking.last) - max(begin, ranking.offset)
        if left > 0:
            found.append((rows, left))
        begin = end
    return found


def _fits(groups: Sequence[tuple[Counter[Row], int]], rows: Rows) -> bool:
    begin = 0
    for group, left in groups:
        if not Counter(rows[begin : begin + left]) <= group:
            return False
        begin += left
    return begin == len(rows)
