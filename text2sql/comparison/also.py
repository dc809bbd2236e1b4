"""How far a score carries: each model on further evaluation sets, against itself on Spider's dev split."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from text2sql.comparison import significance as statistics
from text2sql.comparison.result import BIRD, EXECUTION, SPIDER_MEASURES, Carried
from text2sql.core.errors import UserError
from text2sql.core.intervals import wilson_interval


@dataclass(frozen=True)
class SetVerdicts:
    """One model's verdicts: which questions (index, db_id), and by measure (BIRD's on its data) which are right."""

    keys: list[tuple[int, str]]
    right: dict[str, list[bool]]

    @classmethod
    def collect(cls, lines: Iterable[Mapping[str, Any]]) -> "SetVerdicts":
        """Return the verdicts of `lines`, those of data/verdicts/also/<set>/<model>.jsonl."""
        found = cls([], {measure: [] for measure in SPIDER_MEASURES})
        for line in lines:
            found.keys.append((line["index"], line["db_id"]))
            for measure in SPIDER_MEASURES:
                found.right[measure].append(line[measure])
            if BIRD in line:
                found.right.setdefault(BIRD, []).append(line[BIRD])
        return found

    @property
    def metrics(self) -> dict[str, Any]:
        """The accuracies with their intervals, and how many are right of how many, as in metrics/also/."""
        total = len(self.keys)
        found: dict[str, Any] = {"total": total, "successes": sum(self.right[EXECUTION])}
        for measure, right in self.right.items():
            low, high = wilson_interval(sum(right), len(right))
            shares = {measure: sum(right) / len(right), f"{measure}_low": low, f"{measure}_high": high}
            found |= {name: round(share, 6) for name, share in shares.items()}
        return found


def require_same_sets(sets: Mapping[str, Mapping[str, SetVerdicts]]) -> None:
    """Raise UserError unless all models that were asked a set were asked the same questions; `sets` is by model."""
    empty = [f"{name}: {model}" for model, found in sets.items() for name in found if not found[name].keys]
    if empty:
        raise UserError(f"{empty[0]}: no question was scored; there is nothing to compare")
    first: dict[str, tuple[str, SetVerdicts]] = {}
    for model, found in sets.items():
        for name, verdicts in found.items():
            other, theirs = first.setdefault(name, (model, verdicts))
            if verdicts.keys != theirs.keys or verdicts.right.keys() != theirs.right.keys():
                raise UserError(f"{name}: {other} and {model} were asked different questions; rerun both")


def carried(
    sets: Mapping[str, Mapping[str, SetVerdicts]], dev: Mapping[str, SetVerdicts], bootstrap: statistics.Bootstrap
) -> tuple[Carried, ...]:
    """Return each model of `sets` on each set, against its verdicts on the dev split; p is by Holm over all."""
    names = dict.fromkeys(name for found in sets.values() for name in found)
    rows = [
        _carried(name, model, found[name], dev[model], bootstrap)
        for name in names
        for model, found in sets.items()
        if name in found
    ]
    adjusted = statistics.holm([row.p for row in rows])
    return tuple(
        dataclasses.replace(row, p=statistics.rounded_p(row.p), p_holm=statistics.rounded_p(p))
        for row, p in zip(rows, adjusted, strict=True)
    )


def _carried(name: str, model: str, ours: SetVerdicts, dev: SetVerdicts, bootstrap: statistics.Bootstrap) -> Carried:
    right, right_on_dev = ours.right[EXECUTION], dev.right[EXECUTION]
    total, total_on_dev = len(right), len(right_on_dev)
    samples, seed = bootstrap.bootstrap_samples, bootstrap.seed
    paired = ours.keys == dev.keys
    gained, lost, detectable = None, None, None
    if paired:
        gained, lost = statistics.discordant(right, right_on_dev)
        low, high = statistics.paired_bootstrap_interval(gained, lost, total, samples, seed)
        detectable = statistics.smallest_detectable_difference(gained, lost, total)
        p = statistics.mcnemar_p(gained, lost)
    else:
        counts = sum(right), total, sum(right_on_dev), total_on_dev
        low, high = statistics.unpaired_bootstrap_interval(*counts, samples, seed)
        p = statistics.fisher_p(*counts)
    return Carried(
        evaluation_set=name,
        model=model,
        total=total,
        accuracy=round(sum(right) / total, 6),
        accuracy_on_dev=round(sum(right_on_dev) / total_on_dev, 6),
        paired=paired,
        gained=gained,
        lost=lost,
        difference_pts=statistics.in_points(sum(right) / total - sum(right_on_dev) / total_on_dev),
        low_pts=statistics.in_points(low),
        high_pts=statistics.in_points(high),
        p=p,
        p_holm=p,
        smallest_detectable_pts=None if detectable is None else round(100 * detectable, 2),
    )
