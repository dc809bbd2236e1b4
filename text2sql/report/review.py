"""The comment on a pull request: what changed in params and metrics, and what that means, from committed files alone.

Compares the working tree with the commit at which it left a base, by `dvc params diff` and `dvc metrics diff`. Needs
neither a GPU nor any data: verdicts and the gate follow from metrics/compare.json and params.yaml. Of the metrics it
shows the gate's, and those that moved beyond the 95 % interval that they had before; all others are folded away.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from text2sql.comparison import flat
from text2sql.comparison.gate import gate_outcome, trade_off
from text2sql.core.errors import RunError, UserError
from text2sql.core.files import read_json, read_object
from text2sql.core.models import ModelTable
from text2sql.core.params import load_params
from text2sql.report.markdown_text import as_text, bullets, table
from text2sql.report.numbers import number
from text2sql.report.sentences import floor_lines, gate_lines, sentences, sqlite_lines
from text2sql.report.stale import LOCK, changed_code, stale_parts

MARKER = "<!-- text2sql review -->"  # by which the workflow finds its comment again
HEADLINE = "metrics/compare.json"
MOST_CHARACTERS = 60_000  # GitHub takes 65,536
MOST_PATHS = 6  # of changed code
MOST_MOVED = 40  # rows that are not folded, beside the gate's


class Row(NamedTuple):
    """One metric or param, before and now; None where it is not there."""

    path: str
    key: str
    old: Any
    new: Any


def comment(base: str) -> str:
    """Return the comment for the working tree in the current folder against `base`.

    Raises UserError where `base` is no commit here or metrics/compare.json is missing, RunError where DVC fails.
    """
    start, now = merge_base(base), load_params()
    models = now.model_table
    params = dvc_diff("params", start)
    metrics = dvc_diff("metrics", start, everything=True)
    summary = flat.read_summary(HEADLINE, models)
    trade_offs = trade_off(summary, now.compare)
    stale, code = list(stale_parts(LOCK)), changed_code(LOCK)
    sections = [
        MARKER,
        f"## Review against {base} ({start[:7]})",
        *(["**These metrics do not belong to this commit:**\n\n" + bullets(stale)] if stale else []),
        *([f"Code changed since the run (the weekly run judges that): {_few(code)}."] if code else []),
        "### Verdict",
        bullets([*sentences(summary).values(), *map(as_text, spider_notes(models))]),
        f"### Limits: {gate_outcome(trade_offs)}",
        bullets(gate_lines(trade_offs, models)),
        "### Params",
        _table(params, "Param") if params else "No param changed.",
        "### Metrics",
    ]
    room = MOST_CHARACTERS - sum(len(section) + 2 for section in sections)
    return "\n\n".join([*sections, *metrics_section(metrics, models, room)])


def spider_notes(models: ModelTable) -> list[str]:
    """Return what the models' metrics on Spider say of their figures, as the reports do."""
    spider = {model: read_object(f"metrics/spider/{model}.json", {"sqlite_version": str}) for model in models.names}
    return [*floor_lines(spider, models), *sqlite_lines(spider, models)]


def _few(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - MOST_PATHS} more" if len(paths) > MOST_PATHS else ""
    return ", ".join(f"`{path}`" for path in paths[:MOST_PATHS]) + more


def metrics_section(metrics: Sequence[Row], models: ModelTable, room: int) -> list[str]:
    """Return the gate's numbers that changed and what moved beyond its interval, then the others, folded away."""
    changed = [row for row in metrics if row.old != row.new]
    place = {key: place for place, key in enumerate(read_json(HEADLINE))}
    headline = sorted((row for row in changed if row.path == HEADLINE), key=lambda row: place.get(row.key, len(place)))
    of_gate = [row for row in headline if row.key in flat.limit_keys(models)]
    moved = [row for row in moved_beyond_interval(metrics) if row not in of_gate]
    shown = [*of_gate, *moved[:MOST_MOVED]]
    folded = [row for row in (*headline, *(row for row in changed if row.path != HEADLINE)) if row not in shown]
    if shown:
        cut = f" (the first {MOST_MOVED} of {len(moved)})" if len(moved) > MOST_MOVED else ""
        sections = [f"Those of the limits, and what moved beyond its 95 % interval{cut}:", _table(shown, "Metric")]
    elif headline:
        sections = ["No number of a limit changed, and none moved beyond its 95 % interval."]
    else:
        sections = [f"No number in {HEADLINE} changed."]
    if folded:
        sections.append(_details(folded, room - sum(len(section) + 2 for section in sections)))
    return sections


def moved_beyond_interval(metrics: Sequence[Row]) -> list[Row]:
    """Return the metrics that lie outside the 95 % interval that stood beside them before.

    One stands beside each accuracy (`accuracy_low`, `accuracy_high`) and beside the points of a pair. `metrics` holds
    those that did not change, too, since a bound may be among them.
    """
    before = {(row.path, row.key): row.old for row in metrics}
    moved = []
    for row in metrics:
        ends = flat.interval_keys(row.key) if row.path == HEADLINE else (f"{row.key}_low", f"{row.key}_high")
        values = (*(before.get((row.path, key)) for key in ends or ()), row.new)
        if len(values) == 3 and all(isinstance(value, (int, float)) for value in values):
            low, high, now = values
            if not low <= now <= high:
                moved.append(row)
    return moved


def merge_base(base: str) -> str:
    """Return the commit at which the work left `base`, so that later commits on `base` do not count as changes."""
    found = subprocess.run(["git", "merge-base", "--end-of-options", base, "HEAD"], capture_output=True, text=True)
    if found.returncode:
        reason = " ".join(found.stderr.split()) or "it shares no commit with HEAD"
        raise UserError(f"--base: found {base!r}, wanted a branch or commit of this repository ({reason})")
    return found.stdout.strip()


def dvc_diff(what: str, revision: str, everything: bool = False) -> list[Row]:
    """Return what `dvc params diff` or `dvc metrics diff` finds changed; with `everything`, what did not change too."""
    # JSON, since the tables that DVC prints are rounded.
    command = [sys.executable, "-m", "dvc", what, "diff", "--json", *(["--all"] if everything else []), revision]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RunError(f"`{' '.join(command[1:])}` failed: {' '.join(done.stderr.split())}")
    return [
        Row(path, key, value.get("old"), value.get("new"))
        for path, keys in sorted(json.loads(done.stdout or "{}").items())
        for key, value in sorted(keys.items())
    ]


def _table(rows: Sequence[Row], what: str) -> str:
    return table([what, "Before", "Now", "Change"], [[_name(row), *_values(row.old, row.new)] for row in rows])


def _name(row: Row) -> str:
    file = "" if row.path in (HEADLINE, "params.yaml") else f"{row.path.removeprefix('metrics/')} "
    return f"{file}`{row.key}`"


def _details(rows: Sequence[tuple[str, str, Any, Any]], room: int) -> str:
    """Return the other metrics, folded away, as many as a comment has room for."""
    shown = list(rows)
    while True:
        cells = [[path.removeprefix("metrics/"), f"`{key}`", *_values(old, new)] for path, key, old, new in shown]
        text = table(["File", "Metric", "Before", "Now", "Change"], cells)
        if len(text) < room - 300 or not shown:
            break
        shown = shown[: len(shown) * 3 // 4]
    left_out = len(rows) - len(shown)
    more = f"\n\n{left_out} more do not fit here: `dvc metrics diff` shows them." if left_out else ""
    return f"<details><summary>{len(rows)} other metrics changed</summary>\n\n{text}{more}\n\n</details>"


def _values(old: Any, new: Any) -> tuple[str, str, str]:
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (old, new))
    change = f"{new - old:+.6g}" if numbers else ""
    before, now = ("-" if value is None else number(value) for value in (old, new))
    return before, now, change
