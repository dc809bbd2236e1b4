"""What a comparison found, typed. `compare` makes a `Comparison`; gate, cost and reports read its fields.

Nothing here depends on time or machine. All differences are in points (100 points are a share of 1), and count up
where `model` is better than `against`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from text2sql.core.models import ModelTable

SIGNIFICANCE = 0.05
EXECUTION, OFFICIAL, ACCURACY = "execution_accuracy", "official_execution_accuracy", "accuracy"
BIRD = "bird_execution_accuracy"  # where the benchmark is BIRD's
# Accuracy on MMLU over all rotations of the options, and of answers in chat: where they were asked.
ROTATED, CHAT = "rotated_accuracy", "chat_accuracy"
SPIDER_MEASURES = (EXECUTION, OFFICIAL)
HEADLINE, BY_CATEGORY, BY_SUBJECT = "headline", "mmlu_categories", "mmlu_subjects"
BY_ROTATION, IN_CHAT = "mmlu_rotations", "mmlu_chat"
BY_SET, CARRIED = "also", "also_against_dev"  # further evaluation sets: models on one, and one model against dev
ALL = "all"  # the scope of an overall comparison


class Verdict(StrEnum):
    """Whether a difference is more than chance."""

    BETTER = "better"
    WORSE = "worse"
    NOT_DISTINGUISHABLE = "not distinguishable"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """`model` less `against` in points, with its paired bootstrap 95 % interval.

    p_holm: the exact two-sided McNemar p, adjusted by Holm's method within its family.
    smallest_detectable_pts: the smallest difference that so many questions show with 80 % power at the observed
        discordance and an unadjusted level of 5 %; None if no difference is.
    """

    difference_pts: float
    low_pts: float
    high_pts: float
    p_holm: float
    smallest_detectable_pts: float | None

    @property
    def verdict(self) -> Verdict:
        """The verdict: from the adjusted p alone, with the difference's sign."""
        if self.p_holm > SIGNIFICANCE or not self.difference_pts:
            return Verdict.NOT_DISTINGUISHABLE
        return Verdict.BETTER if self.difference_pts > 0 else Verdict.WORSE


@dataclass(frozen=True, kw_only=True)
class PairComparison(Difference):
    """One row: two models on one measure of one set of questions, the same ones for both.

    task, measure: "spider" with "execution_accuracy", "official_execution_accuracy" or, on BIRD's data,
        "bird_execution_accuracy", "mmlu" with "accuracy", "mmlu_rotated" with "rotated_accuracy", "mmlu_chat" with
        "chat_accuracy".
    level, scope: "overall" and "all"; "category", "subject" or "set" and its name.
    family: the key in `Comparison.families` of the comparisons that p is adjusted for.
    accuracy, accuracy_against: shares from 0 to 1.
    gained, lost, both_right, both_wrong: questions that `model` alone, `against` alone, both or neither answer; of
        rotations, those that `model` answers in more, in fewer or in as many of them, and that neither ever answers.
    p: the exact two-sided McNemar p before adjustment; of rotations that of the sign-flip test over questions.
    """

    task: str
    measure: str
    level: str
    scope: str
    family: str
    model: str
    against: str
    total: int
    accuracy: float
    accuracy_against: float
    gained: int
    lost: int
    both_right: int
    both_wrong: int
    p: float


@dataclass(frozen=True, kw_only=True)
class Carried(Difference):
    """How far a score carries: one model on a further evaluation set, less the same model on Spider's dev split.

    total, accuracy, accuracy_on_dev: of the set's questions, and shares from 0 to 1 by execution accuracy.
    paired: whether the set has as many questions as the dev split, about the same databases in the same order. The
        interval and p are then those of pairs (McNemar's), else of two sets of questions (Fisher's exact test).
    gained, lost: questions right on the set alone, and on the dev split alone; None unless paired.
    """

    evaluation_set: str
    model: str
    total: int
    accuracy: float
    accuracy_on_dev: float
    paired: bool
    gained: int | None
    lost: int | None
    p: float

    @property
    def flips(self) -> float | None:
        """The share of verdicts that are another on the set, from 0 to 1; None unless paired."""
        return None if self.gained is None or self.lost is None else (self.gained + self.lost) / self.total


@dataclass(frozen=True)
class Agreement:
    """Shares from 0 to 1: identical raw outputs on Spider, execution-accuracy verdicts, choices on MMLU."""

    outputs: float
    spider_verdicts: float
    mmlu_choices: float


@dataclass(frozen=True)
class PairSummary:
    """Two models overall: execution accuracy on Spider, accuracy on MMLU, and how alike their answers are."""

    model: str
    against: str
    spider: Difference
    mmlu: Difference
    agreement: Agreement


@dataclass(frozen=True)
class Summary:
    """The overall results of a comparison: what the verdicts and the gate follow from, without any other file.

    spider_total, mmlu_total: numbers of questions. pairs: in the order of `models.pairs`.
    """

    models: ModelTable
    spider_total: int
    mmlu_total: int
    pairs: tuple[PairSummary, ...]

    def against_base(self, model: str) -> PairSummary:
        """Return the pair of a tuned model and the base. Raises KeyError if it was not compared."""
        for pair in self.pairs:
            if (pair.model, pair.against) == (model, self.models.base):
                return pair
        raise KeyError(model)


@dataclass(frozen=True)
class Comparison:
    """Every pair of models on every measure.

    spider, mmlu: {model: the content of metrics/spider/<model>.json, metrics/mmlu/<model>.json}.
    rows: measure by measure, and within one pair by pair, in the order of `models.pairs`.
    families: {family: its description, with the number of comparisons in it}.
    agreement: by (model, against).
    letters: {model: {letter: the share of MMLU's questions for which it was chosen}}.
    chat: {model that was asked MMLU in chat: what `scoring.mmlu_chat.summarise` returns, and
        `log_likelihood_accuracy`, that of its choices by log-likelihood for the same questions}.
    also: {further evaluation set: {model: what `comparison.also.SetVerdicts.metrics` returns}}.
    carried: each of them against Spider's dev split.
    """

    models: ModelTable
    spider: Mapping[str, Mapping[str, Any]]
    mmlu: Mapping[str, Mapping[str, Any]]
    rows: tuple[PairComparison, ...]
    families: Mapping[str, str]
    agreement: Mapping[tuple[str, str], Agreement]
    letters: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    chat: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    also: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    carried: tuple[Carried, ...] = ()

    def row(self, model: str, against: str, measure: str, scope: str = ALL) -> PairComparison:
        """Return the one row of this pair, measure and scope. Raises KeyError if it was not compared.

        A subject and a category never share a name, and sets are not asked MMLU, so that `scope` tells them apart.
        """
        for row in self.rows:
            if (row.model, row.against, row.measure, row.scope) == (model, against, measure, scope):
                return row
        raise KeyError((model, against, measure, scope))

    def against_base(self, model: str, measure: str, scope: str = ALL) -> PairComparison:
        """Return the row of a tuned model and the base."""
        return self.row(model, self.models.base, measure, scope)

    def has(self, model: str, measure: str, scope: str = ALL) -> bool:
        """Return whether a tuned model was compared with the base by `measure`."""
        wanted = (model, self.models.base, measure, scope)
        return any((row.model, row.against, row.measure, row.scope) == wanted for row in self.rows)

    def carried_to(self, evaluation_set: str) -> dict[str, Carried]:
        """Return {model: how far its score carries to a further set}."""
        return {found.model: found for found in self.carried if found.evaluation_set == evaluation_set}

    @property
    def rotated(self) -> dict[str, Mapping[str, Any]]:
        """{model: its metrics over all rotations of MMLU's options}, empty where they were not asked."""
        return {model: metrics["rotated"] for model, metrics in self.mmlu.items() if "rotated" in metrics}

    @property
    def categories(self) -> list[str]:
        """The MMLU categories that were asked, in order."""
        return list(dict.fromkeys(row.scope for row in self.rows if row.level == "category"))

    @property
    def summary(self) -> Summary:
        """The overall results alone."""
        pairs = [
            PairSummary(
                model,
                against,
                spider=self.row(model, against, EXECUTION),
                mmlu=self.row(model, against, ACCURACY),
                agreement=self.agreement[model, against],
            )
            for model, against in self.models.pairs
        ]
        base = self.models.base
        return Summary(self.models, self.spider[base]["total"], self.mmlu[base]["total"], tuple(pairs))
