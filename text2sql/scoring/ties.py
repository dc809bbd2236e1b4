"""Golds that are one of several right answers: `ORDER BY … LIMIT n` where rows tie at the limit.

Which of the tied rows SQLite returns depends on its plan, and the question does not say. To tell what else gold might
return, it is run without its LIMIT, with each row's rank by its ORDER BY (`Ranking.sql`). A result is another one of
gold's where it holds, in the order of the ranks, as many rows of each as gold's cut leaves of them, for some order of
the columns. Read are queries with one outermost SELECT, not DISTINCT, and a LIMIT and OFFSET in digits; ties in a
subquery, or in a set operation, are not looked for.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from text2sql.scoring.official import Row, Rows

_MOST_COLUMNS = 6  # of which all orders are tried
_RANK = '"rank by its ORDER BY"'

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
    """Gold without its LIMIT; `ranked` is what gives the rows that may come before it, after the word FROM."""

    ranked: str
    limit: int
    offset: int

    def sql(self, width: int) -> str:
        """Return a query of those rows, `width` cells each, with two more: their rank, and how many they are.

        Equal rows of one rank are one row: there may be very many, all tied.
        """
        return f"SELECT *, count(*) FROM {self.ranked} GROUP BY {', '.join(map(str, range(1, width + 2)))}"


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
    rank = f"rank() OVER (ORDER BY {', '.join(map(str, keys))}) AS {_RANK}"
    start, end = places["from"][0], places["order"][0]
    ranked = f"{gold[:start].rstrip()}, {rank} {gold[start:end].rstrip()}"
    return Ranking(f"({ranked}\n) WHERE {_RANK} <= {offset + count}", count, offset)


def _key(term: str, selected: Sequence[str]) -> str | None:
    """Return a term of ORDER BY as it may stand in a window: a position or an alias is replaced by its value."""
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
    return value + direction[0]


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

    `ranked` are the rows of `ranking.sql`, `gold` those of the gold query itself.
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
    last = ranking.offset + ranking.limit
    by_rank = sorted(ranked, key=lambda row: row[-2])
    for _, group in itertools.groupby(by_rank, key=lambda row: row[-2]):
        rows: Counter[Row] = Counter()
        for *row, _, count in group:
            rows[tuple(row)] += count
        end = begin + rows.total()
        left = min(end, last) - max(begin, ranking.offset)
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
