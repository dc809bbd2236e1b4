"""Score any system's predictions on Spider.

    python -m text2sql.cli.score PREDICTIONS --spider PATH [--out verdicts.jsonl]

PREDICTIONS holds one query a line, aligned with the split (a tab and what follows it, such as a db_id, are ignored),
or one JSON object a line with the field `sql`. PATH is a folder or zip in Spider's official layout. Prints accuracies
by hardness and in all, causes of failure, and the queries that the sandbox stopped.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from tabulate import SEPARATING_LINE, tabulate
from tqdm import tqdm

from text2sql.core.errors import ArgumentParser, UserError, run
from text2sql.core.files import read_jsonl, user_cache, write_jsonl
from text2sql.data.spider import SPLIT_FILES, Example, open_spider
from text2sql.execution.executor import Limits
from text2sql.report.numbers import in_percent, percent, words
from text2sql.scoring.failures import CAUSE_GROUPS, CAUSES
from text2sql.scoring.verdicts import Verdict, score_examples, summarise

LIMITS_HELP = {
    "max_steps": "SQLite virtual-machine steps of one query",
    "timeout_s": "seconds of the processor's time for one query",
    "max_rows": "rows of one result",
    "max_megabytes": "megabytes of one result",
}


def main(arguments: Sequence[str]) -> None:
    """Score the predictions that `arguments` name, print the tables, write `--out`."""
    options = _parse(arguments)
    limits = Limits(**{name: getattr(options, name) for name in LIMITS_HELP})
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
        prog="text2sql-score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
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
    for field in fields(Limits):
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            type=_positive,
            metavar="N",
            default=field.default,
            help=f"{LIMITS_HELP[field.name]} at most; default: {field.default}",
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


def read_predictions(path: Path, examples: Sequence[Example]) -> list[str]:
    """Return the predicted SQL in `path`, one text an example, without space around it.

    A line is JSON where the first one is a JSON object. Raises UserError where the file cannot be read, has another
    number of lines than there are examples, or says itself that a line belongs to another example.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8: {error}") from None
    if _is_json_object(next(filter(str.strip, lines), "")):
        predictions = _predictions_of_records(path, read_jsonl(path), examples)
    else:
        if not lines[-1]:
            lines.pop()  # what follows the last line's end
        predictions = [line.strip().split("\t")[0] for line in lines]
        while len(predictions) > len(examples) and not predictions[-1]:
            predictions.pop()
    if len(predictions) != len(examples):
        raise UserError(
            f"{path}: found {len(predictions)} predictions, wanted {len(examples)}, one a line for each example"
        )
    return predictions


def _is_json_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _predictions_of_records(path: Path, records: list[dict], examples: Sequence[Example]) -> list[str]:
    for number, record in enumerate(records, start=1):
        if not isinstance(record.get("sql"), str):
            raise UserError(f"{path}, line {number}: found no text as 'sql', wanted the predicted query")
    for number, (record, example) in enumerate(zip(records, examples), start=1):
        for field in ("index", "db_id"):
            if field in record and record[field] != getattr(example, field):
                raise UserError(
                    f"{path}, line {number}: found {field} {record[field]!r:.60}, wanted "
                    f"{getattr(example, field)!r}: lines have to come in the split's order"
                )
    return [record["sql"].strip() for record in records]


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


def command() -> None:
    """Run as the console script `text2sql-score`."""
    run(main)


if __name__ == "__main__":
    command()
