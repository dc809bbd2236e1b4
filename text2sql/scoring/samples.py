"""Files of samples, as the stage `sample_spider` writes them, beside the greedy predictions for the same questions."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from text2sql.core.errors import UserError
from text2sql.core.files import iter_jsonl
from text2sql.core.journal import HALVED
from text2sql.data.spider import Example
from text2sql.scoring.choice import Answer, Question
from text2sql.scoring.predictions import text_of


def read_questions(samples: Path, greedy: Sequence[str], examples: Sequence[Example]) -> list[Question]:
    """Return the questions of `examples` with their `greedy` answers and those in the file `samples`.

    The file has a line a question, in any order, compressed by gzip or not; a question without a line has no samples
    (`when: failed` draws none where the greedy answer runs). Raises UserError where it cannot be read, a line belongs
    to no example, or questions have different numbers of samples.
    """
    return _questions(_read(samples, {example.index: example.db_id for example in examples}), greedy, examples, samples)


def questions_of(lines: Sequence[dict], greedy: Sequence[str], examples: Sequence[Example]) -> list[Question]:
    """Return the questions of `examples` with their `greedy` answers and the samples of a file's `lines`."""
    return _questions({line["index"]: _answers(line) for line in lines}, greedy, examples, "samples")


def _questions(
    found: Mapping[int, tuple[Answer, ...]], greedy: Sequence[str], examples: Sequence[Example], place: object
) -> list[Question]:
    numbers = sorted({len(answers) for answers in found.values()})
    if len(numbers) > 1:
        raise UserError(f"{place}: found {numbers[0]} samples of one question and {numbers[-1]} of another")
    return [
        Question(example.index, example.db_id, sql, found.get(example.index, ()))
        for example, sql in zip(examples, greedy, strict=True)
    ]


def in_halves(*files: Path) -> int:
    """Return how many questions were asked in a batch halved for lack of memory, by the stages' `files`."""
    return len({line["index"] for file in files for line in iter_jsonl(file, {"index": int}) if HALVED in line})


def _read(path: Path, databases: dict[int, str]) -> dict[int, tuple[Answer, ...]]:
    found: dict[int, tuple[Answer, ...]] = {}
    for number, text in enumerate(text_of(path).split("\n"), start=1):
        if not text.strip():
            continue
        place = f"{path}, line {number}"
        try:
            line = json.loads(text)
            index, db_id = line["index"], line["db_id"]
            answers = _answers(line)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UserError(
                f"{place}: wanted an object with index, db_id and samples, each with sql and log_likelihood"
            ) from None
        if databases.get(index) != db_id:
            raise UserError(f"{place}: found index {index!r:.60} of {db_id!r:.60}, which is no example of this split")
        if index in found:
            raise UserError(f"{place}: index {index} comes twice")
        if not answers or not all(math.isfinite(answer.log_likelihood) for answer in answers):
            raise UserError(f"{place}: wanted at least one sample, each with a finite log-likelihood")
        found[index] = answers
    return found


def _answers(line: Mapping) -> tuple[Answer, ...]:
    return tuple(Answer(one["sql"].strip(), float(one["log_likelihood"])) for one in line["samples"])
