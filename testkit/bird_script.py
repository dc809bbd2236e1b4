"""Verdicts of BIRD's own script beside this project's, on mutated queries.

    python -m testkit.bird_script FOLDER [--spider PATH] [--each 8] [--python PYTHON]

FOLDER is `evaluation/` of a checkout of bird-bench/mini_dev; its interpreter needs the package func_timeout (what the
script imports for MySQL and PostgreSQL is not needed). The benchmark is written in BIRD's layout, read from there, and
each gold query changed in so many ways. The script's own function judges each, on databases that are copies: what
it runs may write. A verdict that differs is printed with the reason, if there is one: the sandbox stopped the query.
The exit code is 1 where one differs without.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from testkit.bird_data import FOLDERS, bird_folder
from testkit.mutated import mutated
from text2sql.core.errors import run
from text2sql.core.paths import SAMPLE_SPIDER
from text2sql.data.spider import Example, open_spider
from text2sql.execution.executor import Limits
from text2sql.scoring.bird import SECONDS
from text2sql.scoring.verdicts import Verdict, score_examples

DRIVER = """
import json, sys, types
for name in ("psycopg2", "pymysql"):
    sys.modules[name] = types.ModuleType(name)
sys.path.insert(0, sys.argv[1])
from evaluation_ex import execute_model
json.dump([
    execute_model(prediction, gold, database, number, float(sys.argv[2]), "SQLite")["res"] == 1
    for number, (database, gold, prediction) in enumerate(json.load(sys.stdin))
], sys.stdout)
"""


def main(arguments: Sequence[str]) -> int:
    """Compare, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--spider", type=Path, default=SAMPLE_SPIDER, metavar="PATH")
    parser.add_argument("--each", type=int, default=8, metavar="N", help="changes of each gold query")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="the script's interpreter")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bird-") as name:
        folder = Path(name)
        with open_spider(options.spider) as source:
            bird_folder(source, folder / "bird", train=False)
        databases = folder / "bird" / FOLDERS["dev"] / "dev_databases"
        shutil.copytree(databases, folder / "theirs")
        with open_spider(folder / "bird") as source:
            examples, predictions = cases(source.examples("dev"), options.each, options.seed)
        ours = score_examples(examples, predictions, lambda db_id: databases / db_id / f"{db_id}.sqlite", Limits())
        theirs = script_verdicts(options.folder, options.python, examples, predictions, folder / "theirs")
    return _report(ours, theirs)


def cases(golds: Sequence[Example], each: int, seed: int) -> tuple[list[Example], list[str]]:
    """Return `each` changes of every gold query, and the example of each."""
    rng = random.Random(seed)
    by_database: dict[str, list[str]] = {}
    for example in golds:
        by_database.setdefault(example.db_id, []).append(example.query)
    pairs = [
        (example, query) for example in golds for query in mutated(example.query, by_database[example.db_id], rng, each)
    ]
    return [example for example, _ in pairs], [query for _, query in pairs]


def script_verdicts(
    folder: Path, python: str, examples: Sequence[Example], predictions: Sequence[str], databases: Path
) -> list[bool]:
    """Return the script's verdicts on predictions as it is handed them: `package_sqls` strips space around them."""
    triples = [
        (str(databases / example.db_id / f"{example.db_id}.sqlite"), example.query, prediction.strip())
        for example, prediction in zip(examples, predictions, strict=True)
    ]
    command = [python, "-W", "ignore", "-c", DRIVER, str(folder), str(SECONDS)]
    done = subprocess.run(command, input=json.dumps(triples), capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _report(ours: Sequence[Verdict], theirs: Sequence[bool]) -> int:
    differ = [pair for pair in zip(ours, theirs, strict=True) if pair[0].bird_execution_accuracy is not pair[1]]
    print(f"{len(ours)} queries, {sum(theirs)} right by the script; {len(differ)} verdicts differ")
    print(f"outcomes: {dict(Counter(verdict.outcome for verdict in ours).most_common())}")
    for verdict, right in differ:
        reason = f"the sandbox stopped it: {verdict.error}" if verdict.stopped else "NOT EXPLAINED"
        print(f"example {verdict.index} ({verdict.db_id}), right by the script: {right}; {reason}: {verdict.sql:.200}")
    return int(any(not verdict.stopped for verdict, _ in differ))


if __name__ == "__main__":
    run(main)
