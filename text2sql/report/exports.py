"""What the exports of a run lost, for the reports: a sentence each, and a table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from text2sql.core.files import read_object
from text2sql.core.params import Params
from text2sql.core.paths import EXPORTS
from text2sql.report.markdown_text import DASH, table
from text2sql.report.numbers import interval, p_equation, p_value, percent, points

METRICS = {
    "model": str, "format": str, "weights": str, "engine": str, "questions": int, "identical_answers": float,
    "megabytes": float, "spider": dict, "verdict": str, "distinguishable": str, "flipped": list, "limit_pts": float,
}  # fmt: skip


def read_exports(params: Params, folder: Path = EXPORTS) -> dict[str, dict[str, Any]]:
    """Return {name: the content of metrics/export/<name>.json} of the exports that `params` list, where it is there.

    Those of an earlier list may still lie in the folder.
    """
    files = {name: folder / f"{name}.json" for name in params.export}
    return {name: read_object(path, METRICS) for name, path in files.items() if path.is_file()}


def sentence(name: str, found: Mapping[str, Any]) -> str:
    """Return the verdict in a sentence: `m1_q8, m1 as gguf q8_0 by llama.cpp: -0.30 points …, not distinguishable`."""
    return (
        f"{name}, {found['model']} as {found['format']} {found['weights']} by {found['engine']}: "
        f"{loss_in_words(found['spider'])}, {found['distinguishable']}; at most {found['limit_pts']:g} may be lost: "
        f"{found['verdict']}"
    )


def loss_in_words(loss: Mapping[str, Any]) -> str:
    """Return the change in points with its interval and p; what is lost has a minus."""
    bounds = interval(points(0.0 - loss["loss_pts_high"]), points(0.0 - loss["loss_pts_low"]))
    return f"{points(0.0 - loss['loss_pts'])} points (95 % interval {bounds}, {p_equation(loss['p'])})"


def exports_table(exports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the report's section of exports, where there are any."""
    if not exports:
        return []
    rows = []
    for name, found in exports.items():
        spider, mmlu = found["spider"], found.get("mmlu")
        bounds = interval(points(0.0 - spider["loss_pts_high"]), points(0.0 - spider["loss_pts_low"]))
        rows.append(
            [
                name,
                f"{found['model']}, {found['format']} {found['weights']}",
                found["engine"],
                found["questions"],
                percent(found["identical_answers"]),
                percent(spider["accuracy"]),
                percent(spider["accuracy_against"]),
                f"{points(0.0 - spider['loss_pts'])} ({bounds})",
                p_value(spider["p"]),
                points(0.0 - mmlu["loss_pts"]) if mmlu else DASH,
                found["megabytes"],
                found["verdict"],
            ]
        )
    headings = ["Export", "Of", "Asked by", "Questions", "Identical answers", "Execution accuracy", "As evaluated"]
    headings += ["Points", "p", "Points on MMLU", "MB", "Verdict"]
    lines = [
        f"{name}: flipped are the questions {', '.join(map(str, found['flipped']))}."
        for name, found in exports.items()
        if found["flipped"]
    ]
    return ["## Exports, against what was evaluated", table(headings, rows), *lines]
