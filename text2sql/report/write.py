"""Reports, plots' data and metrics/compare.json: written from one run, shown again, held against the limits."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from text2sql.comparison import flat
from text2sql.comparison.gate import Outcome, gate_outcome, trade_off, worst
from text2sql.core.errors import UserError
from text2sql.core.files import atomic_file, write_json, write_text
from text2sql.core.params import Params
from text2sql.report.exports import read_exports, sentence
from text2sql.report.markdown_text import bullets
from text2sql.report.sentences import gate_lines, sentences
from text2sql.report.stale import LOCK, stale_parts

FLAT = Path("metrics/compare.json")
PLOTS = Path("metrics/plots")
MARKDOWN = Path("reports/report.md")
HTML = Path("reports/report.html")


def write(params: Params) -> None:
    """Compare what the stages before left, and write metrics, plots' data and both reports; say the verdicts."""
    # Imported here: the gate needs none of the libraries that these bring.
    from text2sql.report.html import html
    from text2sql.report.markdown import markdown
    from text2sql.report.plots import accuracy_rows, category_rows
    from text2sql.report.run import read_run

    run = read_run(params)
    page, text = html(run), markdown(run)
    write_csv(PLOTS / "accuracy.csv", accuracy_rows(run.comparison))
    write_csv(PLOTS / "mmlu_by_category.csv", category_rows(run.comparison))
    write_text(MARKDOWN, text)
    write_text(HTML, page)
    write_json(FLAT, flat.flatten(run.comparison))
    print(bullets([*sentences(run.comparison.summary).values(), *run.notes, *gate_lines(run.trade_off, run.models)]))
    print(f"compare: wrote {FLAT}, {PLOTS}/, {MARKDOWN} and {HTML}")
    print("The tables: python -m stages.compare --show")


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write `rows`, which share their keys, whole or not at all."""
    with atomic_file(path) as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def show() -> None:
    """Print the report, and where everything lies."""
    try:
        print(MARKDOWN.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{MARKDOWN}: no such file; `dvc repro` writes it (`dvc pull` where a remote has it)") from None
    print(f"Metrics: {FLAT}, metrics/spider/, metrics/mmlu/, metrics/train/ (`dvc metrics show`)")
    print(f"Plots:   {PLOTS}/ (`dvc plots show`)")
    print(f"Reports: {MARKDOWN}, {HTML}")


def gate(params: Params) -> int:
    """Print each limit's verdict; return 1 where one is broken or the metrics are of another run, else 0.

    Needs neither numpy nor scipy. Changed code alone fails nothing.
    """
    models = params.model_table
    trade_offs = trade_off(flat.read_summary(FLAT, models), params.compare)
    stale = list(stale_parts(LOCK))
    exports = read_exports(params)
    verdicts = [gate_outcome(trade_offs), *(Outcome(found["verdict"]) for found in exports.values())]
    outcome = "stale" if stale else worst(verdicts)
    lines = [*gate_lines(trade_offs, models), *(sentence(name, found) for name, found in exports.items())]
    print("\n".join([*lines, *(f"stale: {part}" for part in stale), f"gate: {outcome}"]))
    return 1 if outcome in ("stale", Outcome.BROKEN) else 0
