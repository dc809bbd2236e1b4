"""Start-up: what a command costs before it has anything to do, against the least it needs.

    python -m benchmarks.bench_startup [--repeats N] [--save]
    python -m benchmarks.bench_startup --against FOLDER --model FOLDER [--spider PATH] [--mmlu PATH] [--save]

In a copy of this project with a micro model, after a full `dvc repro` (which is not counted): `eval_spider base` with
gold results kept, against an empty Python; `compare`, against its own imports of scipy and pandas; `dvc repro` with
nothing to do, against `dvc status` in an empty repository. Whole processes, by the wall clock; the runs alternate, and
one of each warms up. What DVC itself needs for the least pipeline there is, one stage without deps, is shown as well.

With `--against`, a checkout of an older build: the stages that load a model, from typing the command to the first
batch, in both (`benchmarks/first_batch.py`). That needs neither DVC nor git.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.first_batch import STAGES, measure_against
from benchmarks.machine import has
from benchmarks.material import REPOSITORY, SAMPLE_MMLU, SAMPLE_SPIDER
from benchmarks.measuring import Side, Unavailable, compared, in_turns, result
from benchmarks.results import show
from benchmarks.targets import row
from testkit.project import Project
from testkit.random_models import write_random_base
from testkit.warm import warm_python

EVAL, EMPTY = "eval_spider base", "an empty Python"
COMPARE, IMPORTS = "compare", "import scipy.stats, pandas"
REPRO, STATUS = "dvc repro, nothing to do", "dvc status in an empty repository"
ONE_STAGE = "dvc repro of one stage without deps"
MOST_SECONDS = 1.5


def measure(short: bool = False, repeats: int = 5, project: Path | None = None) -> dict:
    """Return the times of the commands; `project` is a prepared copy, created by default."""
    if not has("dvc") or shutil.which("git") is None:
        raise Unavailable("start-up needs dvc and git")
    repeats = 1 if short else repeats
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        ready = Project(project) if project else prepare(Path(folder) / "project", Path(folder) / "base", short)
        empty = Project(Path(folder) / "empty")
        empty.folder.mkdir()
        empty.run("git", "init", "-q")
        empty.run(sys.executable, "-m", "dvc", "init", "-q")
        one = Project(Path(folder) / "one")
        shutil.copytree(empty.folder, one.folder)
        (one.folder / "dvc.yaml").write_text("stages:\n  one:\n    cmd: echo > out\n    outs: [out]\n")
        one.run(sys.executable, "-m", "dvc", "repro")
        sides = [
            Side(EVAL, _command(ready, "-m", "stages.eval_spider", "base")),
            Side(EMPTY, _command(ready, "-c", "pass")),
            Side(COMPARE, _command(ready, "-m", "stages.compare")),
            Side(IMPORTS, _command(ready, "-c", "import scipy.stats, pandas")),
            Side(REPRO, _command(ready, "-m", "dvc", "repro")),
            Side(STATUS, _command(empty, "-m", "dvc", "status")),
            Side(ONE_STAGE, _command(one, "-m", "dvc", "repro")),
        ]
        in_turns(sides[:4], repeats)
        # The measured stages wrote other timings, which DVC has to take note of.
        ready.run(sys.executable, "-m", "dvc", "repro")
        in_turns(sides[4:], repeats)
        if "up to date" not in sides[4].answers:
            raise RuntimeError(f"dvc repro had something to do:\n{sides[4].answers}")
    scored, compare, repro = sides[0], sides[2], sides[4]
    met = scored.median <= MOST_SECONDS
    return result(
        "startup",
        "whole commands in a project with a micro model and the sample's questions",
        {"repeats": repeats},
        sides,
        [
            compared(scored, sides[1], None, None, at_most=True)
            | {"ours": EVAL, "goal_text": f"≤ {MOST_SECONDS} s: {'met' if met else 'missed'}", "goal_met": met},
            compared(compare, sides[3], 1.5, None, at_most=True) | {"ours": COMPARE},
            compared(repro, sides[5], 2, None, at_most=True) | {"ours": REPRO},
            compared(repro, sides[6], None, None, at_most=True) | {"ours": REPRO},
        ],
        rows=[row("dvc-nothing", repro.median, sides[5].median, command="python -m benchmarks.bench_startup --save")],
        notes=["Ratios are this project's time over the other's: less is better."],
    )


def prepare(folder: Path, base: Path, short: bool = False) -> Project:
    """Return a copy of this project in `folder` in which everything is done, with a random micro model in `base`."""
    # As many examples, questions and bootstrap samples as the default has; `short`: fewer questions of MMLU.
    changes = {
        "data": {"dev_limit": None},
        "generation": {"batch_size": 32},
        "mmlu": {"limit": 10 if short else 50, "batch_size": 16},
        "compare": {"bootstrap_samples": 10000},
    }
    project = Project.create(REPOSITORY, folder, write_random_base(base, "micro"), changes)
    project.commit("the project")
    with warm_python() as project.python:
        project.run("dvc", "repro")
    return Project(folder)  # the measured commands start without the warm server


def _command(project: Project, *arguments: str) -> Callable[[], str]:
    def work() -> str:
        done: subprocess.CompletedProcess = project.run(sys.executable, *arguments)
        return done.stdout

    return work


def main(arguments: Sequence[str]) -> None:
    """Measure as `arguments` say, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, metavar="N")
    parser.add_argument("--project", type=Path, metavar="FOLDER", help="a copy of this project, with all stages run")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--save", action="store_true", help="merge into benchmarks/results")
    other = parser.add_argument_group("against an older build")
    other.add_argument("--against", type=Path, metavar="FOLDER", help="a checkout of it")
    other.add_argument("--model", metavar="FOLDER", help="a base in Hugging Face's format")
    other.add_argument("--spider", type=Path, default=SAMPLE_SPIDER, metavar="PATH")
    other.add_argument("--mmlu", default=str(SAMPLE_MMLU), metavar="PATH", help="all of its subjects are asked")
    other.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    other.add_argument("--profile", type=Path, metavar="FOLDER", help="where cProfile's figures of this build go")
    options = vars(parser.parse_args(arguments))
    saved, older = options.pop("save"), options.pop("against")
    older_only = {name: options.pop(name) for name in ("model", "spider", "mmlu", "stages", "profile")}
    if older is None:
        show(measure(**options), saved)
    elif older_only["model"] is None:
        parser.error("--against: needs --model FOLDER")
    else:
        show(measure_against(older, repeats=options["repeats"], **older_only), saved)


if __name__ == "__main__":
    main(sys.argv[1:])
