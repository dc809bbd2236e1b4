"""A trade-off curve's table and figure, made of its `curve.json` alone; `text2sql tradeoff --draw NAME` makes them.

`curve_table` and `curve_figure.figure` are what README and the report show of a curve.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from text2sql.comparison.result import ACCURACY, CHAT, EXECUTION, OFFICIAL, ROTATED
from text2sql.core.files import read_object, write_text
from text2sql.report.along_figure import along_figure, along_of
from text2sql.report.curve_figure import figure, questions_of
from text2sql.report.markdown_text import DASH, bullets, table
from text2sql.report.numbers import (
    count,
    gigabytes,
    in_percent,
    interval,
    minutes,
    number,
    p_equation,
    p_value,
    points,
)
from text2sql.report.result_sets import RESULTS
from text2sql.report.samples_figure import samples_figure
from text2sql.scoring.mmlu_chat import KINDS

CURVES = RESULTS / "tradeoff"
JSON, FIGURE, TABLE, SAMPLES, ALONG = "curve.json", "curve.svg", "curve.md", "samples.svg", "along.svg"
FIELDS = {
    "name": str, "recipe": str, "base": dict, "questions": dict, "gate": dict, "points": list, "missing": list,
    "made_of": dict,
}  # fmt: skip


def draw(path: Path) -> Path:
    """Write figure and table beside the curve.json at `path`; return the folder. Raises UserError if it is wrong."""
    curve = read_curve(path)
    write_text(path.with_name(FIGURE), figure(curve))
    if (samples := samples_figure(curve)) is not None:
        write_text(path.with_name(SAMPLES), samples)
    if (along := along_figure(curve)) is not None:
        write_text(path.with_name(ALONG), along)
    write_text(path.with_name(TABLE), f"# Trade-off curve {curve['name']}\n\n{curve_table(curve)}\n")
    return path.parent


def read_curve(path: Path) -> dict[str, Any]:
    """Return the content of a curve.json. Raises UserError where it is missing or holds something else."""
    return read_object(path, FIELDS)


def curves_of(base: Mapping[str, Any], folder: Path = CURVES) -> list[dict[str, Any]]:
    """Return the curves below `folder` that specialise `base`, named as a timing names it, by their names.

    A curve that trains nothing, such as a base asked in several ways, is none, nor is one of steps, each after another.
    """
    found = [read_curve(path) for path in sorted(folder.glob(f"*/{JSON}"))]
    return [
        curve
        for curve in found
        if curve["base"] == base
        and any(point["kind"] != "base" for point in curve["points"])
        and not any("after" in point for point in curve["points"])
    ]


def curve_table(curve: Mapping[str, Any]) -> str:
    """Return the points as a Markdown table, a row each, and what has to be known to read it."""
    headings = [
        "Point", "Changes", questions_of(curve), "Official", "Gain", "MMLU", "Change", "Seeds", "A / B / C / D",
        "As Base", "Minutes", "GB", "Front",
    ]  # fmt: skip
    parts = [table(headings, map(_row, curve["points"])), bullets(_notes(curve))]
    asked = [point for point in curve["points"] if {"rotated", "chat"} & set(point["runs"][0])]
    if asked:
        parts += ["## How it answers", table(ANSWERING, map(_answering, asked)), bullets(_answering_notes(asked))]
    if along_of(curve):
        parts += ["## Over training", table(ALONG_TRAINING, _along(curve)), bullets(_along_notes(curve))]
    return "\n\n".join(parts)


ALONG_TRAINING = ["Point", "Begins As", "Examples", "Percent of Training", "Official"]


def _along(curve: Mapping[str, Any]) -> list[list[str]]:
    """Return a row a place of each point that was asked along its training, the start first where it is known."""
    rows = []
    for point, line in along_of(curve):
        places = point["runs"][0]["along"]
        seen = [0] * (len(line) - len(places)) + [place["examples"] for place in places]
        names = [point["name"], point.get("along_from") or DASH]
        for (share, accuracy), examples in zip(line, seen, strict=True):
            rows.append([*names, count(examples), f"{share:.0f}", f"{accuracy:.1f}"])
            names = ["", ""]
    return rows


def _along_notes(curve: Mapping[str, Any]) -> list[str]:
    return [
        f"Official execution accuracy in percent on {questions_of(curve)}, asked greedily of the adapter as it was "
        f"after that share of its steps (first seeds): the lines of `{ALONG}`. The last is the point itself.",
    ]


ANSWERING = ["Point", "MMLU", "In All Orders", "Change", "Same in All", "In Chat", "Change", "Letter / SQL / Other"]


def _answering(point: Mapping[str, Any]) -> list[str]:
    """Return a point's row of what accuracy by log-likelihood does not show."""
    run = point["runs"][0]
    rotated, chat, against = run.get("rotated"), run.get("chat"), run["against_base"]
    is_base = point["kind"] == "base" and not point["changes"]
    return [
        point["name"],
        in_percent(run["mmlu"][ACCURACY]),
        in_percent(rotated["accuracy"]) if rotated else DASH,
        DASH if is_base or ROTATED not in against else _difference(against[ROTATED]),
        in_percent(rotated["same_choice"], 1) if rotated else DASH,
        in_percent(chat["accuracy"]) if chat else DASH,
        DASH if is_base or CHAT not in against else _difference(against[CHAT]),
        " / ".join(in_percent(chat[f"{kind}_share"], 1) for kind in KINDS) if chat else DASH,
    ]


def _answering_notes(asked: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "MMLU: percent of choices by log-likelihood that are right. In All Orders: the same over the four cyclic "
        "orders of each question's options, where a liking for a letter earns nothing (25 percent by chance). Same in "
        "All: percent of questions to which one choice was the answer in all four."
    ]
    chats = [point["runs"][0]["chat"] for point in asked if "chat" in point["runs"][0]]
    if chats:
        total, drawn_from = chats[0]["total"], chats[0].get("drawn_from")
        drawn = f", drawn at random from {count(drawn_from)}" if drawn_from else ""
        cut = ", ".join(
            f"{point['name']} {count(point['runs'][0]['chat']['at_token_limit'])}"
            for point in asked
            if "chat" in point["runs"][0]
        )
        lines += [
            f"In Chat: percent right of {count(total)} questions{drawn}, asked in the chat template without examples. "
            "Letter / SQL / Other: percent of answers that name one option, are a query that SQLite parses, or "
            "neither; the last two are wrong (docs/mmlu.md).",
            f"Answers in chat that ran to {chats[0]['max_new_tokens']} tokens: {cut}.",
        ]
    lines.append(
        "Changes: points against the base, with a 95 % interval, p and Holm's adjustment among the points of this "
        "table; over all orders by clusters of one question."
    )
    return lines


def _row(point: Mapping[str, Any]) -> list[str]:
    run = point["runs"][0]
    is_base = point["kind"] == "base" and not point["changes"]
    return [
        point["name"],
        ", ".join(f"{key} {number(value)}" for key, value in point["changes"].items()) or DASH,
        in_percent(run["spider"][EXECUTION]),
        in_percent(run["spider"][OFFICIAL]),
        DASH if is_base else _difference(run["against_base"][EXECUTION]),
        in_percent(run["mmlu"][ACCURACY]),
        DASH if is_base else _difference(run["against_base"][ACCURACY]),
        _seeds(point["runs"]),
        " / ".join(in_percent(share, 0) for share in run["letters"].values()),
        in_percent(run["base_choices_kept"], 1),
        _minutes(run["seconds"]),
        gigabytes(max(run["peak_memory_gb"].values())),
        "yes" if point["pareto"] else "",
    ]


# A run's tasks that give the answers to training questions it learns from: the models of folds trained, answers drawn
# and judged.
DRAWING = ("train_folds", "draw", "judge")


def drawing(seconds: Mapping[str, float]) -> float:
    """Return how long a run's answers to training questions took; 0 where it learns from none."""
    return sum(seconds.get(task, 0) for task in DRAWING)


def verifying(seconds: Mapping[str, float]) -> float:
    """Return how long a run's verifier took to train, with the answers that it learnt from, and to judge."""
    return sum(value for task, value in seconds.items() if _of_verifier(task))


def _of_verifier(task: str) -> bool:
    return task == "verify" or task.startswith("verifier_")


def _minutes(seconds: Mapping[str, float]) -> str:
    """Return a run's minutes, task by task; those of its training with the answers that it learnt from."""
    parts = {
        task: minutes(value, 1)
        for task, value in seconds.items()
        if task not in (*DRAWING, "along") and not _of_verifier(task)
    }
    if drawing(seconds):
        parts["train"] += f" + {minutes(drawing(seconds), 1)} drawing"
    if verifying(seconds):
        parts["verify"] = f"{minutes(verifying(seconds), 1)} verifier"
    return " + ".join(parts.values())


def _difference(found: Mapping[str, Any]) -> str:
    bounds = interval(points(found["low_pts"]), points(found["high_pts"]))
    return (
        f"{points(found['difference_pts'])} ({bounds}), {p_equation(found['p'])}, adjusted {p_value(found['p_holm'])}"
    )


def _seeds(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return how many seeds there are, with the least and the greatest gain and change where there are several."""
    if runs[0]["seed"] is None:
        return DASH
    if len(runs) == 1:
        return "1"
    spreads = []
    for measure in (EXECUTION, ACCURACY):
        values = [run["against_base"][measure]["difference_pts"] for run in runs]
        spreads.append(interval(points(min(values)), points(max(values))))
    return f"{len(runs)}: {'; '.join(spreads)}"


def _notes(curve: Mapping[str, Any]) -> list[str]:
    asked, gate, on = curve["questions"], curve["gate"], questions_of(curve)
    lines = [
        f"Base {curve['base']['name']}, recipe {curve['recipe']}, {curve['dtype']} on {curve['device']}; "
        f"{count(asked['spider'])} questions of {on}, {count(asked['mmlu'])} of MMLU, the same for all points.",
        f"{on}, Official, MMLU: accuracy in percent. Gain and Change: points against the first point, the base, with "
        "a paired bootstrap 95 % interval, the exact McNemar p, and that p adjusted by Holm's method for all points, "
        f"both of {on}'s accuracies and MMLU's. Where a point has several seeds, the first is shown.",
        f"Seeds: how many, and the least and the greatest gain on {on} and change on MMLU among them.",
        "A / B / C / D: percent of MMLU's questions that got each letter. As Base: percent of its choices that are the "
        "base's own.",
        f"Minutes: of training (none for the base; that of the adapter for a strength), {on}'s answers, MMLU's (in "
        "all orders for a point that was asked them) and those in chat; where a run was killed, of what it had left to "
        "answer; where several processes shared a GPU, with the others beside it. GB: the greatest peak of memory "
        "among them.",
        f"Front: no other point gains more on {on} without losing more on MMLU, by the estimates alone. The gate "
        f"wants a gain of at least {gate['min_spider_gain_pts']:g} and a loss of at most "
        f"{gate['max_mmlu_loss_pts']:g} points.",
    ]
    if any(drawing(run["seconds"]) for point in curve["points"] for run in point["runs"]):
        lines.append(
            "Drawing: of answers to training questions, drawn and judged, from which a point learns, and of the models "
            "of folds that answer; several points may share them."
        )
    if any(verifying(run["seconds"]) for point in curve["points"] for run in point["runs"]):
        lines.append(
            "Verifier: its training, with the answers that it learnt from, which several points may share, and judging "
            "the samples."
        )
    if curve["missing"]:
        lines.append(f"Not run yet: {', '.join(curve['missing'])}.")
    return lines
