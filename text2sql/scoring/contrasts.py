"""What a verifier is trained on: of each question as many right as wrong answers, by a rule that counts what it leaves.

The answers are a model's own samples of training questions, with the verdicts on them (`text2sql.scoring.judged`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from text2sql.scoring.judged import JudgedAnswer, JudgedQuestion


@dataclass(frozen=True)
class Contrasts:
    """Questions with the answers that are trained on, right and wrong in turns, and how many of each kind there are."""

    picked: Sequence[tuple[JudgedQuestion, Sequence[JudgedAnswer]]]
    counts: dict[str, int]


def contrasts(questions: Sequence[JudgedQuestion], per_question: int) -> Contrasts:
    """Return as many right as wrong answers of each of `questions`, at most `per_question` of each, different texts.

    The first that were drawn are taken. Left out, each counted: answers that fail, which a verifier is never asked
    about (`text2sql.evaluation.verifier.judgings`); disputed ones, which are neither right nor wrong; questions whose
    gold query fails or returns no row (any empty answer would be right), and those without a right answer or without
    a wrong one that runs.
    """
    counts: Counter[str] = Counter(dict.fromkeys((*_LEFT_OUT, *_OF_ANSWERS), 0))
    picked = []
    for question in questions:
        reason, answers = _of_question(question, per_question)
        counts["failing_answers"] += sum(answer.error is not None for answer in question.answers)
        counts["disputed_answers"] += sum(not answer.right and not answer.wrong for answer in question.answers)
        if reason is not None:
            counts[reason] += 1
            continue
        picked.append((question, answers))
        counts["right_answers"] += len(answers) // 2
        counts["wrong_answers"] += len(answers) // 2
    return Contrasts(picked, {"questions": len(questions), "questions_used": len(picked), **counts})


_LEFT_OUT = ("questions_not_telling", "questions_none_right", "questions_none_wrong_runs")
_OF_ANSWERS = ("failing_answers", "disputed_answers", "right_answers", "wrong_answers")


def _of_question(question: JudgedQuestion, most: int) -> tuple[str | None, list[JudgedAnswer]]:
    """Return why a question is left out, or None, and the answers that are taken."""
    if not question.telling:
        return "questions_not_telling", []
    right, wrong = question.right, [answer for answer in question.wrong if answer.error is None]
    if not right or not wrong:
        return ("questions_none_wrong_runs" if right else "questions_none_right"), []
    return None, [answer for pair in zip(right[:most], wrong[:most], strict=False) for answer in pair]
