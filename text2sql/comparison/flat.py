"""metrics/compare.json, the one place that writes and reads it: flat numbers for `dvc metrics diff`.

Names have no dots. A pair is named by the tuned model where it stands against the base (`m1`), else by both (`m1_m2`).
Points of gain count up on Spider, points of loss count up on MMLU. A smallest detectable difference that does not exist
has no key.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from text2sql.comparison.result import (
    ACCURACY,
    BIRD,
    BY_SET,
    CHAT,
    EXECUTION,
    OFFICIAL,
    ROTATED,
    SPIDER_MEASURES,
    Agreement,
    Comparison,
    Difference,
    PairSummary,
    Summary,
)
from text2sql.core.errors import UserError
from text2sql.core.files import read_json
from text2sql.core.models import ModelTable


@dataclass(frozen=True, kw_only=True)
class CarriedNumbers(Difference):
    """What metrics/compare.json has of one model on one further evaluation set, against itself on the dev split.

    gain: against the base, on that set; None for the base.
    """

    accuracy: float
    flips: float | None
    gain: Difference | None


_ENDS = ("", "_low", "_high")


def flatten(comparison: Comparison) -> dict[str, float]:
    """Return the numbers of metrics/compare.json: what a reviewer reads."""
    models, summary = comparison.models, comparison.summary
    flat: dict[str, float | None] = {"spider_total": summary.spider_total, "mmlu_total": summary.mmlu_total}
    for model in models.names:
        for measure in SPIDER_MEASURES:
            flat[f"spider_{measure}_{model}"] = comparison.spider[model][measure]
    flat |= {f"mmlu_accuracy_{model}": comparison.mmlu[model][ACCURACY] for model in models.names}
    for found in summary.pairs:
        pair = models.pair_name(found.model, found.against)
        spider, mmlu, agreement = found.spider, found.mmlu, found.agreement
        flat |= {
            f"spider_gain_pts_{pair}": spider.difference_pts,
            f"spider_gain_pts_low_{pair}": spider.low_pts,
            f"spider_gain_pts_high_{pair}": spider.high_pts,
            f"spider_p_holm_{pair}": spider.p_holm,
            f"spider_smallest_detectable_pts_{pair}": spider.smallest_detectable_pts,
            f"spider_official_p_holm_{pair}": comparison.row(found.model, found.against, OFFICIAL).p_holm,
            f"mmlu_loss_pts_{pair}": 0.0 - mmlu.difference_pts,
            f"mmlu_loss_pts_low_{pair}": 0.0 - mmlu.high_pts,
            f"mmlu_loss_pts_high_{pair}": 0.0 - mmlu.low_pts,
            f"mmlu_p_holm_{pair}": mmlu.p_holm,
            f"mmlu_smallest_detectable_pts_{pair}": mmlu.smallest_detectable_pts,
            f"agreement_identical_outputs_{pair}": agreement.outputs,
            f"agreement_identical_verdicts_{pair}": agreement.spider_verdicts,
            f"agreement_identical_choices_{pair}": agreement.mmlu_choices,
        }
    flat |= _of_bird(comparison)
    flat |= _where_asked(comparison) | _further_sets(comparison)
    return {key: value for key, value in flat.items() if value is not None}


def _of_bird(comparison: Comparison) -> dict[str, float | None]:
    """Return the numbers of BIRD's measure: none for another benchmark's data."""
    flat: dict[str, float | None] = {
        f"spider_{BIRD}_{model}": metrics[BIRD] for model, metrics in comparison.spider.items() if BIRD in metrics
    }
    for row in comparison.rows:
        if row.measure == BIRD:
            pair = comparison.models.pair_name(row.model, row.against)
            flat |= _points_of("spider_bird_gain", pair, row)
            flat[f"spider_bird_smallest_detectable_pts_{pair}"] = row.smallest_detectable_pts
    return flat


def _where_asked(comparison: Comparison) -> dict[str, float]:
    """Return the numbers of MMLU over the rotations of its options and in chat: none where neither was asked."""
    flat: dict[str, float] = {
        f"mmlu_rotated_accuracy_{model}": of[ACCURACY] for model, of in comparison.rotated.items()
    }
    for model, metrics in comparison.chat.items():
        for name in (ACCURACY, "letter_share", "sql_share"):
            flat[f"mmlu_chat_{name}_{model}"] = metrics[name]
    for row in comparison.rows:
        if row.measure in (ROTATED, CHAT):
            pair = comparison.models.pair_name(row.model, row.against)
            flat |= {
                f"{row.task}_loss_pts_{pair}": 0.0 - row.difference_pts,
                f"{row.task}_loss_pts_low_{pair}": 0.0 - row.high_pts,
                f"{row.task}_loss_pts_high_{pair}": 0.0 - row.low_pts,
                f"{row.task}_p_holm_{pair}": row.p_holm,
            }
    return flat


def _further_sets(comparison: Comparison) -> dict[str, float]:
    """Return the numbers of further evaluation sets: a set's name has no underscore, so that no two keys are one."""
    flat: dict[str, float] = {}
    for name, by_model in comparison.also.items():
        for model, metrics in by_model.items():
            measures = [measure for measure in (*SPIDER_MEASURES, BIRD) if measure in metrics]
            flat |= {f"also_{name}_{measure}_{model}": metrics[measure] for measure in measures}
    for row in comparison.rows:
        if row.family == BY_SET:
            pair = comparison.models.pair_name(row.model, row.against)
            flat |= _points_of(f"also_{row.scope}_gain", pair, row)
    for found in comparison.carried:
        flat |= _points_of(f"also_{found.evaluation_set}_against_dev", found.model, found)
        if found.flips is not None:
            flat[f"also_{found.evaluation_set}_flips_{found.model}"] = round(found.flips, 6)
    return flat


def _points_of(what: str, whose: str, found: Difference) -> dict[str, float]:
    return {
        f"{what}_pts_{whose}": found.difference_pts,
        f"{what}_pts_low_{whose}": found.low_pts,
        f"{what}_pts_high_{whose}": found.high_pts,
        f"{what}_p_holm_{whose}": found.p_holm,
    }


def read_carried(path: str | Path, models: ModelTable, sets: Iterable[str]) -> dict[tuple[str, str], CarriedNumbers]:
    """Return {(further evaluation set, model): how far the model's score carries to it} of those that were asked."""
    flat = read_numbers(path, models)
    found = {}
    for name, model in itertools.product(sets, models.names):
        against_dev = _difference_in(flat, f"also_{name}_against_dev", model)
        if against_dev is not None:
            found[name, model] = CarriedNumbers(
                accuracy=flat[f"also_{name}_{EXECUTION}_{model}"],
                flips=flat.get(f"also_{name}_flips_{model}"),
                gain=_difference_in(flat, f"also_{name}_gain", models.pair_name(model, models.base)),
                **vars(against_dev),
            )
    return found


def _difference_in(flat: Mapping[str, float], what: str, whose: str) -> Difference | None:
    """Return the difference that `_points_of` put into `flat`; None where there is none."""
    if f"{what}_pts_{whose}" not in flat:
        return None
    return Difference(
        difference_pts=flat[f"{what}_pts_{whose}"],
        low_pts=flat[f"{what}_pts_low_{whose}"],
        high_pts=flat[f"{what}_pts_high_{whose}"],
        p_holm=flat[f"{what}_p_holm_{whose}"],
        smallest_detectable_pts=None,
    )


def read_numbers(path: str | Path, models: ModelTable) -> dict[str, float]:
    """Return the numbers as they stand in `path`. Raises UserError where one is missing or is no number."""
    flat = read_json(path)
    if not isinstance(flat, dict):
        raise UserError(f"{path}: found {type(flat).__name__}, wanted an object of numbers")
    wanted = ["spider_total", "mmlu_total"]
    for pair in (models.pair_name(model, against) for model, against in models.pairs):
        wanted += [f"spider_gain_pts{end}_{pair}" for end in _ENDS] + [f"spider_p_holm_{pair}"]
        wanted += [f"mmlu_loss_pts{end}_{pair}" for end in _ENDS] + [f"mmlu_p_holm_{pair}"]
        wanted += [f"agreement_identical_{what}_{pair}" for what in ("outputs", "verdicts", "choices")]
    for key in wanted:
        if isinstance(flat.get(key), bool) or not isinstance(flat.get(key), (int, float)):
            raise UserError(f"{path}: {key}: found {flat.get(key)!r}, wanted a number; `dvc repro` writes it anew")
    return flat


def read_summary(path: str | Path, models: ModelTable) -> Summary:
    """Return the overall results from `path` alone. Raises UserError as `read_numbers` does."""
    return summary_of(read_numbers(path, models), models)


def summary_of(flat: Mapping[str, float], models: ModelTable) -> Summary:
    """Return the overall results that `flatten` made these numbers of."""
    pairs = tuple(_pair_of(flat, models, model, against) for model, against in models.pairs)
    return Summary(models, int(flat["spider_total"]), int(flat["mmlu_total"]), pairs)


def _pair_of(flat: Mapping[str, float], models: ModelTable, model: str, against: str) -> PairSummary:
    pair = models.pair_name(model, against)
    return PairSummary(
        model,
        against,
        spider=Difference(
            difference_pts=flat[f"spider_gain_pts_{pair}"],
            low_pts=flat[f"spider_gain_pts_low_{pair}"],
            high_pts=flat[f"spider_gain_pts_high_{pair}"],
            p_holm=flat[f"spider_p_holm_{pair}"],
            smallest_detectable_pts=flat.get(f"spider_smallest_detectable_pts_{pair}"),
        ),
        mmlu=Difference(
            difference_pts=0.0 - flat[f"mmlu_loss_pts_{pair}"],
            low_pts=0.0 - flat[f"mmlu_loss_pts_high_{pair}"],
            high_pts=0.0 - flat[f"mmlu_loss_pts_low_{pair}"],
            p_holm=flat[f"mmlu_p_holm_{pair}"],
            smallest_detectable_pts=flat.get(f"mmlu_smallest_detectable_pts_{pair}"),
        ),
        agreement=Agreement(
            outputs=flat[f"agreement_identical_outputs_{pair}"],
            spider_verdicts=flat[f"agreement_identical_verdicts_{pair}"],
            mmlu_choices=flat[f"agreement_identical_choices_{pair}"],
        ),
    )


def limit_keys(models: ModelTable) -> list[str]:
    """Return the names of the numbers that the gate holds against its limits."""
    return [
        f"{points}{end}_{model}"
        for model in models.tuned
        for points in ("spider_gain_pts", "mmlu_loss_pts")
        for end in _ENDS
    ]


def interval_keys(key: str) -> tuple[str, str] | None:
    """Return the names under which the 95 % interval of the points `key` stands, or None where it is no points."""
    if "_pts_" not in key:
        return None
    return key.replace("_pts_", "_pts_low_", 1), key.replace("_pts_", "_pts_high_", 1)
