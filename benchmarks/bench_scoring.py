"""Scoring Spider predictions: this project against the official evaluator's method.

    python -m benchmarks.bench_scoring [--spider PATH --predictions FILE] [--official FOLDER] [--repeats N]

The method: for each prediction a new connection, gold run again, then the prediction, in one process, and results
compared under every order of the columns that their values allow. It is reimplemented here, or, with `--official`, is
the real `exec_eval.py` in a checkout of taoyds/test-suite-sql-eval (its interpreter needs sqlparse and tqdm: name one
with `--official-python`). Both sides score the same predictions in turns, and the verdicts have to agree. Times are
medians, without start-up of the interpreter and without reading files, but with the start of this project's workers;
processor seconds (user and system, of all processes) are also given, since other work on a machine changes them less.

The bound is what plain SQLite needs to run each different query once, shared by all cores: a scorer that runs
everything cannot be faster. This project may be, for it does not run a query again that has gold's program.

Without arguments: the project's own sample, its gold queries written otherwise and some exchanged. So few take no
longer than workers take to start: its databases come 8 times under other names, so that no query is run for two.
"""

import argparse
import json
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from text2sql.core.errors import RunError, UserError, run
from text2sql.data.spider import Example, open_spider
from text2sql.execution.executor import Limits
from text2sql.scoring.official import gold_as_executed, order_matters, prediction_as_executed
from text2sql.scoring.predictions import read_predictions
from text2sql.scoring.verdicts import Verdict, score_examples

SAMPLE = Path(__file__).parent.parent / "data" / "sample" / "spider"
COPIES = 8  # of the sample

OFFICIAL_DRIVER = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from exec_eval import eval_exec_match
started = time.perf_counter(), time.process_time()
verdicts = [
    bool(eval_exec_match(database, prediction.replace("value", "1"), gold, False, False, False))
    for database, gold, prediction in json.load(sys.stdin)
]
json.dump([time.perf_counter() - started[0], time.process_time() - started[1], verdicts], sys.stdout)
"""


def measure(
    spider: Path = SAMPLE,
    predictions: Path | None = None,
    official: Path | None = None,
    official_python: str = sys.executable,
    repeats: int = 3,
    workers: int | None = None,
) -> dict[str, Any]:
    """Score predictions in turns by the official method and by this project; return seconds and their ratios.

    Without `predictions`, gold queries of `spider` written otherwise. `*_s` are seconds on the clock and `*_cpu_s` the
    processor's, medians of `repeats`; `*_ratio` is the official method's time to this project's; `bound_*_s` what
    plain SQLite needs for the different queries on as many cores. Raises RunError where verdicts differ.
    """
    copies = 1 if predictions or spider != SAMPLE else COPIES
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        databases = Path(folder) / "databases"
        with open_spider(spider) as source:
            examples = source.examples("dev")
            queries = read_predictions(predictions, examples) if predictions else _own_predictions(examples)
            for copy, db_id in product(range(copies), {example.db_id for example in examples}):
                source.extract_database(db_id, _database(databases, f"{db_id}_{copy}"))
        examples = [
            replace(example, db_id=f"{example.db_id}_{copy}") for copy, example in product(range(copies), examples)
        ]
        return {
            "peer": "the official script" if official else "the official method, written anew",
            "data": predictions.name if predictions else f"dev gold queries of {spider.name} written otherwise",
            "copies": copies,
            **_measure(
                examples, queries * copies, databases, Path(folder), official, official_python, repeats, workers
            ),
        }


def main(arguments: Sequence[str]) -> None:
    """Measure, and print times, ratios and the bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spider", type=Path, default=SAMPLE, metavar="PATH", help="folder or zip in Spider's layout")
    parser.add_argument("--predictions", type=Path, metavar="FILE")
    parser.add_argument("--official", type=Path, metavar="FOLDER")
    parser.add_argument("--official-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--workers", type=int, metavar="N")
    found = measure(**vars(parser.parse_args(arguments)))
    copies = f", {found['copies']} copies of each database" if found["copies"] > 1 else ""
    print(
        f"{found['examples']} predictions ({found['data']}{copies}), {found['right']} right; "
        f"{found['workers']} workers; SQLite {found['sqlite_version']}; medians of {found['repeats']}"
    )
    for name, key in ((found["peer"], "official"), ("this project", "cold"), ("this project, gold kept", "cached")):
        ratio = "" if key == "official" else f"   x {found[f'{key}_ratio']:.1f} ({found[f'{key}_cpu_ratio']:.1f})"
        print(f"  {name:34}{found[f'{key}_s']:8.2f} s ({found[f'{key}_cpu_s']:.2f} s of processor time){ratio}")
    for key, name in (("cold", "all different queries"), ("cached", "those that are not gold's")):
        print(f"  bound: {name:27}{found[f'bound_{key}_s']:8.2f} s, plain SQLite's processor time / workers")
    print(f"Verdicts agree, but for {found['stopped']} queries that the sandbox stopped, which are not compared.")


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
    examples: list[Example],
    predictions: list[str],
    databases: Path,
    folder: Path,
    official: Path | None,
    official_python: str,
    repeats: int,
    workers: int | None,
) -> dict[str, Any]:
    workers = workers or os.cpu_count() or 1

    def score(cache: Path) -> list[Verdict]:
        return score_examples(
            examples, predictions, lambda db_id: _database(databases, db_id), Limits(), workers, cache
        )

    kept = folder / "gold"
    score(kept)
    times: dict[str, list[tuple[float, float]]] = {"official": [], "cold": [], "cached": []}
    for repeat in range(repeats):
        seconds, expected = _official(official, official_python, examples, predictions, databases)
        times["official"].append(seconds)
        for key, cache in (("cold", folder / f"gold-{repeat}"), ("cached", kept)):
            seconds, verdicts = _timed(lambda cache=cache: score(cache))
            times[key].append(seconds)
            _check(verdicts, expected)
    clock = {key: statistics.median(seconds for seconds, _ in values) for key, values in times.items()}
    processor = {key: statistics.median(seconds for _, seconds in values) for key, values in times.items()}
    gold_s, prediction_s = _plain_seconds(examples, verdicts, databases)
    return {
        "examples": len(examples),
        "right": sum(expected),
        "stopped": sum(verdict.stopped for verdict in verdicts),
        "workers": workers,
        "repeats": repeats,
        "sqlite_version": sqlite3.sqlite_version,
        **{f"{key}_s": value for key, value in clock.items()},
        **{f"{key}_cpu_s": value for key, value in processor.items()},
        **{f"{key}_ratio": clock["official"] / clock[key] for key in ("cold", "cached")},
        **{f"{key}_cpu_ratio": processor["official"] / processor[key] for key in ("cold", "cached")},
        "bound_cold_s": (gold_s + prediction_s) / workers,
        "bound_cached_s": prediction_s / workers,
    }


def _timed(work: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Return the seconds that `work` takes, on the clock and of the processor (with ended children), and its result."""
    before = time.perf_counter(), _processor_seconds()
    result = work()
    return (time.perf_counter() - before[0], _processor_seconds() - before[1]), result


def _processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _plain_seconds(examples: list[Example], verdicts: list[Verdict], databases: Path) -> tuple[float, float]:
    """Return the processor's seconds for gold queries, and for predictions that are not gold's text, each run once.

    One plain connection a database. Predictions that the sandbox stopped, which might never end, are left out.
    """
    golds = {(example.db_id, text) for example in examples for text in (example.query, gold_as_executed(example.query))}
    predictions = {
        (verdict.db_id, text)
        for verdict in verdicts
        if not verdict.stopped
        for text in (verdict.sql, prediction_as_executed(verdict.sql))
    }
    seconds = []
    for queries in (golds, predictions - golds):
        connections = {db_id: _connect(str(_database(databases, db_id))) for db_id, _ in queries}
        started = time.process_time()
        for db_id, sql in queries:
            try:
                connections[db_id].execute(sql).fetchall()
            except (sqlite3.Error, sqlite3.Warning, ValueError):
                pass  # a wrong prediction
        seconds.append(time.process_time() - started)
        for connection in connections.values():
            connection.close()
    return seconds[0], seconds[1]


def _check(verdicts: list[Verdict], expected: list[bool]) -> None:
    for verdict, right in zip(verdicts, expected, strict=True):
        if verdict.official_execution_accuracy is not right and not verdict.stopped:
            raise RunError(f"example {verdict.index}: verdicts differ, {right} officially: {verdict.sql:.300}")


def _official(
    folder: Path | None, python: str, examples: list[Example], predictions: list[str], databases: Path
) -> tuple[tuple[float, float], list[bool]]:
    """Return the seconds that the official evaluator takes, on the clock and of the processor, and its verdicts."""
    pairs = [
        (str(_database(databases, example.db_id)), example.query, prediction)
        for example, prediction in zip(examples, predictions)
    ]
    if folder is None:
        return _timed(lambda: [_verdict_by_official_method(*pair) for pair in pairs])
    command = [python, "-W", "ignore", "-c", OFFICIAL_DRIVER, str(folder)]
    try:
        done = subprocess.run(command, input=json.dumps(pairs), capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"--official-python {python}: {error.strerror}") from None
    if done.returncode:
        raise RunError(f"the official script fails: {done.stderr.strip().splitlines()[-1]}")
    clock, processor, verdicts = json.loads(done.stdout.splitlines()[-1])
    return (clock, processor), verdicts


def _verdict_by_official_method(database: str, gold: str, prediction: str) -> bool:
    gold_rows = _rows(database, gold_as_executed(gold))
    try:
        rows = _rows(database, prediction_as_executed(prediction))
    except (sqlite3.Error, sqlite3.Warning, ValueError):
        return False
    return _equal_under_some_order(gold_rows, rows, order_matters(gold))


def _rows(database: str, sql: str) -> list[tuple]:
    connection = _connect(database)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def _connect(database: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    connection.text_factory = lambda text: text.decode(errors="ignore")
    return connection


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
    for order in product(*candidates):
        if len(set(order)) < len(order):
            continue
        permuted = [tuple(row[index] for index in order) for row in rows]
        if gold == permuted if ordered else Counter(gold) == Counter(permuted):
            return True
    return False


if __name__ == "__main__":
    run(main)
