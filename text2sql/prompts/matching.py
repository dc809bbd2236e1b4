"""Which of a database's values and names a question speaks of, by its words: what `prompt.schema: rich` shows.

A value counts as named where all its words stand together in the question, or, of a name in capitals or quotes, where
the question has at least half of its letters. Words are compared without case, accents' forms and a plural's s. In a
database of any size a question takes some look-ups for each of its words. (The idea is that of value linking in BRIDGE,
Lin et al. 2020, and in CodeS, Li et al. 2024.)
"""

import functools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from text2sql.data.contents import Contents
from text2sql.data.schema import Schema

MOST_MATCHES = 6  # shown of a question
MOST_COLUMNS = 3  # of one value
LONGEST = 8  # words of a value
_RARE = 20  # values of a column's database that share a word: more, and it is no name
_WORD = re.compile(r"[^\W_]+")
_QUOTES = re.compile(r"""(?<!\w)(?:'[^'\n]+'(?!\w)|"[^"\n]+"|‘[^’\n]+’|“[^”\n]+”|`[^`\n]+`)""")
_NAME_PART = re.compile(r"[^\W\d_]+|\d+")
_BEGINNING = re.compile(r"(?:^|[.?!:])\W*$")  # of a sentence, behind it
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True)
class Word:
    """A word of a question: how it is compared, and whether it looks like a name of something."""

    key: str
    quoted: bool
    names: bool  # in quotes, or with a capital that no beginning of a sentence gives it


@dataclass(frozen=True)
class Match:
    """A value that a question names: where it is stored, and as what."""

    table: str
    column: str
    value: str


def words_of(question: str) -> list[Word]:
    """Return the words of a question, in order."""
    quotes = [found.span() for found in _QUOTES.finditer(question)]
    words = []
    for found in _WORD.finditer(question):
        quoted = any(start <= found.start() < stop for start, stop in quotes)
        begins = bool(_BEGINNING.search(question, 0, found.start()))
        text = found[0]
        words.append(Word(_key(text), quoted, quoted or text[0].isupper() and not begins or text.isupper()))
    return words


def _key(word: str) -> str:
    word = unicodedata.normalize("NFKC", word).casefold()
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    for ending in ("ie", "y"):  # countries and country, movies and movie
        if len(word) > 3 and word.endswith(ending):
            return word.removesuffix(ending) + "i"
    return word


_COMMON = frozenset(
    map(
        _key,
        "a about above after all also am an and any are as at be been before below between both but by can "
        "could did do does each few find first for from get give had has have he her here him his how i if "
        "in into is it its last least less list many me more most much my name names no none not number of "
        "off on only or other our out over own same she show since so some such than that the their them "
        "then there these they this those to too total under until up us value very was we were what when "
        "where which while who whom whose why will with would yes you your".split(),
    )
)


def _keys(text: str) -> tuple[str, ...]:
    return tuple(map(_key, _WORD.findall(text)))


class ValueIndex:
    """The texts of one database, by their words."""

    def __init__(self, contents: Contents) -> None:
        self._whole: dict[tuple[str, ...], list[Match]] = defaultdict(list)
        self._with_word: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        for (table, column), found in contents.columns.items():
            for value in found.texts:
                keys = _keys(value)
                if 0 < len(keys) <= LONGEST:
                    self._whole[keys].append(Match(table, column, value))
        for keys in self._whole:
            if len(keys) > 1:
                for key in set(keys):
                    self._with_word[key].add(keys)

    def matches(self, words: Sequence[Word], relevant: frozenset[tuple[str, str]] = frozenset()) -> list[Match]:
        """Return the values that a question of these `words` names, at most MOST_MATCHES, in the question's order.

        `relevant`: columns (table, column) that it names: of equal values those in them come first.
        """
        found = list(self._spans(words))
        best = sorted(range(len(found)), key=lambda place: (-found[place][1], place))
        matches: dict[int, list[Match]] = {}
        left = MOST_MATCHES
        for place in best:
            stored = self._whole[found[place][2]]
            stored = sorted(stored, key=lambda match: (match.table, match.column) not in relevant)
            matches[place] = _distinct(stored)[: min(MOST_COLUMNS, left)]
            left -= len(matches[place])
        return [match for place in sorted(matches) for match in matches[place]]

    def _spans(self, words: Sequence[Word]) -> Iterator[tuple[int, int, tuple[str, ...]]]:
        """Yield where a value begins in the question, how many letters it shares with it, and the value's words."""
        keys = tuple(word.key for word in words)
        taken: list[tuple[int, tuple[str, ...], int]] = []
        free = [True] * len(keys)
        for length in range(min(LONGEST, len(keys)), 0, -1):
            for start in range(len(keys) - length + 1):
                span = keys[start : start + length]
                if span in self._whole and all(free[start : start + length]) and _counts(words[start : start + length]):
                    free[start : start + length] = [False] * length
                    if span not in (value for _, value, _ in taken):
                        taken.append((start, span, sum(map(len, span))))
        there = set(keys)
        partly: set[tuple[str, ...]] = set()
        for start, word in enumerate(words):
            if free[start] and word.names and word.key not in _COMMON and len(word.key) > 2:
                values = self._with_word.get(word.key, set())
                if len(values) <= _RARE:
                    partly |= {value for value in values if 2 * _shared(value, there) >= sum(map(len, value))}
        for value in sorted(partly):
            start = min(place for place, key in enumerate(keys) if key in value)
            taken.append((start, value, _shared(value, there)))
        yield from ((start, letters, span) for start, span, letters in sorted(taken))


def _shared(value: tuple[str, ...], words: set[str]) -> int:
    return sum(len(key) for key in value if key in words)


def _counts(words: Sequence[Word]) -> bool:
    """Whether words that are a value whole can be meant as one: not a lone common word, letter or digit."""
    if all(word.quoted for word in words):
        return True
    if len(words) == 1 and len(words[0].key) == 1:
        return words[0].names and words[0].key not in "ai"
    return any(word.key not in _COMMON for word in words)


def _distinct(matches: Iterable[Match]) -> list[Match]:
    """Return the first match of each column: the spellings of one value there may differ in case."""
    first: dict[tuple[str, str], Match] = {}
    for match in matches:
        first.setdefault((match.table, match.column), match)
    return list(first.values())


def named_columns(schema: Schema, words: Sequence[Word]) -> frozenset[tuple[str, str]]:
    """Return the columns (table, column) of which the question has a word of the name that is no table's or common."""
    there = {word.key for word in words} - _COMMON
    return frozenset(
        (table.name, column.name)
        for table in schema.tables
        for column in table.columns
        if there & (_name_keys(column.name) - _name_keys(table.name))
    )


def named_tables(schema: Schema, words: Sequence[Word]) -> frozenset[str]:
    """Return the tables of which the question has a word of the name."""
    there = {word.key for word in words} - _COMMON
    return frozenset(table.name for table in schema.tables if there & _name_keys(table.name))


@functools.lru_cache(maxsize=10_000)
def _name_keys(name: str) -> frozenset[str]:
    return frozenset(_key(part) for part in _NAME_PART.findall(_HUMP.sub(" ", name)) if len(part) > 1)
