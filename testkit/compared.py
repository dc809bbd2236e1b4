"""Invented results as the comparison takes them."""

from types import SimpleNamespace
from typing import Any

from testkit.synthetic import Results
from text2sql.comparison.compare import MODELS, ModelResults

LIMITS = SimpleNamespace(max_mmlu_loss_pts=5.0, min_spider_gain_pts=0.0, bootstrap_samples=2000, seed=0)


def inputs(made: Results, **changes: Any) -> dict[str, ModelResults]:
    """Return each model's results; `changes` replace a field of one model: `m1__predictions=[…]`."""
    found = {
        model: {
            "spider_metrics": made.spider_metrics[model],
            "mmlu_metrics": made.mmlu_metrics[model],
            "spider_verdicts": made.spider_verdicts[model],
            "mmlu_verdicts": made.mmlu_verdicts[model],
            "predictions": made.predictions[model],
        }
        for model in MODELS
    }
    for name, value in changes.items():
        model, field = name.split("__")
        found[model][field] = value
    return {model: ModelResults(**fields) for model, fields in found.items()}
