"""Choosing among a question's answers by what they return. Reads no gold query.

- `majority`: of the samples that run, the answer whose result most of them share. Results are the same where they are
  the same set of rows, in any order: the paper's comparison. A result without rows counts only where no sample has
  another. Ties go to the result of the likeliest answer; of the answers that share a result, the likeliest is chosen.
- `first_executable`: the greedy answer where it runs, else the first sample that runs.
- `verifier`: of the samples that run, the one of which a verifier finds it most likely that it is right (its log-odds);
  of those that it finds equally likely, the likeliest answer, then the first.
- `weighted_majority`: of the samples that run, each votes for its result with the probability that a verifier gives it,
  and the result with the largest sum is taken (Cobbe et al. 2021, arXiv 2110.14168; Li et al. 2023, arXiv 2206.02336);
  of its answers, and of results with the same sum, the one that `verifier` would choose. A sample that was not judged
  has no vote; a result without rows counts as with `majority`.

`when` is `failed`: by any rule, the greedy answer stands where it runs. Where no sample runs, or none that runs was
judged by the verifier, it stands anyway.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from text2sql.core.params import ChoiceRule, ChoiceTime
from text2sql.execution.executor import Executor, Limits
from text2sql.execution.sandbox import ANY_PURPOSE, Result
from text2sql.scoring.official import Rows


@dataclass(frozen=True)
class Answer:
    """A sampled answer: its SQL, its log-likelihood (nats) under the model, and a verifier's log-odds (nats) that it is
    right, None where there are none.
    """

    sql: str
    log_likelihood: float
    log_odds: float | None = None


@dataclass(frozen=True)
class Question:
    """A question's database, its greedy answer and its samples, in the order in which they were drawn."""

    index: int
    db_id: str
    greedy: str
    samples: tuple[Answer, ...]

    def first(self, number: int) -> "Question":
        """Return the question with the first `number` of its samples alone."""
        return Question(self.index, self.db_id, self.greedy, self.samples[:number])


@dataclass(frozen=True)
class Outcome:
    """What a query returned, as far as a choice looks at it: a digest of its rows, or None where it failed."""

    rows: bytes | None
    empty: bool = False

    @property
    def runs(self) -> bool:
        return self.rows is not None


Outcomes = Mapping[tuple[str, str], Outcome]  # of (db_id, sql)


@dataclass(frozen=True)
class Chosen:
    """A question's answer: its SQL, the number of the sample that it is (None: the greedy answer), whether it runs, and
    how many samples of all have its result.
    """

    sql: str
    sample: int | None
    runs: bool
    agreeing: int
    samples: int

    def record(self, question: Question) -> dict:
        """Return a line of a file of chosen answers."""
        return {
            "index": question.index,
            "db_id": question.db_id,
            "sql": self.sql,
            "sample": self.sample,
            "runs": self.runs,
            "agreeing": self.agreeing,
            "samples": self.samples,
        }


def run_answers(
    questions: Sequence[Question], database_of: Callable[[str], Path], limits: Limits, workers: int | None = None
) -> dict[tuple[str, str], Outcome]:
    """Run all answers in the sandbox; return what came of each, by (db_id, sql).

    Equal queries on a database run once, a question's on one worker. Raises as `database_of` and `Executor` do.
    """
    queries: dict[tuple[str, str], int] = {}
    for question in sorted(questions, key=lambda question: question.db_id):
        for sql in (question.greedy, *(answer.sql for answer in question.samples)):
            queries.setdefault((question.db_id, sql), question.index)
    return run_queries(queries, database_of, limits, outcome_of, workers)


Kept = TypeVar("Kept")


def run_queries(
    queries: Mapping[tuple[str, str], int],
    database_of: Callable[[str], Path],
    limits: Limits,
    keep: Callable[[Result], Kept],
    workers: int | None = None,
) -> dict[tuple[str, str], Kept]:
    """Run each of `queries`, {(db_id, sql): its question}, in the sandbox; return what `keep` makes of its result."""
    keys = list(queries)
    databases = {db_id: database_of(db_id) for db_id, _ in keys}
    tasks = [(databases[db_id], sql, ANY_PURPOSE) for db_id, sql in keys]
    with Executor(limits, workers) as executor:
        found = executor.run_unordered(tasks, list(queries.values()))
        return {keys[position]: keep(result) for position, result in found}


def failing(
    answers: Sequence[tuple[str, str]], database_of: Callable[[str], Path], limits: Limits
) -> set[tuple[str, str]]:
    """Return those of `answers`, (db_id, sql), that do not run. Raises as `run_answers` does."""
    questions = [Question(index, db_id, sql, ()) for index, (db_id, sql) in enumerate(answers)]
    return {answer for answer, outcome in run_answers(questions, database_of, limits).items() if not outcome.runs}


def outcome_of(result: Result) -> Outcome:
    """Return what a choice looks at of a query's result."""
    return Outcome(None) if result.error is not None else Outcome(_digest(result.rows), not result.rows)


def choose(question: Question, outcomes: Outcomes, rule: ChoiceRule, when: ChoiceTime = "always") -> Chosen:
    """Return the chosen one of a question's answers, whose outcomes are among `outcomes`."""
    greedy = outcomes[question.db_id, question.greedy]
    found = [outcomes[question.db_id, answer.sql] for answer in question.samples]
    if greedy.runs and (when == "failed" or rule == "first_executable"):
        number = None
    else:
        number = by_rule(found, question.samples, rule)
    chosen = greedy if number is None else found[number]
    return Chosen(
        question.greedy if number is None else question.samples[number].sql,
        number,
        chosen.runs,
        sum(chosen.runs and outcome.rows == chosen.rows for outcome in found),
        len(found),
    )


def by_rule(outcomes: Sequence[Outcome], samples: Sequence[Answer], rule: ChoiceRule) -> int | None:
    """Return the number of the sample that `rule` chooses by their `outcomes`, or None where it finds none."""
    if rule == "first_executable":
        return next((number for number, outcome in enumerate(outcomes) if outcome.runs), None)
    if rule == "verifier":
        return likeliest_right(outcomes, samples)
    if rule == "weighted_majority":
        return most_probable(outcomes, samples)
    return most_agreed(outcomes, [sample.log_likelihood for sample in samples])


def likeliest_right(outcomes: Sequence[Outcome], samples: Sequence[Answer]) -> int | None:
    """Return the number of the sample with the highest log-odds of those that run, or None where none has any."""
    odds = _odds(outcomes, samples)
    return max(odds, key=odds.__getitem__, default=None)


def most_probable(outcomes: Sequence[Outcome], samples: Sequence[Answer]) -> int | None:
    """Return the number of the sample with the highest log-odds of the result whose samples' probabilities of being
    right have the largest sum, or None where none that runs has log-odds.
    """
    odds = _odds(outcomes, samples)
    results = _by_result(outcomes, odds)
    if not results:
        return None

    def votes(numbers: Sequence[int]) -> float:
        return math.fsum(_probability(odds[number][0]) for number in numbers)  # exact: in any order

    most = max(results, key=lambda numbers: (votes(numbers), max(odds[number] for number in numbers)))
    return max(most, key=odds.__getitem__)


def _odds(outcomes: Sequence[Outcome], samples: Sequence[Answer]) -> dict[int, tuple[float, float]]:
    """Return log-odds and log-likelihood of each judged sample that runs, by its number."""
    return {
        number: (sample.log_odds, sample.log_likelihood)
        for number, (outcome, sample) in enumerate(zip(outcomes, samples, strict=True))
        if outcome.runs and sample.log_odds is not None
    }


def _probability(log_odds: float) -> float:
    return math.exp(min(log_odds, 0)) / (1 + math.exp(-abs(log_odds)))


def most_agreed(outcomes: Sequence[Outcome], log_likelihoods: Sequence[float]) -> int | None:
    """Return the number of the likeliest answer with the result that most have, or None where no answer runs."""
    results = _by_result(outcomes, range(len(outcomes)))
    if not results:
        return None
    most = max(results, key=lambda numbers: (len(numbers), max(log_likelihoods[number] for number in numbers)))
    return max(most, key=log_likelihoods.__getitem__)


def _by_result(outcomes: Sequence[Outcome], voting: Collection[int]) -> list[list[int]]:
    """Return the numbers of the `voting` answers that run, those with the same result together.

    Those without rows are left out where one of them has some.
    """
    sharing: dict[bytes, list[int]] = defaultdict(list)
    some_rows = any(outcomes[number].runs and not outcomes[number].empty for number in voting)
    for number in voting:
        rows = outcomes[number].rows
        if rows is not None and not (some_rows and outcomes[number].empty):
            sharing[rows].append(number)
    return list(sharing.values())


def _digest(rows: Rows) -> bytes:
    """Return a digest of the set of rows: equal where `scoring.case.same_rows` holds."""
    texts = sorted({repr(tuple(map(_plain, row))) for row in rows})
    return hashlib.sha256("\n".join(texts).encode("utf-8", "surrogatepass")).digest()


def _plain(cell: object) -> object:
    """Return the integer that a float is equal to, if any: 1.0 and 1 are the same, and written differently."""
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell
