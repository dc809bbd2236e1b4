"""MMLU by log-likelihood: which of ` A` … ` D` is most likely after the question?

The paper's section I.E, with one forward pass a question instead of the paper's four: the options are single tokens, so
one pass gives all four.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from text2sql.core.intervals import clustered_interval, wilson_interval
from text2sql.core.journal import HALVED, STRENGTH
from text2sql.data.mmlu import CATEGORIES, Question, letter_shares
from text2sql.evaluation.batching import JournaledRun, run_batches
from text2sql.model.language_model import LanguageModel
from text2sql.prompts.messages import OPTIONS, mmlu_prompt


@dataclass(frozen=True)
class Choices:
    """The records of a model's choices, and how it was asked.

    Its prompts held `prompt_tokens`, and `shots_dropped` worked examples fewer than wanted; `in_halves` questions were
    asked in batches that were halved for lack of memory. `strength` is what its adapter was scaled by.
    """

    records: list[dict]
    prompt_tokens: int
    shots_dropped: int
    in_halves: int = 0
    strength: float = 1

    def metrics(self) -> dict:
        """Return the content of `metrics/mmlu/<model>.json`."""
        in_halves = {"questions_in_halved_batches": self.in_halves} if self.in_halves else {}
        scaled = {STRENGTH: self.strength} if self.strength != 1 else {}
        return {**summarise(self.records), "shots_dropped": self.shots_dropped, **in_halves, **scaled}


def answer_questions(
    model: LanguageModel,
    questions: Sequence[Question],
    shots: Mapping[str, Sequence[Question]],
    categories: dict[str, str],
    batch_size: int,
    run: JournaledRun,
    rotations: int = 1,
) -> Choices | None:
    """Choose an answer to each of `questions`; return their records in order.

    With 4 `rotations`, each is also asked with its options shown in their three other cyclic orders.

    `shots` holds the worked examples by subject, `categories` the category of each subject. A record holds
    `subject`, `category`, `index`, `question`, `choices`, `log_likelihoods` (natural logarithms, one an option),
    `choice` (the highest; a tie goes to the first), `answer` and `correct`; of more rotations also
    `rotation_choices` (the choice in each, the ordinary one first, as positions in `choices`), `rotations_right` (how
    many of them are right) and `rotation_log_likelihoods` (of the letters, in each). Returns None in all processes but
    the main.
    """
    shown = [[question.rotated(by) for question in questions] for by in range(rotations)]
    prompts, dropped = zip(*(prompts_that_fit(model, rotated, shots) for rotated in shown), strict=True)
    # One rotation after the other: the ordinary one's batches, and so its figures, are the same with one as with four.
    for by in range(rotations):
        _ask(model, prompts[by], [question.subject for question in questions], batch_size, _run_of(run, by, prompts))
    run.processes.wait()
    if not run.processes.is_main:
        return None
    records = []
    finished = run.journal.records()
    for position, question in enumerate(questions):
        rows = [finished[by * len(questions) + position]["log_likelihoods"] for by in range(rotations)]
        row = rows[0]
        choice = row.index(max(row))
        records.append(
            {
                "subject": question.subject,
                "category": categories[question.subject],
                "index": question.index,
                "question": question.question,
                "choices": list(question.choices),
                "log_likelihoods": row,
                "choice": choice,
                "answer": question.answer,
                "correct": choice == question.answer,
                **(_of_rotations(rows, question.answer) if rotations > 1 else {}),
            }
        )
    in_halves = sum(HALVED in finished[index] for index in range(rotations * len(questions)))
    return Choices(records, sum(map(len, itertools.chain(*prompts))), dropped[0], in_halves, model.strength)


def _ask(
    model: LanguageModel, prompts: list[list[int]], subjects: list[str], batch_size: int, run: JournaledRun
) -> None:
    def answer(batch: list[int]) -> Callable[[], list[dict]]:
        rows = model.begin_option_log_likelihoods([prompts[position] for position in batch], OPTIONS)
        return lambda: [{"log_likelihoods": row} for row in rows()]

    # The questions of a subject share a prefix, their worked examples, which is computed once a batch.
    run_batches([len(prompt) for prompt in prompts], batch_size, answer, run, subjects, lambda: model.halvings)


def _run_of(run: JournaledRun, by: int, prompts: Sequence[list]) -> JournaledRun:
    """Return the run of one rotation, whose records follow those of the rotations before it."""
    label = f", rotation {by + 1} of {len(prompts)}" if len(prompts) > 1 else ""
    return replace(run, first=by * len(prompts[by]), description=run.description + label)


def _of_rotations(rows: list[list[float]], answer: int) -> dict:
    """Return what a record holds of a question's rotations; `rows` are the letters' log-likelihoods in each."""
    choices = [(row.index(max(row)) + by) % len(row) for by, row in enumerate(rows)]
    return {
        "rotation_choices": choices,
        "rotations_right": choices.count(answer),
        "rotation_log_likelihoods": rows,
    }


def prompt_texts(
    questions: Sequence[Question], shots: Mapping[str, Sequence[Question]], rotations: int = 1
) -> list[str]:
    """Return the prompts that `answer_questions` asks first, before any is found to be longer than the context."""
    return [
        mmlu_prompt(question.rotated(by), shots[question.subject]) for by in range(rotations) for question in questions
    ]


class Reader(Protocol):
    """What makes token ids of texts and knows how many fit: a `LanguageModel`, or what stands for one."""

    @property
    def context(self) -> int | None: ...

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]: ...

    def check_prompts(self, prompts: Sequence[list[int]], new_tokens: int, change: str) -> None: ...


def prompts_that_fit(
    model: Reader, questions: Sequence[Question], shots: Mapping[str, Sequence[Question]]
) -> tuple[list[list[int]], int]:
    """Return the token ids of each question's prompt, and how many worked examples were left out in all.

    Where a prompt is longer than the model's context, its last worked example is dropped, then the one before, as in
    Hendrycks et al.'s `evaluate.py`. Raises UserError if a question does not fit without any.
    """
    kept = [list(shots[question.subject]) for question in questions]
    prompts = model.text_ids([mmlu_prompt(question, shown) for question, shown in zip(questions, kept, strict=True)])
    dropped, context = 0, model.context
    for position, question in enumerate(questions):
        while context is not None and len(prompts[position]) > context and kept[position]:
            kept[position].pop()
            dropped += 1
            (prompts[position],) = model.text_ids([mmlu_prompt(question, kept[position])])
    model.check_prompts(prompts, 0, "mmlu.subjects: the question alone is too long")
    return prompts, dropped


def summarise(records: Sequence[dict]) -> dict:
    """Return accuracy overall (micro), its mean over categories, and by category and subject, each with counts.

    Accuracies are shares from 0 to 1 with their 95 % Wilson intervals; `letters` are the shares of questions for which
    each letter was chosen. `rotated` is there where all rotations of the options were asked.
    """
    categories = [name for name in CATEGORIES if any(record["category"] == name for record in records)]
    by_category = {name: _accuracy([r for r in records if r["category"] == name]) for name in categories}
    subjects = dict.fromkeys(record["subject"] for record in records)
    by_subject = {name: _accuracy([r for r in records if r["subject"] == name]) for name in subjects}
    mean = sum(part["accuracy"] for part in by_category.values()) / len(by_category)
    return {
        **_accuracy(records),
        "mean_of_categories": round(mean, 6),
        "letters": letter_shares([record["choice"] for record in records]),
        **({"rotated": summarise_rotations(records)} if "rotations_right" in records[0] else {}),
        "by_category": by_category,
        "by_subject": by_subject,
    }


def summarise_rotations(records: Sequence[dict]) -> dict:
    """Return accuracy over all rotations of all questions, with its 95 % interval by clusters of one question each.

    `letters` are the shares of each letter as it was shown, `same_choice` the share of questions to which one choice
    was the answer in all rotations.
    """
    chosen = [record["rotation_choices"] for record in records]
    right, rotations = [record["rotations_right"] for record in records], len(chosen[0])
    low, high = clustered_interval(right, rotations)
    return {
        "accuracy": round(sum(right) / (rotations * len(right)), 6),
        "accuracy_low": round(low, 6),
        "accuracy_high": round(high, 6),
        "correct": sum(right),
        "total": rotations * len(right),
        "questions": len(right),
        "letters": letter_shares([(choice - by) % rotations for row in chosen for by, choice in enumerate(row)]),
        "same_choice": round(sum(len(set(row)) == 1 for row in chosen) / len(chosen), 6),
    }


def _accuracy(records: Sequence[dict]) -> dict:
    correct, total = sum(record["correct"] for record in records), len(records)
    low, high = wilson_interval(correct, total)
    return {
        "accuracy": round(correct / total, 6),
        "accuracy_low": round(low, 6),
        "accuracy_high": round(high, 6),
        "correct": correct,
        "total": total,
    }
