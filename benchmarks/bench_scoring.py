"""Scoring Spider predictions: this project against the official evaluator's method.

    python -m benchmarks.bench_scoring [PREDICTIONS --spider PATH] [--official FOLDER] [--repeats N] [--workers N]

The method: for each prediction a new connection, gold run anew, then the prediction, in one process, and results
compared under every order of the columns that their values allow. It is written anew here, or, with `--official`, is
the real `exec_eval.py` in a checkout of taoyds/test-suite-sql-eval (its interpreter needs sqlparse and tqdm: name one
with `--official-python`). Both sides score the same predictions in turns; times are medians, without start-up of the
interpreter and without reading files, and the verdicts have to agree. Without arguments: the project's own sample, its
gold queries written otherwise and some exchanged.
"""

import argparse
import itertools
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from text2sql.errors import RunError, UserError, run
from text2sql.execution import Limits
from text2sql.official import gold_as_executed, order_matters, prediction_as_executed
from text2sql.score import read_predictions
from text2sql.scoring import Verdict, score_examples
from text2sql.spider import Example, open_spider

SAMPLE = Path(__file__).parent.parent / "data" / "sample" / "spider"

OFFICIAL_DRIVER = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from exec_eval import eval_exec_match
started = time.perf_counter()
verdicts = [
    bool(eval_exec_match(database, prediction.replace("value", "1"), gold, False, False, False))
    for database, gold, prediction in json.load(sys.stdin)
]
json.dump([time.perf_counter() - started, verdicts], sys.stdout)
"""


def main(arguments: Sequence[str]) -> None:
    """Measure, and print the medians and their ratio. Raises RunError where the verdicts differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", nargs="?", metavar="PREDICTIONS", type=Path)
    parser.add_argument("--spider", type=Path, default=SAMPLE, metavar="PATH")
    parser.add_argument("--official", type=Path, metavar="FOLDER")
    parser.add_argument("--official-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--workers", type=int, metavar="N")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        databases = Path(folder) / "databases"
        with open_spider(options.spider) as source:
            examples = source.examples("dev")
            for db_id in {example.db_id for example in examples}:
                source.extract_database(db_id, _database(databases, db_id))
        if options.predictions:
            predictions = read_predictions(options.predictions, examples)
        else:
            predictions = _own_predictions(examples)
        _measure(options, examples, predictions, databases, Path(folder))


def _database(databases: Path, db_id: str) -> Path:
    return databases / db_id / f"{db_id}.sqlite"


def _own_predictions(examples: Sequence[Example]) -> list[str]:
    """Return what a good system might answer: right but written otherwise, and each fifth time another query."""
    queries = [example.query for example in examples]
    return [
        queries[index - 1] if index % 5 == 4 else f"SELECT * FROM ({query.rstrip('; ')}) AS answer"
        for index, query in enumerate(queries)
    ]


def _measure(
    options: argparse.Namespace, examples: list[Example], predictions: list[str], databases: Path, folder: Path
) -> None:
    cache = folder / "gold"
    peer = "the official script" if options.official else "the official method"
    times: dict[str, list[float]] = {peer: [], "this project": [], "this project, gold results kept": []}
    for repeat in range(options.repeats):
        seconds, expected = _official(options, examples, predictions, databases)
        times[peer].append(seconds)
        for name, cache_dir in (("this project", folder / f"gold-{repeat}"), (list(times)[2], cache)):
            if repeat == 0 and cache_dir == cache:
                _ours(options, examples, predictions, databases, cache)
            started = time.perf_counter()
            verdicts = _ours(options, examples, predictions, databases, cache_dir)
            times[name].append(time.perf_counter() - started)
            _check(verdicts, expected)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{len(examples)} predictions, {sum(expected)} right, median of {options.repeats} repeats")
    for name, median in medians.items():
        each = ", ".join(f"{value:.2f}" for value in times[name])
        print(f"  {name + ':':34}{median:8.2f} s   x {medians[peer] / median:5.1f}   ({each})")
    stopped = sum(verdict.stopped for verdict in verdicts)
    print(f"Verdicts agree, but for those of {stopped} queries that the sandbox stopped, which are not compared.")


def _ours(
    options: argparse.Namespace, examples: list[Example], predictions: list[str], databases: Path, cache: Path
) -> list[Verdict]:
    return score_examples(
        examples, predictions, lambda db_id: _database(databases, db_id), Limits(), options.workers, cache
    )


def _check(verdicts: list[Verdict], expected: list[bool]) -> None:
    for verdict, right in zip(verdicts, expected, strict=True):
        if verdict.official_execution_accuracy is not right and not verdict.stopped:
            raise RunError(f"example {verdict.index}: verdicts differ, {right} officially: {verdict.sql:.300}")


def _official(
    options: argparse.Namespace, examples: list[Example], predictions: list[str], databases: Path
) -> tuple[float, list[bool]]:
    """Return the seconds that the official evaluator takes, and its verdicts."""
    pairs = [
        (str(_database(databases, example.db_id)), example.query, prediction)
        for example, prediction in zip(examples, predictions)
    ]
    if not options.official:
        started = time.perf_counter()
        verdicts = [_verdict_by_official_method(*pair) for pair in pairs]
        return time.perf_counter() - started, verdicts
    command = [options.official_python, "-W", "ignore", "-c", OFFICIAL_DRIVER, str(options.official)]
    try:
        done = subprocess.run(command, input=json.dumps(pairs), capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"--official-python {options.official_python}: {error.strerror}") from None
    if done.returncode:
        raise RunError(f"the official script fails: {done.stderr.strip().splitlines()[-1]}")
    seconds, verdicts = json.loads(done.stdout.splitlines()[-1])
    return seconds, verdicts


def _verdict_by_official_method(database: str, gold: str, prediction: str) -> bool:
    gold_rows = _rows(database, gold_as_executed(gold))
    try:
        rows = _rows(database, prediction_as_executed(prediction))
    except (sqlite3.Error, sqlite3.Warning, ValueError):
        return False
    return _equal_under_some_order(gold_rows, rows, order_matters(gold))


def _rows(database: str, sql: str) -> list[tuple]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        connection.text_factory = lambda text: text.decode(errors="ignore")
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def _equal_under_some_order(gold: list[tuple], rows: list[tuple], ordered: bool) -> bool:
    if not gold and not rows:
        return True
    if len(gold) != len(rows) or len(gold[0]) != len(rows[0]):
        return False
    by_text = [[tuple(sorted(row, key=lambda cell: f"{cell}{type(cell)}")) for row in side] for side in (gold, rows)]
    if by_text[0] != by_text[1] if ordered else set(by_text[0]) != set(by_text[1]):
        return False
    values = [set(column) for column in zip(*gold)]
    candidates = [[index for index, column in enumerate(zip(*rows)) if value.issuperset(column)] for value in values]
    for order in itertools.product(*candidates):
        if len(set(order)) < len(order):
            continue
        permuted = [tuple(row[index] for index in order) for row in rows]
        if gold == permuted if ordered else Counter(gold) == Counter(permuted):
            return True
    return False


if __name__ == "__main__":
    run(main)
