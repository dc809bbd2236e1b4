"""What tables and findings need of the committed sets, and how far Model 1's gains move with the seed."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from text2sql.comparison.flat import CarriedNumbers, read_carried, read_summary
from text2sql.comparison.result import Difference, Summary, Verdict
from text2sql.core.files import read_json
from text2sql.core.models import ModelTable
from text2sql.core.params import AlsoSet, Params, load_params
from text2sql.report.numbers import interval, points
from text2sql.report.result_sets import ALSO, MMLU_ALL, SEEDS, set_folders

SCHEMAS = ("none", "name", "tables", "ddl", "rich")
SEEDED = "m1"  # the model that is trained again with other seeds
# What a gain is taken of: {name: (task, count of right answers)}.
MEASURES = {
    "spider": ("spider", "successes"),
    "mmlu": ("mmlu", "correct"),
    MMLU_ALL: (MMLU_ALL, "correct"),
}


@dataclass(frozen=True)
class ResultSet:
    """What the tables need of one folder below `results/`.

    metrics: {"spider", "mmlu" and, where it was run, "mmlu_all": {model: the content of its metrics file}}.
    compared: what metrics/compare.json says; compared_all: of the run on all of MMLU, or None.
    seeds: {another train.seed: metrics as above, of Model 1 alone}.
    sets, carried: the further evaluation sets of the run in also/, else of its own, and by set and model how far
        the scores carry.
    """

    name: str
    models: ModelTable
    params: Params
    timings: dict[str, dict]
    metrics: dict[str, dict[str, dict]]
    compared: Summary
    compared_all: Summary | None
    seeds: dict[int, dict[str, dict[str, dict]]]
    sets: dict[str, AlsoSet]
    carried: dict[tuple[str, str], CarriedNumbers]


@dataclass(frozen=True)
class Spread:
    """A gain of Model 1 over the seeds that it was trained with, the set's own among them: count, and points."""

    seeds: int
    low: float
    high: float

    def exceeded_by(self, difference: Difference) -> bool:
        """Whether the gain nearest to zero lies further from it than the largest from the smallest.

        With one seed nothing is known of the spread: then p alone decides. All seeds' gains have to have the
        difference's sign.
        """
        if self.seeds == 1:
            return True
        nearest = self.low if difference.difference_pts > 0 else -self.high
        return nearest > self.high - self.low

    def __str__(self) -> str:
        return "1 seed" if self.seeds == 1 else f"{self.seeds}: {interval(points(self.low), points(self.high))}"


def verdict(difference: Difference, spread: Spread | None) -> Verdict:
    """Return a difference's verdict: by its p, and by the spread over seeds where that is known."""
    if spread is None or spread.exceeded_by(difference):
        return difference.verdict
    return Verdict.NOT_DISTINGUISHABLE


def read_sets(results: Path) -> list[ResultSet]:
    """Return the sets below `results`: with less of the schema in the prompt first, then by name."""
    sets = [_read_set(folder) for folder in set_folders(results)]
    return sorted(sets, key=lambda found: (SCHEMAS.index(found.params.prompt.schema_), found.name))


def _read_set(folder: Path) -> ResultSet:
    params = load_params(folder / "params.yaml", older=True)
    models = params.model_table
    second = folder / MMLU_ALL
    further = folder / ALSO if (folder / ALSO).is_dir() else folder
    sets = load_params(further / "params.yaml", older=True).data.also
    return ResultSet(
        name=folder.name,
        models=models,
        params=params,
        timings={path.stem: read_json(path) for path in (folder / "timings").glob("*.json")},
        metrics=_read_metrics(folder, models.names),
        compared=read_summary(folder / "metrics/compare.json", models),
        compared_all=read_summary(second / "metrics/compare.json", models) if second.is_dir() else None,
        seeds={int(run.name): _read_metrics(run, (SEEDED,)) for run in sorted(folder.glob(f"{SEEDS}/*"))},
        sets=sets,
        carried=read_carried(further / "metrics/compare.json", models, sets) if sets else {},
    )


def _read_metrics(folder: Path, models: tuple[str, ...]) -> dict[str, dict[str, dict]]:
    places = {"spider": "metrics/spider", "mmlu": "metrics/mmlu", MMLU_ALL: f"{MMLU_ALL}/metrics/mmlu"}
    return {
        task: {model: read_json(folder / place / f"{model}.json") for model in models}
        for task, place in places.items()
        if (folder / place).is_dir()
    }


def spreads(found: ResultSet) -> dict[str, Spread]:
    """Return {measure: how far Model 1's gain over the set's base moves with the seed}; nothing without Model 1."""
    if SEEDED not in found.models.tuned:
        return {}
    base = found.models.base
    rows = [
        {"measure": measure, "points": _percent(run[task][SEEDED], count) - _percent(found.metrics[task][base], count)}
        for measure, (task, count) in MEASURES.items()
        for run in (found.metrics, *found.seeds.values())
        if task in found.metrics and task in run
    ]
    by_measure = pd.DataFrame(rows).groupby("measure")["points"].agg(["count", "min", "max"])
    return {
        measure: Spread(row["count"], row["min"], row["max"]) for measure, row in by_measure.to_dict("index").items()
    }


def _percent(metrics: dict, count: str) -> float:
    return 100 * metrics[count] / metrics["total"]
