"""The rows of metrics/plots/: what `dvc plots` draws."""

from collections.abc import Mapping
from typing import Any

from text2sql.comparison.result import ACCURACY, BIRD, EXECUTION, OFFICIAL, Comparison


def accuracy_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the rows of metrics/plots/accuracy.csv: model, task, accuracy, low, high (shares)."""
    titles, questions = comparison.models.titles, comparison.models.questions
    return [
        {"model": titles[model], "task": task, **_interval(metrics[model], measure)}
        for task, metrics, measure in (
            (f"{questions}, execution accuracy", comparison.spider, EXECUTION),
            (f"{questions}, official execution accuracy", comparison.spider, OFFICIAL),
            (f"{questions}, BIRD's execution accuracy", comparison.spider, BIRD),
            ("MMLU", comparison.mmlu, ACCURACY),
        )
        for model in titles
        if measure in metrics[model]
    ]


def category_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the rows of metrics/plots/mmlu_by_category.csv: also the difference to the base in points."""
    models, rows = comparison.models, []
    for category in comparison.categories:
        for model, title in models.titles.items():
            difference = 0.0
            if model != models.base:
                difference = comparison.against_base(model, ACCURACY, category).difference_pts
            metrics = comparison.mmlu[model]["by_category"][category]
            row = {"model": title, "category": category, **_interval(metrics, ACCURACY)}
            rows.append(row | {"difference_pts": difference})
    return rows


def _interval(metrics: Mapping[str, Any], measure: str) -> dict[str, float]:
    return {"accuracy": metrics[measure], "low": metrics[f"{measure}_low"], "high": metrics[f"{measure}_high"]}
