"""The reports' run of invented results, and its HTML page: for tests that read it or drive a browser over it."""

import dataclasses
from types import SimpleNamespace
from typing import Any

from testkit import synthetic
from text2sql.comparison.compare import compare
from text2sql.comparison.result import Comparison
from text2sql.core.params import load_params
from text2sql.report.html import html
from text2sql.report.run import Run


def compared(made: synthetic.Results) -> Comparison:
    """Return the comparison of the invented models, with few bootstrap samples."""
    few = SimpleNamespace(bootstrap_samples=200, seed=load_params(synthetic.PARAMS).compare.seed)
    return compare({model: made.of_model(model) for model in made.models.names}, few, made.models)


def run_of(made: synthetic.Results, **changes: Any) -> Run:
    """Return what the reports take of `made`; `changes` replace its fields."""
    run = Run(
        params=load_params(synthetic.PARAMS),
        comparison=changes.pop("comparison", None) or compared(made),
        training=made.train_metrics,
        timings=made.timings,
        loss_curves=made.losses,
        verdicts=made.spider_verdicts,
        schemas=made.schemas,
        provenance={
            "git": {"revision": "0123456789abcdef0123456789abcdef01234567"},
            "base": synthetic.LOADED["base"],
            "run": {"dtype": "bfloat16", "device": "cpu, 2 cores"},
            "versions": {"python": "3.11.2", "torch": "2.13.0"},
            "data": {"data/sample/spider": "900150983cd24fb0d6963f7d28e17f72.dir"},
        },
    )
    return dataclasses.replace(run, **changes)


def page(made: synthetic.Results, **changes: Any) -> str:
    """Return the HTML report on `made`; `changes` replace fields of its run, `params` with a mapping to be shown."""
    shown = changes.pop("params", None)
    if shown is not None:
        params = load_params(synthetic.PARAMS)
        changes["params"] = SimpleNamespace(model_dump=lambda by_alias: shown, compare=params.compare, data=params.data)
    return html(run_of(made, **changes))
