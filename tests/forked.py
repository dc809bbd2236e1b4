"""Stages in processes of their own that start in no time: forked from a server that has loaded the libraries before.

    with stages_ready():
        stage = Stage("train m1", folder)
        stage.kill_after(0.3) or stage.exit_code
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

STAGES = ("prepare", "train", "predict_spider", "eval_spider", "eval_mmlu", "compare")
# What the stages import when they need it, which takes seconds.
LIBRARIES = (
    "torch", "transformers", "transformers.models.llama.modeling_llama", "peft", "trl", "accelerate", "datasets",
    "pyarrow.parquet", "scipy.stats", "jinja2", "text2sql.trainer", "text2sql.mmlu_evaluation", "text2sql.prediction",
    "text2sql.preparation", "text2sql.html_report", "text2sql.report",
)  # fmt: skip
PRELOADED = [*LIBRARIES, *(f"stages.{stage}" for stage in STAGES)]
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}  # fmt: skip
PATIENCE_S = 600  # no stage of the micro model takes a hundredth of that


@contextlib.contextmanager
def stages_ready():
    """Have the server loaded while the block runs. One thread each: a pool of threads does not survive a fork."""
    from multiprocessing import forkserver

    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    try:
        forkserver.ensure_running()
        yield
    finally:
        forkserver._forkserver._stop()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


class Stage:
    """A stage, started with its arguments ("train m1") in the folder of a project."""

    def __init__(self, stage: str, folder: Path, fault: tuple[str, int] | None = None) -> None:
        """Start it. `fault` names a function ("os.replace") at whose n-th call it is killed; see `faults`."""
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


def _run(name: str, arguments: list[str], folder: str, output: str, fault: tuple[str, int] | None) -> None:
    os.setsid()
    with open(output, "ab", buffering=0) as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.chdir(folder)
    sys.argv = [f"stages.{name}", *arguments]
    if fault:
        from tests.faults import kill_at

        kill_at(*fault)
    import importlib

    from text2sql.errors import run

    run(importlib.import_module(f"stages.{name}").main)
