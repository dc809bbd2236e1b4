"""The HTML report over invented results, for the tests that read it and those that drive a browser over it."""

from typing import Any

from testkit import synthetic
from text2sql.comparison import compare as comparison
from text2sql.core.params import load_params
from text2sql.report import html as html_report


def compared(made: synthetic.Results) -> dict[str, Any]:
    """Return the comparison of the invented models, with few bootstrap samples."""
    return comparison.compare(
        {
            model: comparison.ModelResults(
                spider_metrics=made.spider_metrics[model],
                mmlu_metrics=made.mmlu_metrics[model],
                spider_verdicts=made.spider_verdicts[model],
                mmlu_verdicts=made.mmlu_verdicts[model],
                predictions=made.predictions[model],
            )
            for model in comparison.MODELS
        },
        load_params(synthetic.PARAMS).compare.model_copy(update={"bootstrap_samples": 200}),
    )


def page(made: synthetic.Results, **changes: Any) -> str:
    """Return the report on `made`; `changes` replace arguments of `html_report.html`."""
    arguments = {
        "comparison": changes.pop("comparison", None) or compared(made),
        "params": load_params(synthetic.PARAMS).model_dump(by_alias=True),
        "metrics": {"train": made.train_metrics},
        "verdicts": made.spider_verdicts,
        "schemas": made.schemas,
        "timings": made.timings,
        "loss_curves": made.losses,
        "provenance": {
            "git": {"revision": "0123456789abcdef0123456789abcdef01234567"},
            "versions": {"python": "3.11.2", "torch": "2.13.0"},
            "data": {"data/sample/spider": "900150983cd24fb0d6963f7d28e17f72.dir"},
        },
    }
    return html_report.html(**(arguments | changes))
