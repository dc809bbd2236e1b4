"""Stages in processes of their own that start at once: forked from a server with the libraries preloaded.

with stages_ready(cache):
    killed = Stage("train m1", folder).kill_after(0.3)
    assert Stage("train m1", folder).wait() == 0
"""

import contextlib
import gc
import hashlib
import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from testkit.warm import ENVIRONMENT, LIBRARIES
from text2sql.core.errors import run

STAGES = (
    "prepare", "train", "predict_spider", "eval_spider", "sample_spider", "choose_spider", "eval_mmlu",
    "eval_mmlu_chat", "compare",
)  # fmt: skip
OURS = (
    "text2sql.training.trainer", "text2sql.evaluation.mmlu", "text2sql.evaluation.mmlu_chat",
    "text2sql.evaluation.spider", "text2sql.evaluation.sampling",
    "text2sql.preparation.prepare", "text2sql.report.html", "text2sql.report.markdown",
)  # fmt: skip
PRELOADED = [*LIBRARIES, *OURS, *(f"stages.{stage}" for stage in STAGES)]
# Checkpoints after each of four steps, and small batches: as many places to be killed at as possible.
SETTINGS = {
    "data": {"train_limit": 16},
    "train": {"checkpoint_minutes": 1e-6},
    "generation": {"batch_size": 2, "samples": 2},
    "mmlu": {"batch_size": 2, "rotations": 4, "chat": ["base"], "chat_limit": 8},
}

# What each stage leaves. Timings are not compared: they differ from run to run.
OUTPUTS = {
    "prepare": ["data/prepared", "metrics/prepare.json"],
    "train m1": ["models/m1", "metrics/train/m1.json", "metrics/train/m1_loss.csv"],
    "predict_spider base": ["data/predictions/base.jsonl"],
    "predict_spider m1": ["data/predictions/m1.jsonl"],
    "eval_spider base": ["data/verdicts/spider/base.jsonl", "metrics/spider/base.json"],
    "sample_spider m1": ["data/samples/m1.jsonl"],
    "choose_spider m1": [
        "data/chosen/m1.jsonl",
        "data/verdicts/spider_choice/m1.jsonl",
        "metrics/spider_choice/m1.json",
    ],  # fmt: skip
    "eval_mmlu base": ["data/verdicts/mmlu/base.jsonl", "metrics/mmlu/base.json"],
    "eval_mmlu m1": ["data/verdicts/mmlu/m1.jsonl", "metrics/mmlu/m1.json"],
    "eval_mmlu_chat base": ["data/verdicts/mmlu_chat/base.jsonl", "metrics/mmlu_chat/base.json"],
    "compare": ["metrics/compare.json", "metrics/plots", "reports/report.md"],
}
PATIENCE_S = 600  # no stage of the micro model takes a hundredth of that


@contextlib.contextmanager
def stages_ready(cache: Path):
    """Have the server loaded while the block runs; stages keep results of gold queries in the folder `cache`.

    One thread each: a pool of threads does not survive a fork.
    """
    from multiprocessing import forkserver

    environment = {**ENVIRONMENT, "XDG_CACHE_HOME": str(cache)}
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    try:
        forkserver.ensure_running()
    finally:
        # The server has it, and its children inherit it. Other tests' processes keep their number of threads.
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    try:
        yield
    finally:
        forkserver._forkserver._stop()


class Stage:
    """A stage, started with its arguments ("train m1") in the folder of a project."""

    def __init__(self, stage: str, folder: Path, fault: Callable | None = None) -> None:
        """Start it, with a fault of `testkit.faults`."""
        name, *arguments = stage.split()
        self.output = folder.with_name(f"{folder.name}.output")
        context = multiprocessing.get_context("forkserver")
        self._process = context.Process(target=_run, args=(name, arguments, str(folder), str(self.output), fault))
        self._started = time.monotonic()
        self._process.start()

    def wait(self) -> int:
        """Wait for its end; return the exit code, negative where a signal ended it."""
        self._process.join(PATIENCE_S)
        self.seconds = time.monotonic() - self._started
        if self._process.exitcode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise AssertionError(f"no end after {PATIENCE_S} s: {self.output.read_text()}")
        return self._process.exitcode

    def kill_after(self, seconds: float) -> bool:
        """Kill it and all its processes after so many seconds; return whether it was still running."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            for kill in (os.killpg, os.kill):  # before it has a group of its own, the process alone
                with contextlib.suppress(ProcessLookupError):
                    kill(self._process.pid, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL


def _run(name: str, arguments: list[str], folder: str, output: str, fault: Callable | None) -> None:
    os.setsid()
    gc.freeze()  # else each collection would copy the server's pages
    with open(output, "wb", buffering=0) as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.chdir(folder)
    sys.argv = [f"stages.{name}", *arguments]
    if fault:
        fault()
    run(importlib.import_module(f"stages.{name}").main)


def contents(folder: Path, outputs: list[str]) -> dict[str, str]:
    """Return {file: sha256} of all that is below `outputs`, but for temporary files."""
    found = {}
    for output in outputs:
        path = folder / output
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and not file.name.startswith("."):
                found[str(file.relative_to(folder))] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def remnants(folder: Path) -> list[Path]:
    """Return what is left of work in progress: journals, checkpoints, temporary files."""
    work = [path for name in (".journals", ".checkpoints") for path in (folder / name).rglob("*") if path.is_file()]
    outputs = ("data", "metrics", "models", "reports")
    return work + [path for name in outputs for path in (folder / name).rglob(".*") if path.name != ".gitignore"]
