"""Score any system's predictions on Spider.

    text2sql score PREDICTIONS --spider PATH [--out verdicts.jsonl]

PREDICTIONS holds one query a line, aligned with the split (a tab and what follows it, such as a db_id, are ignored),
one JSON object with the field `sql` or one JSON text a line, a JSON array of those, or BIRD's dictionary, compressed by
gzip or not; or it is a folder of .jsonl or .jsonl.gz files. PATH is a folder or zip in Spider's official layout, in
BIRD's, or of own data (docs/own-data.md). Prints accuracies by hardness and in all, what the same answer to every
question scores, causes of failure, and the queries that the sandbox stopped.

With --answer, the SQL is taken anew from the answers that the field `raw` keeps: docs/answers.md.
"""

import argparse
import operator
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

from tabulate import SEPARATING_LINE, tabulate
from tqdm import tqdm

from text2sql.core.arguments import share
from text2sql.core.errors import ArgumentParser, UserError
from text2sql.core.files import user_cache, write_jsonl
from text2sql.data.layouts import SPIDER
from text2sql.data.sources import open_source
from text2sql.data.spider import Example
from text2sql.execution.executor import Limits
from text2sql.prompts.answers import AnswerRule, extract_sql
from text2sql.report.numbers import in_percent, percent, words
from text2sql.report.sentences import floor_line, tie_line
from text2sql.scoring.failures import CAUSE_GROUPS, CAUSES
from text2sql.scoring.golds import FailingGold, Gold, floors
from text2sql.scoring.predictions import read_predictions
from text2sql.scoring.verdicts import Verdict, score_examples, summarise


def main(arguments: Sequence[str]) -> None:
    """Score the predictions that `arguments` name, print the tables, write `--out`."""
    options = _parse(arguments)
    files = _files(options.predictions)
    if options.out and len(files) > 1:
        raise UserError(f"--out: takes the verdicts of one file, {options.predictions} holds {len(files)}")
    with (
        open_source(options.spider, options.holdout) as source,
        tempfile.TemporaryDirectory(prefix="text2sql-") as folder,
    ):
        examples = source.examples(options.split)
        predictions = {file: _predictions(file, examples, options.answer) for file in files}

        def database_of(db_id: str) -> Path:
            path = Path(folder) / f"{db_id}.sqlite"
            if not path.is_file():
                for lacking in source.extract_database(db_id, path):
                    print(f"database {db_id}: needs its application's {lacking}, which SQLite lacks", file=sys.stderr)
            return path

        for file, (queries, notes) in predictions.items():
            golds: list[Gold] = []
            verdicts = _score(options, examples, queries, database_of, golds)
            if options.out:
                write_jsonl(options.out, map(_line, verdicts))
            if len(files) > 1:
                print(f"{file}\n")
            if options.failing_gold == "skip":
                notes = [*notes, *_left_out(golds)]
                golds = [gold for gold in golds if gold.error is None]
            print(report(verdicts, options.keep_distinct, [floor_line(floors(golds)), *notes]))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for ending in ("jsonl", "jsonl.gz") for file in path.glob(f"*.{ending}"))
    if not files:
        raise UserError(f"{path}: is a directory without .jsonl or .jsonl.gz files")
    return files


def _predictions(path: Path, examples: Sequence[Example], answer: AnswerRule | None) -> tuple[list[str], list[str]]:
    """Return the queries in a file, and what is to be said of them."""
    if answer is None:
        return read_predictions(path, examples), []
    queries = [extract_sql(raw, answer) for raw in read_predictions(path, examples, field="raw")]
    try:
        stored = read_predictions(path, examples)
    except UserError:
        return queries, []  # answers alone
    changed = sum(map(operator.ne, queries, stored))
    return queries, [f"The {answer} rule takes other SQL than the file's from {changed} of {len(queries)} answers."]


def _score(
    options: argparse.Namespace,
    examples: Sequence[Example],
    queries: Sequence[str],
    database_of: Callable[[str], Path],
    golds: list[Gold],
) -> list[Verdict]:
    """Return the verdicts, and put what the gold queries return into `golds`."""
    with tqdm(total=len(examples), unit="query", disable=None, leave=False) as progress:
        return score_examples(
            examples,
            queries,
            database_of,
            Limits(**{limit.name: getattr(options, limit.name) for limit in fields(Limits)}),
            workers=options.workers,
            cache_dir=None if options.no_cache else user_cache() / "gold",
            keep_distinct=options.keep_distinct,
            on_verdict=progress.update,
            failing_gold=options.failing_gold,
            on_golds=golds.extend,
        )


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="text2sql score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("predictions", metavar="PREDICTIONS", type=Path, help="a file of queries, or a folder of such")
    parser.add_argument(
        "--spider",
        metavar="PATH",
        type=Path,
        required=True,
        help="folder or zip in Spider's or BIRD's layout, or own data",
    )
    parser.add_argument("--holdout", metavar="SHARE", type=share, help="of own data without splits: data.holdout")
    parser.add_argument("--split", choices=sorted(SPIDER.splits), default="dev", help="default: dev")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write one JSON line an example there")
    parser.add_argument(
        "--keep-distinct", action="store_true", help="as the official script's --keep_distinct: compare DISTINCT too"
    )
    parser.add_argument(
        "--workers", type=_positive, metavar="N", help="processes that run queries; default: one a core"
    )
    parser.add_argument(
        "--answer",
        choices=get_args(AnswerRule),
        help="take the SQL from each line's kept answer, the field raw, by this rule",
    )
    parser.add_argument(
        "--failing-gold",
        choices=get_args(FailingGold),
        default="refuse",
        help="what becomes of examples whose gold query fails; default: refuse",
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


def _left_out(golds: Sequence[Gold]) -> list[str]:
    failed = [str(gold.index) for gold in golds if gold.error is not None]
    return [f"Left out, for their gold query fails: {len(failed)} ({', '.join(failed)})."] if failed else []


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
    further = ("other_golds", "bird_execution_accuracy", "difficulty")
    line = {name: value for name, value in asdict(verdict).items() if name not in ("gold_result", "result", *further)}
    return line | verdict.further()


def report(verdicts: Sequence[Verdict], keep_distinct: bool = False, notes: Sequence[str] = ()) -> str:
    """Return what the command prints: two tables, `notes` after the first, and the queries that the sandbox stopped."""
    metrics = summarise(verdicts)
    stopped = [verdict for verdict in verdicts if verdict.stopped]
    parts = [
        _accuracy_table("hardness", {**metrics["by_hardness"], "all": metrics}),
        *([_accuracy_table("difficulty", metrics["by_difficulty"])] if "by_difficulty" in metrics else []),
        *(f"{line}." for line in tie_line(metrics)),
        *notes,
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


def _accuracy_table(of_level: str, levels: Mapping[str, dict]) -> str:
    """Return accuracies by level, a column group a definition; BIRD's where there is one."""
    definitions = {"execution": ("execution_accuracy", "successes")}
    definitions["official"] = ("official_execution_accuracy", "official_successes")
    if any("bird_successes" in entry for entry in levels.values()):
        definitions["BIRD's"] = ("bird_execution_accuracy", "bird_successes")
    rows = [
        [
            level,
            entry["total"],
            *(cell for name, right in definitions.values() for cell in _accuracy_cells(entry, name, right)),
        ]
        for level, entry in levels.items()
    ]
    headers = [heading for definition in definitions for heading in (definition, "right", "95 % interval")]
    return _table(rows, [of_level, "examples", *headers])


def _accuracy_cells(entry: dict, name: str, right: str) -> list:
    if right not in entry:
        return ["-"] * 3  # no example has a verdict by this definition
    share = percent(entry[name]) if entry["total"] else "-"
    return [share, entry[right], f"{in_percent(entry[f'{name}_low'])} - {in_percent(entry[f'{name}_high'])}"]


def _cause_table(metrics: dict) -> str:
    """Return the counts of the causes that occur, then of all groups of causes, by hardness and in all."""
    columns = [*metrics["causes_by_hardness"].values(), metrics["causes"]]
    rows: list[Any] = [
        [words(cause), *(column[cause] for column in columns)] for cause in CAUSES if metrics["causes"][cause]
    ]
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
