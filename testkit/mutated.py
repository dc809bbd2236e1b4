"""Queries made of gold queries by small changes: some as right as before, most wrong in the ways of a model.

    mutated("SELECT a FROM t LIMIT 1", others, random.Random(0), 8)

The same seed gives the same queries.
"""

import itertools
import random
import re
from collections.abc import Callable, Sequence

_WORD = re.compile(r"\w+|'[^']*'|\"[^\"]*\"|\S")
_SELECTED = re.compile(
    r"(?P<select>\s*select\s+)(?P<items>[^()]*?(?:\([^()]*\)[^()]*?)*)(?P<rest>\sfrom\s.*)", re.I | re.S
)


def _sub(pattern: str, replacement: str | Callable[[re.Match], str], count: int = 1) -> Callable:
    def change(query: str, others: Sequence[str], rng: random.Random) -> str:
        return re.sub(pattern, replacement, query, count=count, flags=re.IGNORECASE)

    return change


def _items(change: Callable[[list[str], random.Random], list[str]]) -> Callable:
    def changed(query: str, others: Sequence[str], rng: random.Random) -> str:
        found = _SELECTED.fullmatch(query)
        if not found:
            return query
        items = [item.strip() for item in re.split(r",(?![^()]*\))", found["items"])]
        return found["select"] + ", ".join(change(items, rng)) + found["rest"]

    return changed


def _without_a_word(query: str, others: Sequence[str], rng: random.Random) -> str:
    words = _WORD.findall(query)
    del words[rng.randrange(len(words))]
    return " ".join(words)


def _bare(query: str) -> str:
    return query.rstrip().rstrip(";")


# Each takes the query, those of the same database, and a source of chance.
MUTATIONS: dict[str, Callable[[str, Sequence[str], random.Random], str]] = {
    "wrapped": lambda query, others, rng: f"SELECT * FROM ({_bare(query)})",
    "with a semicolon and a comment": lambda query, others, rng: f"{_bare(query)} ; -- so",
    "twice": lambda query, others, rng: f"SELECT * FROM ({_bare(query)}) UNION ALL SELECT * FROM ({_bare(query)})",
    "in other order": lambda query, others, rng: f"SELECT * FROM ({_bare(query)}) ORDER BY 1 DESC",
    "no rows": lambda query, others, rng: f"SELECT * FROM ({_bare(query)}) WHERE 0",
    "first rows": lambda query, others, rng: f"SELECT * FROM ({_bare(query)}) LIMIT {rng.randint(1, 3)}",
    "one column more": lambda query, others, rng: f"SELECT *, 1 FROM ({_bare(query)})",
    "another question's": lambda query, others, rng: rng.choice(others),
    "two statements": lambda query, others, rng: f"{_bare(query)}; SELECT 1",
    "no statement": lambda query, others, rng: rng.choice(["", ";", "-- I do not know", "/* none */", " \n"]),
    "cut": lambda query, others, rng: query[: rng.randint(1, len(query))],
    "without a word": _without_a_word,
    "without LIMIT": _sub(r"\blimit\s+\d+", ""),
    "another LIMIT": _sub(r"\blimit\s+(\d+)", lambda found: f"LIMIT {int(found[1]) + 1}"),
    "the other direction": _sub(r"\b(asc|desc)\b", lambda found: "ASC" if found[1].lower() == "desc" else "DESC"),
    "without DISTINCT": _sub(r"\bdistinct\b", "", 0),
    "with DISTINCT": _sub(r"\bselect\b(?!\s+distinct)", "SELECT DISTINCT"),
    "another aggregate": _sub(
        r"\b(max|min|avg|sum)\s*\(", lambda found: "min(" if found[1].lower() == "max" else "max("
    ),
    "a count of different ones": _sub(r"\bcount\s*\(\s*(\w[\w.]*)\s*\)", r"count(DISTINCT \1)"),
    "another comparison": _sub(r"(?<![<>!=])([<>=])(?![<>=])", lambda found: {"<": ">", ">": "<="}.get(found[1], "!=")),
    "OR for AND": _sub(r"\band\b", "OR"),
    "another number": _sub(r"(?<![\w.])(\d+)(?![\w.])", lambda found: str(int(found[1]) + 1)),
    "another text": _sub(r"'([^']*)'", r"'\1 '"),
    "a text in other case": _sub(r"(['\"])([^'\"]*)\1", lambda found: found[0].swapcase()),
    "a misspelt column": _sub(r"(\w\.\w+)", r"\1_x"),
    "a left join": _sub(r"\bjoin\b", "LEFT JOIN"),
    "columns turned round": _items(lambda items, rng: items[::-1]),
    "a column less": _items(lambda items, rng: items[:-1] or ["1"]),
    "all columns": _items(lambda items, rng: ["*"]),
    "as a real number": _items(lambda items, rng: [f"({items[0]}) * 1.0", *items[1:]]),
    "as text": _items(lambda items, rng: [f"CAST(({items[0]}) AS TEXT)", *items[1:]]),
}


def mutated(query: str, others: Sequence[str], rng: random.Random, count: int) -> list[str]:
    """Return `count` other queries made of `query`, by as many kinds of change; `others` are of the same database."""
    changes = (change(query, others, rng) for change in rng.sample(list(MUTATIONS.values()), len(MUTATIONS)))
    return list(itertools.islice((changed for changed in changes if changed != query), count))
