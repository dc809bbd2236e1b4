"""`reports/report.html`: the whole comparison in one file that needs no network.

    page = html(comparison, params=…, metrics=…, verdicts=…, …)

Templates and their inlined style and script are in `text2sql/templates/`. Nothing here computes a metric: numbers come
in, a page goes out. Whatever a model or a database wrote is text: Jinja escapes it in the page, `script_json` in the
data that the explorer reads, and the page's Content-Security-Policy runs its own script alone and loads nothing.
"""

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from text2sql.comparison.compare import NAMES, cost, p_text
from text2sql.scoring.failures import CAUSE_GROUPS

TEMPLATES = Path(__file__).parent / "templates"
HARDNESS = ("easy", "medium", "hard", "extra")
CATEGORIES = {"stem": "STEM", "humanities": "Humanities", "social_sciences": "Social sciences", "other": "Other"}
WORDS = {"sql": "SQL", "mmlu": "MMLU", "spider": "Spider"}
CAUSES = tuple(cause for causes in CAUSE_GROUPS.values() for cause in causes)

MOST_EXAMPLE_BYTES = 4_400_000  # of the explorer's data: with all the rest the page stays below 5 MB
# How many characters of an answer (or error) and of a result are shown: the first pair with which the data fit.
CUTS = ((2000, 2000), (800, 600), (400, 300), (200, 150), (100, 60))
MOST_EXAMPLES = 5000  # in the explorer: more of them would make the page slow to open
RAW_LOSS_POINTS = 600
MEAN_LOSS_POINTS = 30


def html(
    comparison: Mapping[str, Any],
    *,
    params: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, Any]],
    verdicts: Mapping[str, Sequence[Mapping[str, Any]]],
    schemas: Mapping[str, Mapping[str, Any]],
    timings: Mapping[str, Mapping[str, Any]],
    loss_curves: Mapping[str, Sequence[Mapping[str, Any]]],
    provenance: Mapping[str, Any],
) -> str:
    """Return the report as one HTML page.

    comparison: what `text2sql.comparison.compare` makes; its `spider` and `mmlu` are the tables.
    params: `params.yaml` as a plain dictionary.
    metrics: {"train": {model: the dictionary of metrics/train/<model>.json}}.
    verdicts: {model: lines of data/verdicts/spider/<model>.jsonl}, the same examples in the same order for all; all of
        them or, where `explorer_step` says so, every n-th.
    schemas: {db_id: schema} as in data/prepared/spider/schemas.json; more than the verdicts name are fine.
    timings: {file name without its ending, such as "train_m1": the dictionary of data/timings/<name>.json},
        in the order in which they shall be listed.
    loss_curves: {model: the rows of metrics/train/<model>_loss.csv, with numbers as numbers}.
    provenance: {heading: value, or a mapping of any depth}, such as {"git": {"revision": …}, "data": {path: md5}}.

    The page holds at most about 5 MB: long answers and results are cut further, examples left out of the explorer, and
    the page says so, where that needs it.
    """
    explored = explorer_data(verdicts, schemas)
    page = (
        _environment()
        .get_template("report.html.jinja")
        .render(
            comparison=comparison,
            spider=comparison["spider"],
            mmlu=comparison["mmlu"],
            models={model: NAMES[model] for model in comparison["models"]},
            categories=CATEGORIES,
            hardness=HARDNESS,
            shown_causes=_causes_that_occur(comparison["spider"]),
            most_of_a_cause=max(max(spider["causes"].values()) for spider in comparison["spider"].values()),
            overall={
                (entry["model"], entry["against"], entry["measure"]): entry
                for entry in comparison["comparisons"]
                if entry["level"] == "overall"
            },
            by_category={
                (entry["model"], entry["scope"]): entry
                for entry in comparison["comparisons"]
                if entry["level"] == "category" and entry["against"] == "base"
            },
            cost=cost(comparison, timings),
            trade_off=trade_off_plot(comparison),
            share_axis=Axis.over(_shares(comparison), least=0.0, most=1.0, wanted=4),
            difference_axis=Axis.over(_differences(comparison), wanted=3),
            loss=loss_plot(loss_curves),
            training=metrics["train"],
            params=params,
            timings=list(timings.values()),
            on_gpu=any(timing["peak_gpu_memory_gb"] is not None for timing in timings.values()),
            provenance=provenance,
            examples=Markup(script_json(explored)),
            examples_shown=len(explored["examples"]),
            examples_in_all=next(iter(comparison["spider"].values()))["total"],
            style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
            script=Markup(_script()),
            script_hash=base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode(),
        )
    )
    # A lone surrogate, which a model may well write, has no place in a UTF-8 file.
    return page.encode("utf-8", "replace").decode("utf-8")


def _causes_that_occur(spider: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the causes that any model has, by their groups."""
    groups = {
        group: [cause for cause in causes if any(metrics["causes"][cause] for metrics in spider.values())]
        for group, causes in CAUSE_GROUPS.items()
    }
    return {group: causes for group, causes in groups.items() if causes}


def _script() -> str:
    return (TEMPLATES / "report.js").read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent,
        points=points,
        minus=minus,
        p_value=p_value,
        count=count,
        duration=duration,
        leaves=leaves,
        words=words,
    )
    return environment


# ---------------------------------------------------------------- how numbers and names read


def percent(share: float, digits: int = 2) -> str:
    """Return a share as percent without the sign: 0.0725 -> "7.25"."""
    return f"{100 * share:.{digits}f}"


def points(value: float, digits: int = 2) -> str:
    """Return a difference in points with its sign: 3.77 -> "+3.77"; the minus is a true one."""
    text = f"{value:+.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def p_value(value: float) -> str:
    """Return a probability with two significant digits, or "< 0.0001"."""
    return p_text(value).removeprefix("p ").removeprefix("= ")


def minus(text: str) -> str:
    """Return a sentence with true minus signs in front of its numbers."""
    return re.sub(r"(?<!\S)-(?=\d)", "\N{MINUS SIGN}", text)


def count(value: float) -> str:
    """Return a whole number with thousands separated: 1034 -> "1,034"."""
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: 5025 -> "1 h 24 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def words(name: str) -> str:
    """Return a name from a file as words: "unknown_table" -> "unknown table", "not_sql" -> "not SQL"."""
    return " ".join(WORDS.get(word, word) for word in name.split("_"))


def leaves(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Return the values in nested mappings as (dotted name, text), in order. A list is one text."""
    if isinstance(value, Mapping):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, f"{name}.{key}" if name else str(key))]
    if isinstance(value, (list, tuple)):
        return [(name, ", ".join(text for item in value for _, text in leaves(item)))]
    return [(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))]


# ---------------------------------------------------------------- plots: positions in percent of the plot's box


@dataclass(frozen=True)
class Axis:
    """A range of values with round ticks; `at` places a value in percent from the range's start."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: Iterable[float], least: float = -math.inf, most: float = math.inf, wanted: int = 5) -> "Axis":
        """Return the axis that holds `values`, widened to its ticks but never beyond `least` and `most`."""
        values = list(values) or [0.0]
        low, high = min(values), max(values)
        if high - low < 1e-9:
            low, high = low - 0.05, high + 0.05
        step = _round_step((high - low) / wanted)
        low = max(least, math.floor(low / step + 1e-9) * step)
        high = min(most, math.ceil(high / step - 1e-9) * step)
        first = math.ceil(low / step - 1e-9)
        last = math.floor(high / step + 1e-9)
        return cls(low, high, tuple(round(number * step, 10) for number in range(first, last + 1)))

    def at(self, value: float) -> float:
        """Return where `value` lies, in percent of the axis."""
        return round(100 * (value - self.low) / (self.high - self.low), 3)


def _round_step(raw: float) -> float:
    magnitude = 10 ** math.floor(math.log10(raw))
    return next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw * (1 - 1e-9))


def _shares(comparison: Mapping[str, Any]) -> list[float]:
    """Return the ends of all intervals that the strips by hardness and by category show, and 0."""
    ends = [0.0]
    for spider in comparison["spider"].values():
        for level in spider["by_hardness"].values():
            if level["total"]:
                ends += [level["execution_accuracy_low"], level["execution_accuracy_high"]]
    for mmlu in comparison["mmlu"].values():
        for category in mmlu["by_category"].values():
            ends += [category["accuracy_low"], category["accuracy_high"]]
    return ends


def _differences(comparison: Mapping[str, Any]) -> list[float]:
    return [0.0] + [
        entry[end]
        for entry in comparison["comparisons"]
        if entry["task"] == "mmlu" and entry["level"] != "subject" and entry["against"] == "base"
        for end in ("low_pts", "high_pts")
    ]


def trade_off_plot(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Return axes and points of Spider (across) against MMLU (up), with both 95 % intervals."""
    spider, mmlu = comparison["spider"], comparison["mmlu"]
    across = [spider[m][f"execution_accuracy{end}"] for m in comparison["models"] for end in ("_low", "_high")]
    up = [mmlu[m][f"accuracy{end}"] for m in comparison["models"] for end in ("_low", "_high")]
    x, y = Axis.over(across, least=0.0, most=1.0), Axis.over(up, least=0.0, most=1.0)
    return {
        "x": x,
        "y": y,
        "points": {
            model: {
                "x": x.at(spider[model]["execution_accuracy"]),
                "x_low": x.at(spider[model]["execution_accuracy_low"]),
                "x_high": x.at(spider[model]["execution_accuracy_high"]),
                "y": 100 - y.at(mmlu[model]["accuracy"]),
                "y_low": 100 - y.at(mmlu[model]["accuracy_low"]),
                "y_high": 100 - y.at(mmlu[model]["accuracy_high"]),
            }
            for model in comparison["models"]
        },
    }


def loss_plot(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any] | None:
    """Return axes and SVG points of the loss by step: each as it was, and drawn as means of neighbours.

    None where there is nothing to draw. A loss that is not a finite number is left out.
    """
    points = {
        model: [(row["step"], row["loss"]) for row in rows if math.isfinite(row["loss"])]
        for model, rows in curves.items()
    }
    points = {model: line for model, line in points.items() if line}
    if not points:
        return None
    x = Axis.over([0] + [step for line in points.values() for step, _ in line])
    y = Axis.over([0.0] + [loss for line in points.values() for _, loss in line])

    def path(line: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{x.at(step):g},{100 - y.at(loss):g}" for step, loss in line)

    return {
        "x": x,
        "y": y,
        "lines": {
            model: {"raw": path(_thinned(line, RAW_LOSS_POINTS)), "mean": path(_thinned(line, MEAN_LOSS_POINTS))}
            for model, line in points.items()
        },
    }


def _thinned(line: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Return at most `most` points, each the mean of neighbours."""
    size = math.ceil(len(line) / most)
    parts = [line[start : start + size] for start in range(0, len(line), size)]
    return [tuple(sum(values) / len(part) for values in zip(*part)) for part in parts]  # type: ignore[misc]


# ---------------------------------------------------------------- what the explorer reads


def explorer_data(
    verdicts: Mapping[str, Sequence[Mapping[str, Any]]], schemas: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the explorer's data, cut to fit: texts and results that repeat are stored once and named by position.

    Where no cut of texts makes them fit, every second example is left out, and so on until they do.
    """
    while True:
        for sql_characters, result_characters in CUTS:
            data = _explorer_data(verdicts, schemas, sql_characters, result_characters)
            if len(script_json(data).encode("utf-8")) <= MOST_EXAMPLE_BYTES:
                return data
        if len(data["examples"]) <= 1:
            return data
        verdicts = {model: lines[::2] for model, lines in verdicts.items()}


def explorer_step(examples: int) -> int:
    """Return n where the explorer takes every n-th of so many examples: 1 takes all."""
    return max(1, math.ceil(examples / MOST_EXAMPLES))


def _explorer_data(
    verdicts: Mapping[str, Sequence[Mapping[str, Any]]],
    schemas: Mapping[str, Mapping[str, Any]],
    sql_characters: int,
    result_characters: int,
) -> dict[str, Any]:
    texts: dict[str, int] = {}
    results: dict[str, int] = {}

    def text_number(text: str) -> int:
        return texts.setdefault(text, len(texts))

    def result_number(result: Mapping[str, Any] | None) -> int | None:
        if result is None:
            return None
        return results.setdefault(json.dumps(shown_result(result, result_characters)), len(results))

    def answer(line: Mapping[str, Any]) -> dict[str, Any]:
        record = {
            "sql": text_number(line["sql"][:sql_characters]),
            "paper": line["execution_accuracy"],
            "official": line["official_execution_accuracy"],
            "outcome": line["outcome"],
            "error": line["error"] and line["error"][:sql_characters],
            "result": result_number(line["result"]),
        }
        if len(line["sql"]) > sql_characters:
            record["cut"] = len(line["sql"]) - sql_characters
        return record

    examples = [
        {
            "index": lines[0]["index"],
            "db_id": lines[0]["db_id"],
            "hardness": lines[0]["hardness"],
            "question": lines[0]["question"],
            "gold": text_number(lines[0]["gold"]),
            "gold_result": result_number(lines[0]["gold_result"]),
            "answers": [answer(line) for line in lines],
        }
        for lines in zip(*verdicts.values(), strict=True)
    ]
    used = {example["db_id"] for example in examples}
    return {
        "models": [{"name": model, "label": NAMES[model]} for model in verdicts],
        "hardness": HARDNESS,
        "causes": CAUSES,
        "schemas": {db_id: schema for db_id, schema in schemas.items() if db_id in used},
        "texts": list(texts),
        "results": [json.loads(result) for result in results],
        "examples": examples,
    }


def shown_result(result: Mapping[str, Any], characters: int) -> dict[str, Any]:
    """Return the first rows of a result as texts, at most about `characters` of them; None stays None (NULL)."""
    columns, rows = result["columns"], result["rows"]
    most_columns = max(1, characters // 20)
    width = max(12, characters // max(1, min(len(columns), most_columns) * (len(rows) + 1)))
    shown = {
        "columns": [_cut(name, width) for name in columns[:most_columns]],
        "rows": [[_cell(value, width) for value in row[:most_columns]] for row in rows],
        "row_count": result["row_count"],
    }
    if len(columns) > most_columns:
        shown["more_columns"] = len(columns) - most_columns
    return shown


def _cell(value: Any, width: int) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        # Quotes tell the text '40' from the number 40: the same look, and yet another result.
        quoted = not value or re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", value)
        return f"'{_cut(value, width)}'" if quoted else _cut(value, width)
    return json.dumps(value)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def script_json(value: Any) -> str:
    """Return `value` as JSON that may stand in a script element: no text can end that or open a comment in it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    text = text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")
    # Lone surrogates stay what they are only as escapes; U+2028 and U+2029 end a line of script.
    return re.sub("[\ud800-\udfff\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text)
