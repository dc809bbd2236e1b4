"""A trade-off curve: what each way of specialising gained on Spider and changed on MMLU, against the same base.

Answers to the same questions in, numbers out: all differences are in points, and count up where a point is better.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from text2sql.comparison import significance
from text2sql.comparison.result import ACCURACY, CHAT, ROTATED, SPIDER_MEASURES
from text2sql.comparison.significance import Bootstrap
from text2sql.core.errors import UserError
from text2sql.data.mmlu import LETTERS, ROTATIONS

MEASURES = (*SPIDER_MEASURES, ACCURACY)  # of Spider, of Spider, of MMLU


@dataclass(frozen=True)
class Answers:
    """One run's answers, in the questions' order: which of Spider's are right, by either measure, and MMLU's letters.

    `questions` names those asked, of both benchmarks. Where MMLU was asked in all orders of its options,
    `rotations_right` says in how many each question is right; `chat` says which of those asked in chat are. `chosen`
    has, where samples were drawn, which of the answers chosen among them are right, as `spider` has of the greedy ones.
    """

    questions: Sequence[Any]
    spider: Mapping[str, Sequence[bool]]
    letters: Sequence[str]
    right_letters: Sequence[str]
    rotations_right: Sequence[int] = ()
    chat: Mapping[Any, bool] = field(default_factory=dict)
    chosen: Mapping[str, Sequence[bool]] = field(default_factory=dict)

    def right(self, measure: str) -> list[bool]:
        """Return which answers are right: Spider's by one of its two measures, MMLU's choices, or those in chat."""
        if measure == CHAT:
            return list(self.chat.values())
        if measure in self.spider:
            return list(self.spider[measure])
        return [letter == right for letter, right in zip(self.letters, self.right_letters, strict=True)]


def against_base(run: str, answers: Answers, base: Answers, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return {measure: its paired difference}, the share of each letter, and that of the base's own choices kept.

    A difference has `difference_pts`, its bootstrap interval `low_pts` and `high_pts`, `gained` and `lost` questions,
    and the exact McNemar `p`. Over the rotations of MMLU's options, if both were asked them, the interval is by
    clusters, `gained` and `lost` count questions right in more and in fewer orders, and p is that of the sign-flip
    test. Raises UserError where the two were asked different questions.
    """
    if answers.questions != base.questions or (answers.chat and base.chat and list(answers.chat) != list(base.chat)):
        raise UserError(f"{run}: was asked other questions than the base; they are never drawn together")
    differences = {measure: _difference(measure, answers, base, bootstrap) for measure in MEASURES}
    if answers.rotations_right and base.rotations_right:
        differences[ROTATED] = _difference_of_rotations(answers, base, bootstrap)
    if answers.chat and base.chat:
        differences[CHAT] = _difference(CHAT, answers, base, bootstrap)
    total = len(answers.letters)
    counts = Counter(answers.letters)
    kept = sum(ours == theirs for ours, theirs in zip(answers.letters, base.letters, strict=True))
    return {
        "against_base": differences,
        "letters": {letter: round(counts[letter] / total, 6) for letter in LETTERS},
        "base_choices_kept": round(kept / total, 6),
    }


def step(run: str, answers: Answers, before: Answers, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return {measure: its paired difference} to another run's answers, as `against_base` has them."""
    if answers.questions != before.questions:
        raise UserError(f"{run}: was asked other questions than the point before it")
    return {measure: _difference(measure, answers, before, bootstrap) for measure in MEASURES}


def choosing(answers: Answers, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return {measure of Spider: paired difference} of the answers chosen among samples to the greedy ones."""
    return {measure: _paired(chosen, answers.spider[measure], bootstrap) for measure, chosen in answers.chosen.items()}


def _difference(measure: str, answers: Answers, base: Answers, bootstrap: Bootstrap) -> dict[str, Any]:
    return _paired(answers.right(measure), base.right(measure), bootstrap)


def _paired(right: Sequence[bool], against: Sequence[bool], bootstrap: Bootstrap) -> dict[str, Any]:
    gained, lost = significance.discordant(right, against)
    total = len(right)
    low, high = significance.paired_bootstrap_interval(gained, lost, total, bootstrap.bootstrap_samples, bootstrap.seed)
    return {
        "difference_pts": _points((gained - lost) / total),
        "low_pts": _points(low),
        "high_pts": _points(high),
        "gained": gained,
        "lost": lost,
        "p": float(f"{significance.mcnemar_p(gained, lost):.4g}"),
    }


def _difference_of_rotations(answers: Answers, base: Answers, bootstrap: Bootstrap) -> dict[str, Any]:
    size, total = ROTATIONS, len(answers.letters)
    pairs = zip(answers.rotations_right, base.rotations_right, strict=True)
    differences = Counter(ours - theirs for ours, theirs in pairs)
    low, high = significance.clustered_bootstrap_interval(
        differences, size, bootstrap.bootstrap_samples, bootstrap.seed
    )
    return {
        "difference_pts": _points((sum(answers.rotations_right) - sum(base.rotations_right)) / (total * size)),
        "low_pts": _points(low),
        "high_pts": _points(high),
        "gained": sum(count for value, count in differences.items() if value > 0),
        "lost": sum(count for value, count in differences.items() if value < 0),
        "p": float(f"{significance.sign_flip_p(differences):.4g}"),
    }


def _points(share: float) -> float:
    return round(100 * share, 4) + 0.0  # never -0.0


def adjust(differences: Sequence[dict[str, Any]]) -> None:
    """Add to each difference `p_holm`: its p, adjusted by Holm's method for all of them being tested together."""
    for difference, p in zip(differences, significance.holm([found["p"] for found in differences]), strict=True):
        difference["p_holm"] = float(f"{p:.4g}")


def pareto_front(places: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return which of `places`, {name: (gain, change)}, no other beats in one without losing in the other.

    By the points' estimates alone; in the order of their gains.
    """
    front = [
        name
        for name, (x, y) in places.items()
        if not any(u >= x and v >= y and (u, v) != (x, y) for u, v in places.values())
    ]
    return sorted(front, key=lambda name: places[name])
