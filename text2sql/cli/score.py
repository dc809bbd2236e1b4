"""Score any system's predictions on Spider.

    text2sql score PREDICTIONS --spider PATH [--out verdicts.jsonl]

PREDICTIONS holds one query a line, aligned with the split (a tab and what follows it, such as a db_id, are ignored),
or one JSON object a line with the field `sql`. PATH is a folder or zip in Spider's official layout. Prints accuracies
by hardness and in all, causes of failure, and the queries that the sandbox stopped.
"""

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from tabulate import SEPARATING_LINE, tabulate
from tqdm import tqdm

from text2sql.core.errors import ArgumentParser
from text2sql.core.files import user_cache, write_jsonl
from text2sql.data.spider import SPLIT_FILES, open_spider
from text2sql.execution.executor import Limits
from text2sql.report.numbers import in_percent, percent, words
from text2sql.scoring.failures import CAUSE_GROUPS, CAUSES
from text2sql.scoring.predictions import read_predictions
from text2sql.scoring.verdicts import Verdict, score_examples, summarise


def main(arguments: Sequence[str]) -> None:
    """Score the predictions that `arguments` name, print the tables, write `--out`."""
    options = _parse(arguments)
    limits = Limits(**{limit.name: getattr(options, limit.name) for limit in fields(Limits)})
    with open_spider(options.spider) as source, tempfile.TemporaryDirectory(prefix="text2sql-") as folder:
        examples = source.examples(options.split)
        predictions = read_predictions(options.predictions, examples)

        def database_of(db_id: str) -> Path:
            path = Path(folder) / f"{db_id}.sqlite"
            source.extract_database(db_id, path)
            return path

        with tqdm(total=len(examples), unit="query", disable=None, leave=False) as progress:
            verdicts = score_examples(
                examples,
                predictions,
                database_of,
                limits,
                workers=options.workers,
                cache_dir=None if options.no_cache else user_cache() / "gold",
                keep_distinct=options.keep_distinct,
                on_verdict=progress.update,
            )
    if options.out:
        write_jsonl(options.out, map(_line, verdicts))
    print(report(verdicts, options.keep_distinct))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="text2sql score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("predictions", metavar="PREDICTIONS", type=Path, help="one query or JSON object a line")
    parser.add_argument("--spider", metavar="PATH", type=Path, required=True, help="folder or zip in Spider's layout")
    parser.add_argument("--split", choices=sorted(SPLIT_FILES), default="dev", help="default: dev")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write one JSON line an example there")
    parser.add_argument(
        "--keep-distinct", action="store_true", help="as the official script's --keep_distinct: compare DISTINCT too"
    )
    parser.add_argument(
        "--workers", type=_positive, metavar="N", help="processes that run queries; default: one a core"
    )
    parser.add_argument("--no-cache", action="store_true", help=f"do not keep gold results in {user_cache() / 'gold'}")
    for limit in fields(Limits):
        parser.add_argument(
            "--" + limit.name.replace("_", "-"),
            type=_positive,
            metavar="N",
            default=limit.default,
            help=f"{limit.metadata['help']} at most; default: {limit.default}",
        )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {text}, wanted a whole number of at least 1")
    return value


def _line(verdict: Verdict) -> dict:
    """Return a verdict as `--out` holds it: without the results, with the seconds, which differ from run to run."""
    return {name: value for name, value in asdict(verdict).items() if name not in ("gold_result", "result")}


def report(verdicts: Sequence[Verdict], keep_distinct: bool = False) -> str:
    """Return what the command prints: two tables, and the queries that the sandbox stopped."""
    metrics = summarise(verdicts)
    stopped = [verdict for verdict in verdicts if verdict.stopped]
    parts = [
        _accuracy_table(metrics),
        _cause_table(metrics),
        f"SQLite {metrics['sqlite_version']}; official definition with DISTINCT "
        + ("kept." if keep_distinct else "removed from both queries."),
    ]
    if stopped:
        parts.append(
            f"The sandbox stopped {len(stopped)} predictions, counted as wrong; the official script, which runs "
            "anything, may come to another verdict:\n"
            + "\n".join(_printable(f"{v.index}\t{v.db_id}\t{v.error}\t{v.sql:.200}") for v in stopped)
        )
    return "\n\n".join(parts)


def _accuracy_table(metrics: dict) -> str:
    levels = {**metrics["by_hardness"], "all": metrics}
    rows = [
        [
            level,
            entry["total"],
            *_accuracy_cells(entry, "execution_accuracy", entry["successes"]),
            *_accuracy_cells(entry, "official_execution_accuracy", entry["official_successes"]),
        ]
        for level, entry in levels.items()
    ]
    interval = "95 % interval"
    headers = ["hardness", "examples", "execution", "right", interval, "official", "right", interval]
    return _table(rows, headers)


def _accuracy_cells(entry: dict, name: str, right: int) -> list:
    share = percent(entry[name]) if entry["total"] else "-"
    return [share, right, f"{in_percent(entry[f'{name}_low'])} - {in_percent(entry[f'{name}_high'])}"]


def _cause_table(metrics: dict) -> str:
    """Return the counts of the causes that occur, then of all groups of causes, by hardness and in all."""
    columns = [*metrics["causes_by_hardness"].values(), metrics["causes"]]
    rows = [[words(cause), *(column[cause] for column in columns)] for cause in CAUSES if metrics["causes"][cause]]
    if rows:
        rows.append(SEPARATING_LINE)
    for group, causes in CAUSE_GROUPS.items():
        rows.append([words(group), *(sum(column[cause] for cause in causes) for column in columns)])
    return _table(rows, ["cause of failure", *metrics["causes_by_hardness"], "all"])


def _table(rows: Iterable[Sequence], headers: Sequence[str]) -> str:
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers, colalign=align, disable_numparse=True)


def _printable(text: str) -> str:
    """Return a text in one line, with nothing in it that a terminal would take for a command."""
    return "".join(character if character.isprintable() or character == "\t" else " " for character in text)
