"""`reports/report.html`: the whole comparison in one file that needs no network.

Templates and their inlined style and script are in `text2sql/report/templates/`. Nothing here computes a metric: a run
comes in, a page goes out. Whatever a model or a database wrote is text: Jinja escapes it in the page, `script_json` in
the data that the explorer reads, and the page's Content-Security-Policy runs its own script alone and loads nothing.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup

from text2sql.comparison.cost import costs
from text2sql.comparison.result import ALL, BIRD, Comparison
from text2sql.data.mmlu import CATEGORY_NAMES
from text2sql.report import charts, numbers
from text2sql.report.curve_figure import figure
from text2sql.report.explorer import Outcomes, explorer_data, script_json, style_class
from text2sql.report.markdown import MEASURE_NAMES, MEASURES, difficulties
from text2sql.report.run import Run
from text2sql.report.sentences import CARRIED_NOTE, CHANCE, sentences, set_in_words
from text2sql.scoring.failures import CAUSE_GROUPS
from text2sql.scoring.hardness import HARDNESS_LEVELS


def html(run: Run) -> str:
    """Return the report as one HTML page.

    The page holds at most about 5 MB: long answers and results are cut further, examples left out of the explorer, and
    the page says so, where that needs it.
    """
    template = _environment().get_template("report.html.jinja")
    page = template.render(**_of_comparison(run.comparison), **_of_run(run), **_of_page())
    # A lone surrogate, which a model may well write, has no place in a UTF-8 file.
    return page.encode("utf-8", "replace").decode("utf-8")


def _of_comparison(comparison: Comparison) -> dict[str, Any]:
    """Return what the template shows of the comparison."""
    models = comparison.models
    return {
        "comparison": comparison,
        "spider": comparison.spider,
        "mmlu": comparison.mmlu,
        "models": models.titles,
        "questions": models.questions,
        "base": models.base,
        "tuned": {model: models.titles[model] for model in models.tuned},
        "places": {model: place for place, model in enumerate(models.names)},
        "styles": {model: style_class(place) for place, model in enumerate(models.names)},
        "categories": CATEGORY_NAMES,
        "hardness": HARDNESS_LEVELS,
        # In all and by difficulty, each definition: where BIRD's is among them.
        "difficulties": [ALL, *difficulties(comparison)] if BIRD in comparison.spider[models.base] else [],
        "measures": MEASURES,
        "measure_names": {name: text.replace("{questions}", models.questions) for name, text in MEASURE_NAMES.items()},
        "shown_causes": _causes_that_occur(comparison.spider),
        "most_of_a_cause": max(max(spider["causes"].values()) for spider in comparison.spider.values()),
        "sentences": sentences(comparison.summary),
        "chance": CHANCE,
        "share_axis": charts.share_axis(comparison),
        "difference_axis": charts.difference_axis(comparison),
        "scatter": charts.trade_off_plot(comparison),
    }


def _of_run(run: Run) -> dict[str, Any]:
    """Return what the template shows of the run around the comparison."""
    explored = explorer_data(run.models, run.verdicts, run.schemas, run.params.compare.seed)
    outcomes = run.outcomes or Outcomes.of(run.verdicts[model] for model in run.models.names)
    shown, in_all = len(explored["examples"]), run.comparison.summary.spider_total
    if shown < in_all:
        explored["in_all"] = outcomes.counts
    return {
        "notes": run.notes,
        "sets": {name: set_in_words(name, entry) for name, entry in run.params.data.also.items()},
        "carried_note": CARRIED_NOTE,
        "trade_off": {found.model: found for found in run.trade_off},
        "cost": {found.model: found for found in costs(run.comparison, run.timings)},
        "loss": charts.loss_plot(run.loss_curves),
        "training": run.training,
        "params": run.params.model_dump(by_alias=True),
        "tuned_as": "whole model" if _all_whole(run) else "LoRA adapter",
        "timings": list(run.timings.values()),
        "on_gpu": any(timing["peak_gpu_memory_gb"] is not None for timing in run.timings.values()),
        "provenance": run.provenance,
        "curves": [(curve, _picture(figure(curve))) for curve in run.curves],
        "example_prompt": run.example_prompt,
        "examples": Markup(script_json(explored)),
        "examples_shown": shown,
        "examples_in_all": in_all,
        "flips_shown": sum(len({answer["paper"] for answer in one["answers"]}) > 1 for one in explored["examples"]),
        "flips_in_all": sum(outcomes.flips),
    }


def _picture(svg: str) -> str:
    """Return a picture's address that holds the picture: its style stays its own."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _all_whole(run: Run) -> bool:
    """Whether all weights of each tuned model were trained."""
    return bool(run.training) and all(metrics.get("trainable_share") == 1 for metrics in run.training.values())


def _of_page() -> dict[str, Any]:
    """Return the page's own style and script, and the hash by which its policy lets that run."""
    script = (charts.TEMPLATES / "report.js").read_text(encoding="utf-8")
    return {
        "style": Markup((charts.TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }


def _causes_that_occur(spider: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the causes that any model has, by their groups."""
    groups = {
        group: [cause for cause in causes if any(metrics["causes"].get(cause) for metrics in spider.values())]
        for group, causes in CAUSE_GROUPS.items()
    }
    return {group: causes for group, causes in groups.items() if causes}


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(charts.TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=numbers.in_percent,
        points=points,
        minus=numbers.true_minus,
        p_value=numbers.p_value,
        count=numbers.count,
        duration=numbers.duration,
        gigabytes=numbers.gigabytes,
        words=numbers.words,
        spelled=numbers.spelled,
        leaves=leaves,
    )
    return environment


def points(value: float, digits: int = 2) -> str:
    """Return points as `numbers.points` does, with a true minus sign."""
    return numbers.true_minus(numbers.points(value, digits))


def leaves(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Return the values in nested mappings as (dotted name, text), in order. A list is one text."""
    if isinstance(value, Mapping):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, f"{name}.{key}" if name else str(key))]
    if isinstance(value, (list, tuple)):
        return [(name, ", ".join(text for item in value for _, text in leaves(item)))]
    return [(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))]
