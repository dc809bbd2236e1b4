"""Files of samples, as the stage `sample_spider` writes them, beside the greedy predictions for the same questions, and
what a verifier says of the samples, as `judge_spider` writes it.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.files import iter_jsonl
from text2sql.core.journal import HALVED
from text2sql.data.spider import Example
from text2sql.scoring.choice import Answer, Question
from text2sql.scoring.predictions import text_of


def read_questions(
    samples: Path, greedy: Sequence[str], examples: Sequence[Example], log_odds: Path | None = None
) -> list[Question]:
    """Return the questions of `examples` with their `greedy` answers and those in the file `samples`.

    The file has a line a question, in any order, compressed by gzip or not; a question without a line has no samples
    (`when: failed` draws none where the greedy answer runs). So has `log_odds`, a verifier's of those samples; where it
    is not given, those that stand beside the samples count. Raises UserError where a file cannot be read, a line
    belongs to no example, questions have different numbers of samples, or a question's samples were not given to the
    verifier.
    """
    found = read_answers(samples, examples)
    if log_odds is not None:
        wanted = "judged, each with sql and log_odds, a finite number or null"
        found = _with_log_odds(found, _by_index(log_odds, examples, _log_odds, wanted), log_odds)
    return _questions(found, greedy, examples)


def questions_of(
    lines: Sequence[dict], greedy: Sequence[str], examples: Sequence[Example], judged: Sequence[dict] | None = None
) -> list[Question]:
    """Return the questions of `examples` with their `greedy` answers and the samples of a file's `lines`.

    `judged`: a verifier's lines about those samples, if there is one. Raises UserError as `read_questions` does.
    """
    found = _equal_numbers({line["index"]: _answers(line) for line in lines}, "samples")
    if judged is not None:
        found = _with_log_odds(found, {line["index"]: _log_odds(line) for line in judged}, "log-odds")
    return _questions(found, greedy, examples)


def _questions(
    found: Mapping[int, tuple[Answer, ...]], greedy: Sequence[str], examples: Sequence[Example]
) -> list[Question]:
    return [
        Question(example.index, example.db_id, sql, found.get(example.index, ()))
        for example, sql in zip(examples, greedy, strict=True)
    ]


def read_answers(samples: Path, examples: Sequence[Example]) -> dict[int, tuple[Answer, ...]]:
    """Return the samples in a file by the index of their question. Raises as `read_questions` does."""
    wanted = "samples, at least one, each with sql and a finite log_likelihood, and where judged log_odds"
    found = _by_index(samples, examples, _answers, wanted)
    return _equal_numbers(found, samples)


def in_halves(*files: Path) -> int:
    """Return how many questions were asked in a batch halved for lack of memory, by the stages' `files`."""
    return len({line["index"] for file in files for line in iter_jsonl(file, {"index": int}) if HALVED in line})


def _equal_numbers(found: dict[int, tuple[Answer, ...]], place: object) -> dict[int, tuple[Answer, ...]]:
    numbers = sorted({len(answers) for answers in found.values()})
    if len(numbers) > 1:
        raise UserError(f"{place}: found {numbers[0]} samples of one question and {numbers[-1]} of another")
    return found


def _with_log_odds(
    found: Mapping[int, tuple[Answer, ...]], judged: Mapping[int, Mapping[str, float | None]], place: object
) -> dict[int, tuple[Answer, ...]]:
    missing = [index for index in found if index not in judged]
    if missing:
        raise UserError(f"{place}: has no line of index {missing[0]}, which has samples; judge them with these samples")
    return {
        index: tuple(replace(answer, log_odds=judged[index].get(answer.sql)) for answer in answers)
        for index, answers in found.items()
    }


def _answers(line: Mapping) -> tuple[Answer, ...]:
    answers = tuple(
        Answer(one["sql"].strip(), float(one["log_likelihood"]), one.get("log_odds")) for one in line["samples"]
    )
    numbers = [answer.log_likelihood for answer in answers]
    numbers += [answer.log_odds for answer in answers if answer.log_odds is not None]
    if not answers or not all(map(math.isfinite, numbers)):
        raise ValueError
    return answers


def _log_odds(line: Mapping) -> dict[str, float | None]:
    found = {one["sql"]: one["log_odds"] for one in line["judged"]}
    if not all(value is None or math.isfinite(value) for value in found.values()):
        raise ValueError
    return found


def _by_index(path: Path, examples: Sequence[Example], read: Callable[[Mapping], Any], wanted: str) -> dict[int, Any]:
    """Return what `read` makes of each line of a file, by the index of its question; it holds what is `wanted`."""
    databases = {example.index: example.db_id for example in examples}
    found: dict[int, Any] = {}
    for place, line in _lines(path):
        try:
            index, db_id = line["index"], line["db_id"]
            content = read(line)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{place}: wanted an object with index, db_id and {wanted}") from None
        if databases.get(index) != db_id:
            raise UserError(f"{place}: found index {index!r:.60} of {db_id!r:.60}, which is no example of this split")
        if index in found:
            raise UserError(f"{place}: index {index} comes twice")
        found[index] = content
    return found


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield where each line of a file stands, and its JSON value; None where it is none."""
    for number, text in enumerate(text_of(path).split("\n"), start=1):
        if text.strip():
            try:
                yield f"{path}, line {number}", json.loads(text)
            except (ValueError, RecursionError):
                yield f"{path}, line {number}", None
