"""What choosing gains: verdicts on all answers to each question, and accuracy by rule and number of samples.

Gold is read here, to score; `text2sql.scoring.choice`, which chooses, does not see it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from text2sql.core.params import BY_VERIFIER, ChoiceRule, ChoiceTime, GenerationParams
from text2sql.data.spider import Example
from text2sql.execution.executor import Limits
from text2sql.scoring.choice import Chosen, Outcomes, Question, choose
from text2sql.scoring.golds import FailingGold, Gold
from text2sql.scoring.verdicts import Verdict, score_examples, summarise

NUMBERS = (1, 2, 4, 8, 16, 30)  # of samples, as far as there are so many
# The ways to choose that differ: where the greedy answer runs, `first_executable` takes it anyway.
WAYS: Mapping[str, tuple[ChoiceRule, ChoiceTime]] = {
    "majority": ("majority", "always"),
    "majority_where_greedy_fails": ("majority", "failed"),
    "first_executable": ("first_executable", "failed"),
    "verifier": ("verifier", "always"),
    "verifier_where_greedy_fails": ("verifier", "failed"),
    "weighted_majority": ("weighted_majority", "always"),
}


@dataclass(frozen=True)
class Scored:
    """Questions with what came of their answers, `outcomes`, and their `verdicts`, by index and SQL.

    Questions without verdicts, whose gold query fails, are left out.
    """

    questions: Sequence[Question]
    outcomes: Outcomes
    verdicts: Mapping[tuple[int, str], Verdict]

    @property
    def samples(self) -> int:
        """How many samples the questions have that have some."""
        return max((len(question.samples) for question in self.questions), default=0)

    @property
    def sampled(self) -> int:
        """How many questions have samples."""
        return sum(bool(question.samples) for question in self.questions)

    @property
    def judged(self) -> bool:
        """Whether a verifier judged samples."""
        return any(answer.log_odds is not None for question in self.questions for answer in question.samples)

    def chosen(self, number: int, rule: ChoiceRule, when: ChoiceTime) -> list[Chosen]:
        """Return each question's choice among its first `number` samples."""
        return [choose(question.first(number), self.outcomes, rule, when) for question in self.questions]

    def chosen_verdicts(self, chosen: Sequence[Chosen]) -> list[Verdict]:
        """Return the verdicts on what was `chosen`, one a question."""
        return [self.verdicts[question.index, one.sql] for question, one in zip(self.questions, chosen, strict=True)]

    def effect(self, chosen: Sequence[Chosen]) -> dict[str, int]:
        """Return how often the choice is another SQL than the greedy answer, and how often that mends or spoils one.

        `rescued` and `lost` are by the official definition. `none_ran`: of all answers; the greedy one stood.
        """
        greedy = [self.verdicts[question.index, question.greedy] for question in self.questions]
        pairs = list(zip(greedy, self.chosen_verdicts(chosen), strict=True))
        return {
            "changed": sum(before.sql != after.sql for before, after in pairs),
            "rescued": sum(_right(after) and not _right(before) for before, after in pairs),
            "lost": sum(_right(before) and not _right(after) for before, after in pairs),
            "none_ran": sum(not one.runs for one in chosen),
        }

    def oracle(self, number: int) -> dict[str, float | int]:
        """Return how many questions the best choice would answer right: the greedy answer or one of `number` samples.

        No choice is made so: it looks at gold.
        """
        answers = [
            [self.verdicts[question.index, sql] for sql in (question.greedy, *_texts(question.first(number)))]
            for question in self.questions
        ]
        return self._accuracies(
            sum(any(verdict.execution_accuracy for verdict in of_one) for of_one in answers),
            sum(any(map(_right, of_one)) for of_one in answers),
        )

    def one_sample(self, number: int) -> dict[str, float | int]:
        """Return the mean accuracies of the first `number` samples alone, over the questions that have samples."""
        verdicts = [
            self.verdicts[question.index, sql] for question in self.questions for sql in _texts(question.first(number))
        ]
        total = max(len(verdicts), 1)
        return {
            "execution_accuracy": round(sum(verdict.execution_accuracy for verdict in verdicts) / total, 6),
            "official_execution_accuracy": round(sum(map(_right, verdicts)) / total, 6),
        }

    def by_samples(self) -> dict[str, dict[str, dict]]:
        """Return {number of samples: {way of `WAYS`, "oracle" or "one_sample": accuracies, and a choice's effect}}.

        Where not all questions have samples, only the ways that need none there.
        """
        complete = self.sampled == len(self.questions)
        ways = {
            name: way
            for name, way in WAYS.items()
            if (complete or way[1] == "failed") and (self.judged or way[0] not in BY_VERIFIER)
        }
        return {
            str(number): {
                **{name: self._row(self.chosen(number, *way)) for name, way in ways.items()},
                "oracle": self.oracle(number),
                "one_sample": self.one_sample(number),
            }
            for number in numbers_up_to(self.samples)
        }

    def metrics(
        self, chosen: Sequence[Chosen], generation: GenerationParams, golds: Sequence[Gold], in_halves: int
    ) -> dict:
        """Return the content of `metrics/spider_choice/<model>.json`: what `summarise` says of the `chosen`, and how
        they came about.
        """
        return {
            **summarise(self.chosen_verdicts(chosen), golds, in_halves),
            **generation.model_dump(include={"samples", "temperature", "top_p", "seed", "when"}),
            "choice": generation.rule,
            "questions_sampled": self.sampled,
            **self.effect(chosen),
            "oracle": self.oracle(generation.samples),
            "by_samples": self.by_samples(),
            **({"verifier": self.verifier()} if self.judged else {}),
        }

    def records(self, lines: Sequence[Mapping], chosen: Sequence[Chosen]) -> list[dict]:
        """Return `lines` of a samples file with a verdict on each sample, and on the `chosen` answer of each question.

        Where a verifier judged, each sample has its `log_odds`. A model's text is left out where its SQL is all of it.
        """
        by_index = {line["index"]: line for line in lines}
        found = []
        for question, one in zip(self.questions, chosen, strict=True):
            samples = [
                {key: value for key, value in sample.items() if key != "raw" or value != sample["sql"]}
                | self._judged(question.index, answer.sql)
                | ({"log_odds": answer.log_odds} if self.judged else {})
                for sample, answer in zip(by_index[question.index]["samples"], question.samples, strict=True)
            ]
            found.append(
                {
                    **by_index[question.index],
                    "samples": samples,
                    "chosen": {
                        "sample": one.sample,
                        "agreeing": one.agreeing,
                        **self._judged(question.index, one.sql),
                    },
                }
            )
        return found

    def _judged(self, index: int, sql: str) -> dict[str, bool]:
        verdict = self.verdicts[index, sql]
        return {name: getattr(verdict, name) for name in ("execution_accuracy", "official_execution_accuracy")}

    def verifier(self) -> dict[str, float | int]:
        """Return how well a verifier tells right samples (officially) from wrong ones, each text of a question once.

        `answers` that run, `unjudged` of them: prompts that do not fit; of the others the share that is `right`, and
        `accuracy`: the share with log-odds above 0 where right, below where wrong. `pairs`: a right and a wrong answer
        to one question; `ordered`: the share of them in which the right one has the higher log-odds, a tie counts half.
        """
        found = [self._judgements(question) for question in self.questions]
        answers = [one for of_question in found for one in of_question]
        judged = [(odds, right) for odds, right in answers if odds is not None]
        pairs = [
            (odds > others) + (odds == others) / 2
            for of_question in found
            for odds, right in of_question
            for others, wrong in of_question
            if right and not wrong and odds is not None and others is not None
        ]
        return {
            "answers": len(answers),
            "unjudged": len(answers) - len(judged),
            "right": _share(sum(right for _, right in judged), len(judged)),
            "accuracy": _share(sum((odds > 0) == right for odds, right in judged), len(judged)),
            "pairs": len(pairs),
            "ordered": _share(sum(pairs), len(pairs)),
        }

    def _judgements(self, question: Question) -> list[tuple[float | None, bool]]:
        """Return the log-odds of each text among a question's samples that runs, and whether it is right."""
        odds = {answer.sql: answer.log_odds for answer in question.samples}
        return [
            (value, _right(self.verdicts[question.index, sql]))
            for sql, value in odds.items()
            if self.outcomes[question.db_id, sql].runs
        ]

    def _row(self, chosen: Sequence[Chosen]) -> dict[str, float | int]:
        verdicts = self.chosen_verdicts(chosen)
        right = sum(verdict.execution_accuracy for verdict in verdicts)
        return self._accuracies(right, sum(map(_right, verdicts))) | self.effect(chosen)

    def _accuracies(self, successes: int, official: int) -> dict[str, float | int]:
        total = max(len(self.questions), 1)
        return {
            "execution_accuracy": round(successes / total, 6),
            "successes": successes,
            "official_execution_accuracy": round(official / total, 6),
            "official_successes": official,
        }


def numbers_up_to(samples: int) -> list[int]:
    """Return the numbers of samples that a draw of so many can be cut to: `NUMBERS` below it, and itself."""
    return [*(number for number in NUMBERS if number < samples), *([samples] if samples else [])]


def score_answers(
    examples: Sequence[Example],
    questions: Sequence[Question],
    outcomes: Outcomes,
    database_of: Callable[[str], Path],
    limits: Limits,
    cache_dir: Path | None = None,
    failing_gold: FailingGold = "refuse",
    on_golds: Callable[[list[Gold]], object] = lambda golds: None,
) -> Scored:
    """Score all answers to each of `examples`, each SQL once. The further arguments are those of `score_examples`."""
    pairs = [
        (example, sql)
        for example, question in zip(examples, questions, strict=True)
        for sql in dict.fromkeys((question.greedy, *_texts(question)))
    ]
    golds: list[Gold] = []
    verdicts = score_examples(
        [example for example, _ in pairs],
        [sql for _, sql in pairs],
        database_of,
        limits,
        cache_dir=cache_dir,
        failing_gold=failing_gold,
        on_golds=golds.extend,
    )
    on_golds(list({gold.index: gold for gold in golds}.values()))
    found = {(verdict.index, verdict.sql): verdict for verdict in verdicts}
    kept = [question for question in questions if (question.index, question.greedy) in found]
    return Scored(kept, outcomes, found)


def _share(part: float, of: int) -> float:
    return round(part / max(of, 1), 6)


def _texts(question: Question) -> list[str]:
    return [answer.sql for answer in question.samples]


def _right(verdict: Verdict) -> bool:
    return verdict.official_execution_accuracy
