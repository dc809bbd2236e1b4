"""MMLU by log-likelihood: which of ` A` … ` D` is most likely after the question?

The paper's section I.E, with one forward pass a question instead of the paper's four: the options are single tokens, so
one pass gives all four.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from text2sql.core.intervals import wilson_interval
from text2sql.core.journal import HALVED
from text2sql.data.mmlu import CATEGORIES, Question
from text2sql.evaluation.batching import JournaledRun, run_batches
from text2sql.model.language_model import LanguageModel
from text2sql.prompts.messages import OPTIONS, mmlu_prompt


@dataclass(frozen=True)
class Choices:
    """The records of a model's choices, and how it was asked.

    Its prompts held `prompt_tokens`, and `shots_dropped` worked examples fewer than wanted; `in_halves` questions were
    asked in batches that were halved for lack of memory.
    """

    records: list[dict]
    prompt_tokens: int
    shots_dropped: int
    in_halves: int = 0

    def metrics(self) -> dict:
        """Return the content of `metrics/mmlu/<model>.json`."""
        in_halves = {"questions_in_halved_batches": self.in_halves} if self.in_halves else {}
        return {**summarise(self.records), "shots_dropped": self.shots_dropped, **in_halves}


def answer_questions(
    model: LanguageModel,
    questions: Sequence[Question],
    shots: Mapping[str, Sequence[Question]],
    categories: dict[str, str],
    batch_size: int,
    run: JournaledRun,
) -> Choices | None:
    """Choose an answer to each of `questions`; return their records in order.

    `shots` holds the worked examples by subject, `categories` the category of each subject. A record holds
    `subject`, `category`, `index`, `question`, `choices`, `log_likelihoods` (natural logarithms, one an option),
    `choice` (the highest; a tie goes to the first), `answer` and `correct`. Returns None in all processes but the main.
    """
    prompts, dropped = prompts_that_fit(model, questions, shots)

    def answer(batch: list[int]) -> list[dict]:
        rows = model.option_log_likelihoods([prompts[position] for position in batch], OPTIONS)
        return [{"log_likelihoods": row} for row in rows]

    # The questions of a subject share a prefix, their worked examples, which is computed once a batch.
    subjects = [question.subject for question in questions]
    run_batches([len(prompt) for prompt in prompts], batch_size, answer, run, subjects, lambda: model.halvings)
    run.processes.wait()
    if not run.processes.is_main:
        return None
    records = []
    finished = run.journal.records()
    for position, question in enumerate(questions):
        row = finished[position]["log_likelihoods"]
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
            }
        )
    in_halves = sum(HALVED in finished[position] for position in range(len(questions)))
    return Choices(records, sum(map(len, prompts)), dropped, in_halves)


def prompts_that_fit(
    model: LanguageModel, questions: Sequence[Question], shots: Mapping[str, Sequence[Question]]
) -> tuple[list[list[int]], int]:
    """Return the token ids of each question's prompt, and how many worked examples were left out in all.

    Where a prompt is longer than the model's context, its last worked example is dropped, then the one before, as in
    Hendrycks et al.'s `evaluate.py`. Raises UserError if a question does not fit without any.
    """
    kept = [list(shots[question.subject]) for question in questions]
    prompts = model.text_ids([mmlu_prompt(question, shown) for question, shown in zip(questions, kept, strict=True)])
    dropped = 0
    for position, question in enumerate(questions):
        while model.context is not None and len(prompts[position]) > model.context and kept[position]:
            kept[position].pop()
            dropped += 1
            (prompts[position],) = model.text_ids([mmlu_prompt(question, kept[position])])
    model.check_prompts(prompts, 0, "mmlu.subjects: the question alone is too long")
    return prompts, dropped


def summarise(records: Sequence[dict]) -> dict:
    """Return accuracy overall (micro), its mean over categories, and by category and subject, each with counts.

    Accuracies are shares from 0 to 1 with their 95 % Wilson intervals.
    """
    categories = [name for name in CATEGORIES if any(record["category"] == name for record in records)]
    by_category = {name: _accuracy([r for r in records if r["category"] == name]) for name in categories}
    subjects = dict.fromkeys(record["subject"] for record in records)
    by_subject = {name: _accuracy([r for r in records if r["subject"] == name]) for name in subjects}
    mean = sum(part["accuracy"] for part in by_category.values()) / len(by_category)
    return {
        **_accuracy(records),
        "mean_of_categories": round(mean, 6),
        "by_category": by_category,
        "by_subject": by_subject,
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
