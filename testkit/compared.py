"""Invented results as the comparison takes them."""

import dataclasses
from types import SimpleNamespace
from typing import Any

from testkit import synthetic
from text2sql.comparison.compare import ModelResults, compare
from text2sql.comparison.result import Comparison

LIMITS = SimpleNamespace(max_mmlu_loss_pts=5.0, min_spider_gain_pts=0.0, bootstrap_samples=2000, seed=0)


def inputs(made: synthetic.Results, **changes: Any) -> dict[str, ModelResults]:
    """Return each model's results; `changes` replace a field of one model: `m1__predictions=[…]`."""
    found = {model: made.of_model(model) for model in made.models.names}
    for name, value in changes.items():
        model, field = name.split("__")
        found[model] = dataclasses.replace(found[model], **{field: value})
    return found


def compared(made: synthetic.Results, **changes: Any) -> Comparison:
    """Return the comparison of `made`."""
    return compare(inputs(made, **changes), LIMITS, made.models)


def with_outcomes(spider: list[tuple[bool, bool]], mmlu: list[tuple[bool, bool]]) -> synthetic.Results:
    """Return results where base and m1 answer as given, [(base, m1), …] a task; m2 answers as base does."""
    made = synthetic.results(examples=len(spider), questions=len(mmlu), subjects=("philosophy",), hostile=False)
    for place, model in enumerate(("base", "m1", "base")):
        name = made.models.names[place]
        for line, pair in zip(made.spider_verdicts[name], spider):
            right = pair[model == "m1"]
            line |= {"execution_accuracy": right, "official_execution_accuracy": right}
            line["outcome"] = "correct" if right else "wrong_rows"
        made.spider_verdicts[name] = [dict(line) for line in made.spider_verdicts[name]]
        for line, pair in zip(made.mmlu_verdicts[name], mmlu):
            line["correct"] = pair[model == "m1"]
        made.spider_metrics[name] = synthetic.spider_metrics(made.spider_verdicts[name])
        made.mmlu_metrics[name] = synthetic.mmlu_metrics(made.mmlu_verdicts[name])
    return made


def outcomes(both: int = 0, gained: int = 0, lost: int = 0, neither: int = 0) -> list[tuple[bool, bool]]:
    """Return so many pairs (base right, m1 right) of each kind."""
    return [(True, True)] * both + [(False, True)] * gained + [(True, False)] * lost + [(False, False)] * neither
