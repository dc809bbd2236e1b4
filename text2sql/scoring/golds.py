"""What gold queries return: which fail, and how much is right by the same answer to every question."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from text2sql.core.errors import UserError
from text2sql.scoring.official import Rows, official_equal

# What becomes of examples whose gold query fails: none is scored, they are left out, or no answer to them is right.
FailingGold = Literal["refuse", "skip", "wrong"]

_CANDIDATES = 20  # the commonest results that are tried as the answer to every question
_NAMED = 10  # failing golds that a message quotes; of the others it gives the example
_LONGEST = 300  # characters of a quoted query
_LONGEST_FLOOR = 1000  # characters of a floor's query: a result may have 100,000 rows


@dataclass(frozen=True)
class Gold:
    """The result of an example's gold query, as written and as the official evaluator runs it.

    `error` says why it failed, then without rows; `order_matters` is for the official comparison. `others` are further
    gold queries of the example, of which any is right.
    """

    index: int
    db_id: str
    query: str
    error: str | None
    rows: Rows = ()
    official_rows: Rows = ()
    order_matters: bool = False
    others: tuple["Gold", ...] = ()

    @property
    def all(self) -> tuple["Gold", ...]:
        return (self, *self.others)

    @property
    def place(self) -> str:
        return f"example {self.index} (database {self.db_id})"


def refuse_failing(golds: Sequence[Gold], option: str, where: str = "") -> None:
    """Raise UserError where gold queries fail, in one line that names them all and `option`, which goes on."""
    failed = sorted((gold for gold in golds if gold.error is not None), key=lambda gold: gold.index)
    if not failed:
        return
    first, *others = failed
    message = f"{where}{first.place}: its gold query fails: {first.error}: {first.query:.{_LONGEST}}"
    if others:
        quoted = [f"{gold.place}: {gold.error}: {gold.query:.{_LONGEST}}" for gold in others[: _NAMED - 1]]
        rest = ", ".join(str(gold.index) for gold in others[_NAMED - 1 :])
        message += f"; {len(failed)} gold queries fail in all: {'; '.join(quoted)}{'; examples ' if rest else ''}{rest}"
    raise UserError(" ".join(f"{message}; {option} skip or wrong goes on".split()))


def floors(golds: Sequence[Gold]) -> dict[str, dict]:
    """Return what the best one answer to every question scores: by score, `successes`, `total` and its `query`.

    The answer is the commonest gold result, as a query that returns it on any database. Of the answers that are right
    equally often, the empty result comes first, then the one that is gold of an earlier example. A query that would be
    very long is cut, which an ellipsis says.
    """
    total = len(golds)
    golds = [gold for gold in golds if gold.error is None]
    different = (dict.fromkeys(frozenset(right.rows) for right in gold.all) for gold in golds)
    paper: Counter[frozenset] = Counter([frozenset(), *itertools.chain.from_iterable(different)])
    paper[frozenset()] -= 1
    (commonest, successes), *_ = paper.most_common(1)
    # As a gold returned them: a set's order differs from run to run.
    rows = next((right.rows for gold in golds for right in gold.all if frozenset(right.rows) == commonest), ())
    rights = [(position, right) for position, gold in enumerate(golds) for right in gold.all]
    official: dict[Rows, int] = {}
    for rows_of_all in [(), *(candidate for candidate, _ in _commonest(golds))]:
        alike = [right for right in rights if len(right[1].official_rows) == len(rows_of_all)]
        official[rows_of_all] = len(
            {
                position
                for position, right in alike
                if official_equal(right.official_rows, rows_of_all, right.order_matters)
            }
        )
    official_rows = max(official, key=official.__getitem__)
    return {
        "execution_accuracy": {"successes": successes, "total": total, "query": _query(rows)},
        "official_execution_accuracy": {
            "successes": official[official_rows],
            "total": total,
            "query": _query(official_rows),
        },
    }


def _commonest(golds: Sequence[Gold]) -> list[tuple[Rows, int]]:
    found: Counter[Rows] = Counter(tuple(right.official_rows) for gold in golds for right in gold.all)
    return found.most_common(_CANDIDATES)


def _query(rows: Rows) -> str:
    if not rows:
        return "SELECT 1 WHERE 0"
    shown = [", ".join(map(_literal, row)) for row in rows]
    query = f"SELECT {shown[0]}" if len(shown) == 1 else f"VALUES {', '.join(f'({row})' for row in shown)}"
    return query if len(query) <= _LONGEST_FLOOR else f"{query[: _LONGEST_FLOOR - 1]}…"


def _literal(cell: object) -> str:
    if cell is None:
        return "NULL"
    if isinstance(cell, bytes):
        return f"x'{cell.hex()}'"
    if isinstance(cell, str):
        return "'" + cell.replace("'", "''") + "'"
    return {"inf": "9e999", "-inf": "-9e999"}.get(repr(cell), repr(cell))
