"""The comment on a pull request: what changed in params and metrics, and what that means, from committed files alone.

    python -m text2sql.report.review --base main        print it (`make review BASE=main`)

Compares the working tree with the commit at which it left `--base`, by `dvc params diff` and `dvc metrics diff`. Needs
neither a GPU nor any data: verdicts and the gate follow from metrics/compare.json and params.yaml. Exits 0 wherever it
could write the comment; `python -m stages.compare --gate` is what fails.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from text2sql.comparison import compare as comparison
from text2sql.core.errors import ArgumentParser, RunError, UserError, run
from text2sql.core.files import read_yaml
from text2sql.core.params import load_params
from text2sql.report import lock
from text2sql.report.markdown import bullets, number, table

MARKER = "<!-- text2sql review -->"  # by which the workflow finds its comment again
HEADLINE = "metrics/compare.json"
MOST_CHARACTERS = 60_000  # GitHub takes 65,536


def main(arguments: Sequence[str]) -> None:
    """Print the comment as Markdown."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="the branch or commit to compare with, such as main")
    print(comment(parser.parse_args(arguments).base))


def comment(base: str) -> str:
    """Return the comment for the working tree in the current folder against `base`.

    Raises UserError where `base` is no commit here or metrics/compare.json is missing, RunError where DVC fails.
    """
    start = merge_base(base)
    params = dvc_diff("params", start)
    metrics = dvc_diff("metrics", start)
    flat = comparison.read_flat(HEADLINE)
    trade_offs = comparison.trade_off(flat, load_params().compare)
    stale = list(stale_parts(Path("dvc.lock")))
    order = list(flat)
    headline = sorted(
        (row for row in metrics if row[0] == HEADLINE),
        key=lambda row: order.index(row[1]) if row[1] in flat else len(order),
    )
    others = [row for row in metrics if row[0] != HEADLINE]
    sections = [
        MARKER,
        f"## Review against {base} ({start[:7]})",
        *(["**These metrics do not belong to this commit:**\n\n" + bullets(stale)] if stale else []),
        "### Verdict",
        bullets(comparison.sentences(flat).values()),
        f"### Limits: {comparison.gate_outcome(trade_offs)}",
        bullets(comparison.gate_lines(trade_offs)),
        "### Params",
        _table(params, "Param") if params else "No param changed.",
        "### Metrics",
        _table(headline, "Metric") if headline else f"No number in {HEADLINE} changed.",
    ]
    if others:
        room = MOST_CHARACTERS - sum(len(section) + 2 for section in sections)
        sections.append(_details(others, room))
    return "\n\n".join(sections)


def merge_base(base: str) -> str:
    """Return the commit at which the work left `base`, so that later commits on `base` do not count as changes."""
    found = subprocess.run(["git", "merge-base", "--end-of-options", base, "HEAD"], capture_output=True, text=True)
    if found.returncode:
        reason = " ".join(found.stderr.split()) or "it shares no commit with HEAD"
        raise UserError(f"--base: found {base!r}, wanted a branch or commit of this repository ({reason})")
    return found.stdout.strip()


def dvc_diff(what: str, revision: str) -> list[tuple[str, str, Any, Any]]:
    """Return what `dvc params diff` or `dvc metrics diff` finds changed: rows of file, key, old and new value."""
    # JSON, since the tables that DVC prints are rounded.
    command = [sys.executable, "-m", "dvc", what, "diff", "--json", revision]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RunError(f"`{' '.join(command[1:])}` failed: {' '.join(done.stderr.split())}")
    return [
        (path, key, value.get("old"), value.get("new"))
        for path, keys in sorted(json.loads(done.stdout or "{}").items())
        for key, value in sorted(keys.items())
    ]


def stale_parts(lock_file: Path) -> Iterator[str]:
    """Say each stage whose recorded params are not those of params.yaml, and each metrics file edited since its run.

    A commit that changes params but not the results would otherwise be judged by the old run's metrics.
    """
    if not lock_file.is_file():
        return
    stages = lock.read_stages(lock_file)
    for stage, changed in lock.changed_params(stages, read_yaml("params.yaml")):
        yield f"stage {stage} last ran with another {', '.join(changed)}; `dvc repro` runs it again"
    for name, (stage, checksum) in lock.written(stages).items():
        path = Path(name)
        # What git holds; DVC's own outs are not here.
        if path.parts[0] == "metrics" and path.exists() and lock.md5(path) != checksum:
            yield f"{path} is not what stage {stage} wrote; `dvc repro` writes it again"


def _table(rows: Sequence[tuple[str, str, Any, Any]], what: str) -> str:
    return table([what, "Before", "Now", "Change"], [[f"`{key}`", *_values(old, new)] for _, key, old, new in rows])


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
    return *("-" if value is None else number(value) for value in (old, new)), change


if __name__ == "__main__":
    run(main)
