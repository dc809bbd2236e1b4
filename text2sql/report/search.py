"""A search as a table: `search.md`, made from `search.json` alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from text2sql.comparison.result import EXECUTION, OFFICIAL
from text2sql.report.markdown_text import DASH, as_text, bullets
from text2sql.report.numbers import count, in_percent, interval, minutes, number


def search_table(search: Mapping[str, Any]) -> str:
    """Return the trials as a Markdown table, a row each in the order in which they ran, and how to read it."""
    headings = ["Trial", *search["varied"], "Right", "95 %", "Official", "Loss", "Minutes", "GB"]
    rows = [_row(trial, search) for trial in search["trials"]]
    failed = [trial for trial in search["trials"] if trial["failed"]]
    lines = [
        f"Right: percent of {count(search['questions'])} questions on {search['databases']} training databases that no "
        f"trial was trained on, by execution; Official: by the official evaluator's method. The dev split is not read.",
        "Minutes and GB: of training.",
        *([f"Best: trial {search['best']}."] if search["best"] is not None else []),
        *(f"Trial {trial['number']} failed: {as_text(trial['failed'])}" for trial in failed),
    ]
    return f"# Search {search['name']}\n\n{_table([headings, ['---'] * len(headings), *rows])}\n\n{bullets(lines)}\n"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a Markdown table, without tabulate: machines with GPUs have what trains, and little else."""
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)


def _row(trial: Mapping[str, Any], search: Mapping[str, Any]) -> list[str]:
    changes = [_shown(trial["changes"].get(name, DASH)) for name in search["varied"]]
    name = f"**{trial['number']}**" if trial["number"] == search["best"] else str(trial["number"])
    if trial["failed"]:
        return [name, *changes, "failed", *[DASH] * 5]
    spider = trial["spider"]
    low, high = (in_percent(spider[f"{EXECUTION}_{end}"]) for end in ("low", "high"))
    return [
        name,
        *changes,
        in_percent(spider[EXECUTION]),
        interval(low, high),
        in_percent(spider[OFFICIAL]),
        f"{trial['final_loss']:.4f}",
        minutes(trial["seconds"]["train"]),
        f"{trial['peak_memory_gb']['train']:.1f}",
    ]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else number(value)
