"""Own data of many questions: time and memory of `init`, `prepare`, one model's scoring and the report.

    python -m benchmarks.bench_own [--questions N] [--databases N] [--save]

Writes invented data, N questions over so many databases, and a quarter, a half and all of them go through the real
stages, each in a process of its own; no model runs: predictions are the gold queries, every third of them changed.
Memory is the largest sum of what a stage and its workers hold, looked at ten times a second. The exponent is that of
processor time, which others at work on the machine change less: 1 is linear growth.
"""

import argparse
import math
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
from ruamel.yaml import YAML

from benchmarks.material import REPOSITORY, SAMPLE_MMLU
from benchmarks.measuring import result
from benchmarks.results import show
from testkit import synthetic
from text2sql.core.files import iter_jsonl, write_jsonl

PARTS = (4, 2, 1)  # of all questions, as divisors
PAUSE_S = 0.1
MOST_GB = 1.0
MODELS = ("base", "m1", "m2")
COMMANDS = {
    "init": ("-m", "text2sql", "init", "own"),
    "prepare": ("-m", "stages.prepare"),
    "scoring": ("-m", "stages.eval_spider", "base"),
    "report": ("-m", "stages.compare"),
}
SCRIPT = """
CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT, city TEXT, since INTEGER);
CREATE TABLE purchase (id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customer (id), item TEXT, price REAL);
"""
GOLDS = (
    ("How many customers came after {0}?", "SELECT count(*) FROM customer WHERE since > {0}"),
    ("Who bought for more than {0}.{1}?", "SELECT DISTINCT T1.name FROM customer AS T1 JOIN purchase AS T2 "
     "ON T1.id = T2.customer_id WHERE T2.price > {0}.{1}"),
    ("What did customers of {0} buy, after {1}?", "SELECT item, count(*) FROM purchase WHERE customer_id IN "
     "(SELECT id FROM customer WHERE since > {0} AND id > {1}) GROUP BY item ORDER BY count(*) DESC LIMIT 3"),
)  # fmt: skip


def measure(short: bool = False, questions: int | None = None, databases: int | None = None) -> dict:
    """Return each stage's seconds and gigabytes at each size."""
    questions = questions or (2_000 if short else 100_000)
    databases = databases or max(2, questions // 100)
    found: dict[str, dict[str, list]] = {
        stage: {"examples": [], "seconds": [], "cpu_seconds": [], "gb": []} for stage in COMMANDS
    }
    page_mb = 0.0
    for part in PARTS:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            project = Path(folder)
            write_project(project, questions // part, max(2, databases // part))
            for stage, command in COMMANDS.items():
                if stage == "scoring":
                    write_predictions(project)
                seconds, cpu_seconds, gigabytes = run(project, command)
                print(
                    f"  {stage}, {questions // part:,} questions: {seconds:.3g} s, {cpu_seconds:.3g} s of the "
                    f"processor, {gigabytes:.2f} GB",
                    flush=True,
                )
                if stage == "scoring":
                    for model in MODELS[1:]:
                        run(project, ("-m", "stages.eval_spider", model))
                found[stage]["examples"].append(questions // part)
                found[stage]["seconds"].append(round(seconds, 3))
                found[stage]["cpu_seconds"].append(round(cpu_seconds, 3))
                found[stage]["gb"].append(round(gigabytes, 3))
            page_mb = (project / "reports/report.html").stat().st_size / 1e6
    for one in found.values():
        one["exponent"] = [round(math.log(one["cpu_seconds"][-1] / one["cpu_seconds"][0], PARTS[0]), 3)]
    growth = {stage: {**one, "exponent": one["exponent"][0]} for stage, one in found.items()}
    most = max(max(one["gb"]) for one in found.values())
    notes = [
        f"{stage}: {', '.join(f'{cpu:.3g}' for cpu in one['cpu_seconds'])} s of the processor; "
        f"{', '.join(f'{gb:.2f}' for gb in one['gb'])} GB at most."
        for stage, one in found.items()
    ]
    notes.append(f"The report's page has {page_mb:.1f} MB.")
    notes.append(f"Memory: {most:.2f} GB, of at most {MOST_GB:g}: {'met' if most <= MOST_GB else 'missed'}.")
    return result(
        "own data",
        f"{questions:,} questions over {databases:,} databases, and a half and a quarter of both",
        {"questions": questions, "databases": databases},
        [],
        [],
        growth=growth,
        notes=notes,
    )


def write_project(project: Path, questions: int, databases: int) -> None:
    """Write data of `questions` dev questions, and a hundredth as many to train on, and what a run has left beside."""
    made = synthetic.results(examples=20)
    made.write(project)
    folder = project / "own"
    folder.mkdir()
    for number in range(databases):
        write_database(folder / f"shop_{number}.sqlite", number)
    write_jsonl(folder / "questions.jsonl", _questions(questions, databases))
    yaml = YAML()
    params = yaml.load(project / "params.yaml")
    params["data"].update(spider="own", name="own", mmlu=str(SAMPLE_MMLU), train_limit=None, dev_limit=None)
    yaml.dump(params, project / "params.yaml")


def write_database(path: Path, seed: int) -> None:
    """Write a database of two tables: 40 customers, 200 purchases."""
    rng = random.Random(seed)
    connection = sqlite3.connect(path)
    connection.executescript(SCRIPT)
    customers = [(n, f"Name {n}", f"City {rng.randrange(9)}", rng.randrange(3000)) for n in range(40)]
    purchases = [(n, rng.randrange(40), f"Item {rng.randrange(9)}", rng.random() * 3000) for n in range(200)]
    connection.executemany("INSERT INTO customer VALUES (?, ?, ?, ?)", customers)
    connection.executemany("INSERT INTO purchase VALUES (?, ?, ?, ?)", purchases)
    connection.commit()
    connection.close()


def _questions(questions: int, databases: int) -> Iterator[dict]:
    in_all = questions + max(1, questions // 100)
    for number in range(in_all):
        question, query = GOLDS[number % len(GOLDS)]
        values = number // databases % 3000, number % 10
        yield {
            "db_id": f"shop_{number * databases // in_all}",
            "question": question.format(*values),
            "query": query.format(*values),
            "split": "dev" if number < questions else "train",
        }


def write_predictions(project: Path) -> None:
    """Write each model's predictions: the gold queries, each model's own third of them changed."""
    for place, model in enumerate(MODELS):
        lines = (
            {"index": line["index"], "db_id": line["db_id"], "sql": sql, "raw": sql}
            for line in iter_jsonl(project / "data/prepared/spider/dev.jsonl")
            for sql in [line["query"] + (" LIMIT 0" if line["index"] % 3 == place else " ")]
        )
        write_jsonl(project / f"data/predictions/{model}.jsonl", lines)


def run(project: Path, command: Sequence[str]) -> tuple[float, float, float]:
    """Run a stage; return its seconds, and the processor's, and the gigabytes that it and its workers held at most."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(project / "cache")}
    started, used, most = time.perf_counter(), _processor_time(), 0
    with open(project / "output.txt", "w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=project, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            most = max(most, _memory(process.pid))
            time.sleep(PAUSE_S)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(project / 'output.txt').read_text(encoding='utf-8')[-2000:]}")
    return time.perf_counter() - started, _processor_time() - used, most / 1e9


def _processor_time() -> float:
    """Return the processor's seconds of all processes that have ended below this one."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def _memory(pid: int) -> int:
    """Return the bytes that a process and those below it hold; 0 where it has ended."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    held = 0
    for one in family:
        try:
            held += one.memory_info().rss
        except psutil.Error:
            continue
    return held


def main(arguments: Sequence[str]) -> None:
    """Measure as `arguments` say, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, metavar="N", help="of dev; default: 100,000")
    parser.add_argument("--databases", type=int, metavar="N", help="default: a hundredth of the questions")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--save", action="store_true", help="merge into benchmarks/results")
    options = vars(parser.parse_args(arguments))
    saved = options.pop("save")
    show(measure(**options), saved)


if __name__ == "__main__":
    main(sys.argv[1:])
