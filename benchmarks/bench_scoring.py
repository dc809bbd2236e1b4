"""Scoring Spider predictions: `eval_spider` against plain SQLite, and against the official evaluator.

    python -m benchmarks.bench_scoring --spider PATH --official FOLDER [--published FILE] [--repeats N] [--save]

Whole commands in turns, start and all: the stage, with nothing kept and with gold results kept; plain SQLite running
each different query once in two processes under the same step limit (`plain_sqlite.py`), gold and predicted, as written
and as the official evaluator mends them, since the stage's two scores need both; and the official evaluator, the real
`exec_eval.py` in a checkout of taoyds/test-suite-sql-eval (its interpreter needs sqlparse and tqdm: name one with
`--official-python`), or, without `--official`, its method written anew: for each prediction a new connection, gold run
again, then the prediction, in one process, and results compared under every order of the columns that their values
allow. The verdicts have to agree with it. Seconds are the least of the repeats, on the clock and the processor's: other
work on a machine only adds to them. The stage may take less than plain SQLite, for it does not run a query again that
has gold's program.

With `--spider` the predictions are those of 0.5B's base and Model 1 in results/qwen05-ddl, and a `--published` file.
Without, the project's own sample, its gold queries written otherwise and some exchanged.
"""

import argparse
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.measuring import OURS, REPOSITORY, Side, in_turns, result
from benchmarks.results import show
from benchmarks.targets import row
from text2sql.core.errors import RunError, UserError, run
from text2sql.core.files import iter_jsonl, read_jsonl, write_jsonl
from text2sql.core.params import Params, load_params
from text2sql.data.spider import RECORD, Example
from text2sql.preparation.prepare import database_file, prepare
from text2sql.scoring.official import gold_as_executed, order_matters, prediction_as_executed
from text2sql.scoring.predictions import read_predictions

SAMPLE = "data/sample/spider"
OWN = REPOSITORY / "results" / "qwen05-ddl" / "predictions"
KEPT, PLAIN = f"{OURS}, gold kept", "plain SQLite, two processes"
OFFICIAL, METHOD = "the official script", "the official method, written anew"
STOPPED = ("limit_reached", "result_too_large", "forbidden_operation", "other_error")
LEAST_SECONDS = 0.3  # plain SQLite counts for no less

OFFICIAL_DRIVER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from exec_eval import eval_exec_match
json.dump([
    bool(eval_exec_match(database, prediction.replace("value", "1"), gold, False, False, False))
    for database, gold, prediction in json.load(sys.stdin)
], sys.stdout)
"""


class Command(Side):
    """A side that is a command; `processor` has the seconds of it and its children, a run each."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, given: str = "", **more: str) -> None:
        super().__init__(name, lambda: None)
        self._command, self._folder, self._given, self._more = list(command), folder, given, more
        self.processor: list[float] = []

    def run(self) -> float:
        """Run the command; return its seconds. Raises RunError where it fails."""
        environment = {**_environment(), **self._more}
        with tempfile.TemporaryDirectory(prefix="bench-", dir=self._folder) as cache:
            environment.setdefault("XDG_CACHE_HOME", cache)
            before, started = _children_seconds(), time.perf_counter()
            done = subprocess.run(
                self._command, input=self._given, cwd=self._folder, env=environment, capture_output=True, text=True
            )
            seconds = time.perf_counter() - started
        self.processor.append(_children_seconds() - before)
        if done.returncode:
            raise RunError(f"{self.name} fails: {(done.stderr.strip() or '(nothing said)').splitlines()[-1]}")
        self.answers = done.stdout
        return seconds


def measure(
    spider: Path | None = None,
    published: Path | None = None,
    official: Path | None = None,
    official_python: str = sys.executable,
    repeats: int = 3,
    short: bool = False,
) -> dict[str, Any]:
    """Return the seconds of all sides for each file of predictions. Raises RunError where verdicts differ."""
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        folder = Path(place)
        params = _project(folder, str(spider.resolve()) if spider else SAMPLE)
        files = {"base": OWN / "base.jsonl.gz", "m1": OWN / "m1.jsonl.gz"} if spider else {"sample": None}
        files = {**({"published": published} if published else {}), **files}
        found = {
            key: _measured(folder, params, path, official, official_python, 1 if short else repeats)
            for key, path in files.items()
        }
    sides = {f"{name}: {key}": side for key, one in found.items() for name, side in one["sides"].items()}
    return result(
        "scoring",
        f"whole commands; {', '.join(files)}; SQLite {sqlite3.sqlite_version}; the least of {1 if short else repeats}",
        {key: one["counts"] for key, one in found.items()},
        [],
        [comparison for key, one in found.items() for comparison in _comparisons(key, one["sides"])],
        rows=[one for key, measured in found.items() if key != "sample" for one in _targets(key, measured["sides"])],
        notes=[note for key, one in found.items() for note in _notes(key, one)],
    ) | {"sides": sides}


def _measured(
    folder: Path, params: Params, predictions: Path | None, official: Path | None, python: str, repeats: int
) -> dict:
    """Return the sides' times and the counts of one file of predictions."""
    dev = [Example.from_record(line) for line in read_jsonl(folder / "data/prepared/spider/dev.jsonl", RECORD)]
    queries = read_predictions(predictions, dev) if predictions else _own_predictions(dev)
    lines = ({"index": example.index, "sql": query} for example, query in zip(dev, queries))
    write_jsonl(folder / "data/predictions/base.jsonl", lines)
    files = [str(database_file(folder / "data/prepared/databases", example.db_id)) for example in dev]
    different = {
        (file, text): None
        for file, example, query in zip(files, dev, queries)
        for text in (example.query, gold_as_executed(example.query), query, prediction_as_executed(query))
    }
    pairs = json.dumps([[file, example.query, query] for file, example, query in zip(files, dev, queries)])
    stage = [sys.executable, "-m", "stages.eval_spider", "base"]
    steps = str(params.execution.max_steps)
    method = [python, "-W", "ignore", "-c", OFFICIAL_DRIVER, str(official)]
    method = method if official else [sys.executable, "-m", "benchmarks.bench_scoring", "--method"]
    sides = [
        Command(OURS, stage, folder),
        Command(KEPT, stage, folder, XDG_CACHE_HOME=str(folder / "cache")),
        Command(
            PLAIN, [sys.executable, str(REPOSITORY / "benchmarks/plain_sqlite.py"), steps], folder,
            json.dumps(sorted(different)),
        ),
        Command(OFFICIAL if official else METHOD, method, folder, pairs),
    ]  # fmt: skip
    in_turns(sides, repeats)
    verdicts = list(iter_jsonl(folder / "data/verdicts/spider/base.jsonl"))
    expected = json.loads(sides[-1].answers.splitlines()[-1])
    stopped = _check(verdicts, expected)
    counts = {"examples": len(dev), "right": sum(expected), "queries": len(different), "stopped": stopped}
    shown = {
        side.name: {
            **side.to_dict(), "median": round(min(side.seconds), 4),
            "processor_seconds": round(min(side.processor[1:]), 4),
        } for side in sides
    }  # fmt: skip
    return {"counts": counts, "sides": shown}


def _comparisons(key: str, sides: dict[str, dict]) -> list[dict]:
    ours, *peers = sides
    return [
        {
            "ours": f"{name}: {key}", "peer": f"{peer}: {key}", "goal": None, "goal_met": None,
            "ratio": round(sides[peer]["median"] / sides[name]["median"], 3), "ratio_of": f"peer / {OURS}",
            "answers": None if peer == PLAIN else "the same",
        }
        for name in (OURS, KEPT) for peer in peers if peer != KEPT
    ]  # fmt: skip


def _targets(key: str, sides: dict[str, dict]) -> list[dict]:
    ours, plain, official = (sides[name]["median"] for name in (OURS, PLAIN, list(sides)[-1]))
    rows = [row(f"scoring-{key}", ours, max(plain, LEAST_SECONDS))]
    if OFFICIAL in sides:
        rows.append(row(f"scoring-{key}-official", ours, official, answers="the same verdicts"))
    return rows


def _notes(key: str, found: dict) -> list[str]:
    counts = found["counts"]
    processor = "; ".join(f"{name} {side['processor_seconds']:.3g} s" for name, side in found["sides"].items())
    return [
        f"{key}: {counts['examples']:,} predictions, {counts['right']:,} right, {counts['queries']:,} different "
        f"queries; verdicts agree, but for {counts['stopped']} that the sandbox stopped. Processor time: {processor}."
    ]


def _project(folder: Path, spider: str) -> Params:
    """Write what the stage reads but predictions: params.yaml, and the prepared data of `spider`."""
    text = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    for key in ("spider", "mmlu"):
        line = f"  {key}: data/sample/{key}"
        assert line in text
        text = text.replace(line, f"  {key}: {REPOSITORY / spider if key == 'spider' else REPOSITORY / line[8:]}", 1)
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    params = load_params(folder / "params.yaml")
    prepare(params, folder / "data/prepared", folder / "metrics/prepare.json", say=lambda line: None)
    return params


def _own_predictions(examples: Sequence[Example]) -> list[str]:
    """Return what a good system might answer: right but written otherwise, and each fifth time another query."""
    queries = [example.query for example in examples]
    return [
        queries[index - 1] if index % 5 == 4 else f"SELECT * FROM ({query.rstrip('; ')}) AS answer"
        for index, query in enumerate(queries)
    ]


def _check(verdicts: Sequence[dict], expected: Sequence[bool]) -> int:
    """Return how many verdicts differ where the sandbox stopped a query. Raises RunError where others do."""
    stopped = 0
    for verdict, right in zip(verdicts, expected, strict=True):
        if verdict["official_execution_accuracy"] is not right:
            if verdict["outcome"] not in STOPPED:
                raise RunError(
                    f"example {verdict['index']}: verdicts differ, {right} officially: {verdict['sql']:.300}"
                )
            stopped += 1
    return stopped


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
    return kept | {"PYTHONPATH": str(REPOSITORY)}


def _children_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def main(arguments: Sequence[str]) -> None:
    """Measure as `arguments` say, and print the table."""
    if list(arguments) == ["--method"]:
        print(json.dumps([_verdict_by_official_method(*pair) for pair in json.load(sys.stdin)]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spider", type=Path, metavar="PATH", help="folder or zip in Spider's layout")
    parser.add_argument("--published", type=Path, metavar="FILE", help="any system's predictions of its dev split")
    parser.add_argument("--official", type=Path, metavar="FOLDER")
    parser.add_argument("--official-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--save", action="store_true", help="merge into benchmarks/results")
    options = vars(parser.parse_args(arguments))
    saved = options.pop("save")
    if options["published"] and not options["spider"]:
        raise UserError("--published: needs --spider, whose dev split it answers")
    show(measure(**options), saved)


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
