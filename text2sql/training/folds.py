"""Folds of the training databases: a model that was trained on the others answers the questions of each.

A model answers right most of the questions that it was trained on, and errs there as it does nowhere else. What it
answers where it has seen neither question nor database is what it learns more from (stacking: Wolpert 1992).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from text2sql.core.errors import UserError


@dataclass(frozen=True)
class Fold:
    """The databases of fold `number`, from 1, of `count`: none of them is trained on by the model that answers."""

    number: int
    count: int
    databases: frozenset[str]

    @property
    def name(self) -> str:
        """What it adds to the name of the model without it."""
        return f"fold-{self.number}-of-{self.count}"

    def of(self, records: Sequence[dict]) -> list[dict]:
        """Return those of `records` that are about its databases."""
        return [record for record in records if record["db_id"] in self.databases]

    def without(self, records: Sequence[dict]) -> list[dict]:
        """Return those of `records` that are about other databases."""
        return [record for record in records if record["db_id"] not in self.databases]


def folds_of(db_ids: Iterable[str], count: int, key: str = "answers.folds") -> Sequence[Fold | None]:
    """Return `count` folds of the databases of questions, `db_ids` (one a question); of one, None: nothing is left out.

    Each database is in one fold, and folds have about as many questions: the largest databases are dealt first, each to
    the fold with the fewest. Raises UserError, which names the param `key`, where there are fewer databases than folds.
    """
    if count == 1:
        return [None]
    questions = Counter(db_ids)
    if len(questions) < count:
        raise UserError(f"{key}: got {count}, takes at most {len(questions)}: so many databases are trained on")
    dealt: list[list[str]] = [[] for _ in range(count)]
    sizes = [0] * count
    for db_id in sorted(questions, key=lambda name: (-questions[name], name)):
        smallest = sizes.index(min(sizes))
        dealt[smallest].append(db_id)
        sizes[smallest] += questions[db_id]
    return [Fold(number, count, frozenset(databases)) for number, databases in enumerate(dealt, start=1)]
