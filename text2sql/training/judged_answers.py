"""From judged answers to training conversations: right ones beside gold, or pairs of a right and a wrong one.

Texts are compared by `plain`: how much space there is, case outside quotes and a semicolon at the end do not count.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.params import TrainParams
from text2sql.scoring.judged import JudgedAnswer, JudgedQuestion

_PARTS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|\s+|[^'"`\[\s]+|.""", re.DOTALL)


@dataclass(frozen=True)
class Lessons:
    """Training conversations (records as of `qa_sharegpt.jsonl`), and what was counted on the way.

    With `rejected`, which are as many, a conversation and the rejected one at its place are a pair; without, an
    answer to imitate each.
    """

    conversations: list[dict]
    counts: Mapping[str, int]
    rejected: list[dict] = field(default_factory=list)


def lessons(recipe: TrainParams, conversations: Sequence[dict], questions: Sequence[JudgedQuestion]) -> Lessons:
    """Return what a model learns from by `recipe`, whose objective is rejection or dpo.

    `conversations` are the training split's, `questions` some of its. Raises UserError where nothing is left.
    """
    if recipe.objective == "rejection":
        return beside_gold(conversations, questions, recipe.per_question)
    return preferences(conversations, questions, recipe.per_question)


def beside_gold(conversations: Sequence[dict], questions: Sequence[JudgedQuestion], most: int) -> Lessons:
    """Return all `conversations`, and behind them right answers: `most` a question, all of different texts.

    Of more, those are taken that were drawn first. Questions whose gold does not tell right from wrong add nothing.
    Raises UserError where no question adds any.
    """
    added: list[dict] = []
    beyond = equal = none_right = all_right = 0
    for question in questions:
        record = _of(conversations, question)
        if not question.telling:
            continue
        right = question.right
        none_right += not right
        all_right += len(right) == len(question.answers)
        different = _different(right, {plain(question.gold)})
        equal += len(right) - len(different)
        beyond += max(0, len(different) - most)
        added += [_answered(record, answer.sql) for answer in different[:most]]
    if not added:
        raise UserError(f"rejection: none of {len(questions)} questions has a right answer of another text than gold")
    counts = {"none_right": none_right, "all_right": all_right, "equal_texts": equal, "beyond_per_question": beyond}
    return Lessons([*conversations, *added], _not_telling(questions) | counts | {"added": len(added)})


def preferences(conversations: Sequence[dict], questions: Sequence[JudgedQuestion], most: int) -> Lessons:
    """Return pairs of a right and a wrong answer: `most` a question, its answers in turn as they were drawn.

    Left out, and counted, are questions without a right answer, those without a wrong one, answers without any SQL,
    and pairs whose texts are equal by `plain`. Raises UserError where no pair is left.
    """
    chosen: list[dict] = []
    rejected: list[dict] = []
    none_right = all_right = disputed = equal = without_sql = 0
    for question in questions:
        record = _of(conversations, question)
        if not question.telling:
            continue
        without_sql += sum(not answer.sql.strip() for answer in question.answers)
        right = _different(question.right, set())
        wrong = _different([answer for answer in question.wrong if answer.sql.strip()], set())
        if not right or not wrong:
            none_right += not right
            all_right += len(question.right) == len(question.answers)
            disputed += bool(right) and len(question.right) < len(question.answers)
            continue
        for number in range(min(most, max(len(right), len(wrong)))):
            pair = right[number % len(right)].sql, wrong[number % len(wrong)].sql
            if plain(pair[0]) == plain(pair[1]):
                equal += 1
                continue
            chosen.append(_answered(record, pair[0]))
            rejected.append(_answered(record, pair[1]))
    if not chosen:
        raise UserError(f"dpo: none of {len(questions)} questions has a right and a wrong answer: there are no pairs")
    counts = {
        "none_right": none_right,
        "all_right": all_right,
        "none_wrong_but_disputed": disputed,
        "answers_without_sql": without_sql,
        "equal_pairs": equal,
        "pairs": len(chosen),
    }
    return Lessons(chosen, _not_telling(questions) | counts, rejected)


def plain(sql: str) -> str:
    """Return a query in one form of its spaces and of its case outside quotes, without a semicolon at the end."""
    parts = [part if part[0] in "'\"`[" and len(part) > 1 else part.lower() for part in _PARTS.findall(sql.strip())]
    text = "".join(" " if part.isspace() else part for part in parts)
    return text.rstrip("; ").strip()


def _different(answers: Iterable[JudgedAnswer], seen: set[str]) -> list[JudgedAnswer]:
    """Return the `answers` whose texts are not among `seen`, one of each text."""
    kept = []
    for answer in answers:
        text = plain(answer.sql)
        if text not in seen:
            kept.append(answer)
            seen.add(text)
    return kept


def _of(conversations: Sequence[dict], question: JudgedQuestion) -> dict:
    """Return the training conversation of a question. Raises UserError where it is another's."""
    if question.index < len(conversations):
        record = conversations[question.index]
        if record["db_id"] == question.db_id and record["conversations"][0]["value"] == question.question:
            return record
    raise UserError(f"training question {question.index}: is another one in qa_sharegpt.jsonl; run prepare again")


def _answered(record: Mapping[str, Any], sql: str) -> dict:
    asked = record["conversations"][0]
    return {**record, "conversations": [asked, {"from": "gpt", "value": sql}]}


def _not_telling(questions: Sequence[JudgedQuestion]) -> dict[str, int]:
    return {
        "questions": len(questions),
        "gold_fails": sum(question.gold_error is not None for question in questions),
        "gold_without_rows": sum(question.gold_error is None and not question.gold_rows for question in questions),
    }
