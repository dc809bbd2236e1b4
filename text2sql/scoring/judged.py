"""Answers to training questions, with verdicts on them: what models learn from (docs/learning.md).

A file has a header and then a line a question, compressed by gzip; equal contents give equal bytes. An answer is right
where both definitions of execution accuracy say so, and wrong where neither does; those in between are disputed.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.files import json_line, read_gzip, write_gzip
from text2sql.core.journal import HALVED
from text2sql.data.spider import Example
from text2sql.execution.executor import Limits
from text2sql.scoring.golds import Gold
from text2sql.scoring.verdicts import score_examples

_OF_A_VERDICT = ("execution_accuracy", "official_execution_accuracy", "outcome", "error", "result")


@dataclass(frozen=True)
class Drawn:
    """Whose answers a file holds: the model, a digest of its adapter; how they were drawn, to how many questions.

    `folds`: how many parts of the databases there were, each asked of a model that the same recipe trained on the
    others. `adapter` is the digest of the model's own adapter then too, which dpo goes on from: who learns from the
    answers knows by it that they are not those of an older training.
    """

    model: str
    adapter: str
    samples: int
    temperature: float
    top_p: float
    seed: int
    limit: int | None = None
    folds: int = 1


@dataclass(frozen=True)
class JudgedAnswer:
    """One query that was answered, how often, and the log-likelihood (nats) of the first such answer; its verdict.

    `result` shows columns, first rows and how many there are (`columns`, `rows`, `row_count`), None where it fails.
    """

    sql: str
    count: int
    log_likelihood: float
    execution_accuracy: bool
    official_execution_accuracy: bool
    outcome: str
    error: str | None
    result: Mapping[str, Any] | None

    @property
    def right(self) -> bool:
        """Whether both definitions say so."""
        return self.execution_accuracy and self.official_execution_accuracy

    @property
    def wrong(self) -> bool:
        """Whether neither definition takes it."""
        return not (self.execution_accuracy or self.official_execution_accuracy)


@dataclass(frozen=True)
class JudgedQuestion:
    """A training question and its different answers, in the order in which they were first drawn.

    `gold_rows` is how many rows the gold query returns: of none, every answer that returns nothing is right.
    `gold_error` says why the gold query fails; the question then has no answers.
    """

    index: int
    db_id: str
    question: str
    gold: str
    gold_rows: int
    gold_error: str | None
    answers: tuple[JudgedAnswer, ...]
    evidence: str | None = None

    @property
    def telling(self) -> bool:
        """Whether verdicts on its answers tell right from wrong: its gold query runs and returns something."""
        return self.gold_error is None and self.gold_rows > 0

    @property
    def right(self) -> tuple[JudgedAnswer, ...]:
        return tuple(answer for answer in self.answers if answer.right)

    @property
    def wrong(self) -> tuple[JudgedAnswer, ...]:
        return tuple(answer for answer in self.answers if answer.wrong)


def judged(
    examples: Sequence[Example],
    samples: Sequence[Mapping[str, Any]],
    database_of: Callable[[str], Path],
    limits: Limits,
    workers: int | None = None,
    cache_dir: Path | None = None,
) -> list[dict]:
    """Run the answers to `examples` in the sandbox and return a record a question, as a file holds it.

    `samples` are what `sampling.sample_answers` returns for them. Equal queries on a database run once, and a
    question's in a row on one worker. Raises as `score_examples` does.
    """
    pairs = [
        (example, sql)
        for example, line in zip(examples, samples, strict=True)
        for sql in dict.fromkeys(one["sql"] for one in line["samples"])
    ]
    golds: list[Gold] = []
    verdicts = score_examples(
        [example for example, _ in pairs],
        [sql for _, sql in pairs],
        database_of,
        limits,
        workers,
        cache_dir=cache_dir,
        failing_gold="skip",
        on_golds=golds.extend,
    )
    gold_of = {gold.index: gold for gold in golds}
    found: dict[int, dict[str, dict]] = {}
    for verdict in verdicts:
        kept = {name: getattr(verdict, name) for name in _OF_A_VERDICT}
        found.setdefault(verdict.index, {})[verdict.sql] = kept
    return [
        _record(example, line, gold_of[example.index], found.get(example.index, {}))
        for example, line in zip(examples, samples, strict=True)
    ]


def _record(example: Example, line: Mapping[str, Any], gold: Gold, verdicts: dict[str, dict]) -> dict:
    return {
        "index": example.index,
        "db_id": example.db_id,
        "question": example.question,
        **({"evidence": example.evidence} if example.evidence is not None else {}),
        "gold": example.query,
        **({"other_golds": list(example.others)} if example.others else {}),
        "gold_rows": len(gold.rows),
        **({"gold_error": gold.error} if gold.error is not None else {}),
        "samples": line["samples"],
        "verdicts": verdicts,
        **({HALVED: True} if HALVED in line else {}),
    }


def write_judged(path: Path, drawn: Drawn, records: Iterable[dict]) -> None:
    """Write a file of judged answers, whole or not at all."""
    write_gzip(path, "".join(map(json_line, [asdict(drawn), *records])).encode())


def read_judged(path: Path, examples: Sequence[Example]) -> tuple[Drawn, list[JudgedQuestion]]:
    """Return whose answers a file holds, and the questions with them. `examples` are the training split's.

    Raises UserError where the file cannot be read or a line belongs to no example of the training split, by index,
    database and question: what was asked of another split never gets here.
    """
    lines = [line for line in read_gzip(path).decode("utf-8", "replace").split("\n") if line]
    of_split = {example.index: example for example in examples}
    try:
        drawn = Drawn(**json.loads(lines[0]))
    except (IndexError, ValueError, TypeError):
        raise UserError(f"{path}, line 1: wanted a header as the stage sample_train writes it") from None
    questions = []
    for number, text in enumerate(lines[1:], start=2):
        place = f"{path}, line {number}"
        try:
            question = _question(json.loads(text))
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{place}: wanted a question with its samples and verdicts") from None
        example = of_split.pop(question.index, None)
        if example is None or (example.db_id, example.question) != (question.db_id, question.question):
            raise UserError(
                f"{place}: found index {question.index} of {question.db_id!r:.60}, which is no example of the "
                "training split, or comes twice; run sample_train again"
            )
        questions.append(question)
    return drawn, questions


def _question(record: Mapping[str, Any]) -> JudgedQuestion:
    counts = Counter(sample["sql"] for sample in record["samples"])
    first = {sample["sql"]: sample["log_likelihood"] for sample in reversed(record["samples"])}
    verdicts = record["verdicts"]
    answers = tuple(JudgedAnswer(sql, count, first[sql], **verdicts[sql]) for sql, count in counts.items() if verdicts)
    return JudgedQuestion(
        record["index"],
        record["db_id"],
        record["question"],
        record["gold"],
        record["gold_rows"],
        record.get("gold_error"),
        answers,
        record.get("evidence"),
    )


def counts_of(questions: Sequence[JudgedQuestion]) -> dict[str, int | float]:
    """Return what the answers are, for metrics: of questions, how many have right and wrong answers; shares of answers.

    A question that does not tell right from wrong (`JudgedQuestion.telling`) is counted as such and nowhere else.
    """
    telling = [question for question in questions if question.telling]
    right = sum(answer.count for question in telling for answer in question.right)
    wrong = sum(answer.count for question in telling for answer in question.wrong)
    total = sum(answer.count for question in telling for answer in question.answers)
    return {
        "questions": len(questions),
        "gold_fails": sum(question.gold_error is not None for question in questions),
        "gold_without_rows": sum(question.gold_error is None and not question.gold_rows for question in questions),
        "none_right": sum(not question.right for question in telling),
        "all_right": sum(len(question.right) == len(question.answers) for question in telling),
        "right_and_wrong": sum(bool(question.right and question.wrong) for question in telling),
        "answers": total,
        "right": right,
        "wrong": wrong,
        "disputed": total - right - wrong,
        "right_share": round(right / total, 6) if total else 0.0,
    }
