"""The engines that are asked, each in a process of its own: one that ends takes nothing with it.

A job is a JSON file: what to load, the messages of each question, the token ids that were evaluated, MMLU's prompts as
token ids. Its answers are JSON lines: first what the engine made of the messages and where it stops, and, where that is
what was evaluated, the ids of each answer, the seconds that all took, and the log-likelihoods of MMLU's options.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text2sql.core.errors import RunError, UserError
from text2sql.core.files import iter_jsonl, write_json

WORKERS = Path(__file__).parent / "workers"
_ERROR = re.compile(r"\b\w*Error: .+")
_LAST_LINES = 3  # of what an engine that ended said


@dataclass(frozen=True)
class Engine:
    """An engine: the package that it needs, what it asks, how it is had, and the variable that names its Python.

    forms: what it reads, see `Record.form`. log_likelihoods: whether it answers MMLU.
    """

    name: str
    package: str
    worker: str
    forms: tuple[str, ...]
    log_likelihoods: bool
    install: str
    variable: str = ""

    @property
    def python(self) -> str:
        """The Python that runs it: this one, unless its variable names another."""
        return os.environ.get(self.variable) or sys.executable

    @property
    def command(self) -> list[str]:
        """What runs its worker."""
        return [self.python, str(WORKERS / self.worker)]

    def require(self) -> None:
        """Raise UserError unless it is installed."""
        if self.python == sys.executable:
            import importlib.util

            there = importlib.util.find_spec(self.package) is not None
        else:
            check = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({self.package!r}) is None)"
            try:
                there = subprocess.run([self.python, "-c", check], capture_output=True).returncode == 0
            except OSError as error:
                raise UserError(f"{self.variable}: {self.python}: {error.strerror}; wanted a Python") from None
        if not there:
            raise UserError(f"--engine {self.name}: the package {self.package} is not installed; {self.install}")


ENGINES = {
    engine.name: engine
    for engine in (
        Engine("transformers", "transformers", "transformers_worker.py", ("adapter", "merged"), True, "`make install`"),
        Engine(
            "llama.cpp",
            "llama_cpp",
            "llama_cpp_worker.py",
            ("gguf",),
            True,
            "`make llama-cpp` compiles it, in some minutes; or TEXT2SQL_LLAMA_CPP_PYTHON names a Python that has it",
            "TEXT2SQL_LLAMA_CPP_PYTHON",
        ),
        Engine(
            "vllm",
            "vllm",
            "vllm_worker.py",
            ("adapter", "merged"),
            False,
            "TEXT2SQL_VLLM_PYTHON names the Python of an environment of its own that has it (docs/export.md)",
            "TEXT2SQL_VLLM_PYTHON",
        ),
    )
}
OF_FORMAT = {"adapter": "transformers", "merged": "transformers", "gguf": "llama.cpp", "vllm": "vllm"}


def run_worker(command: Sequence[str], job: Mapping[str, Any], what: str) -> list[dict]:
    """Run a worker's `command` on `job` and return its answers.

    Raises RunError, one line that begins with `what`, where its process fails or ends.
    """
    with tempfile.TemporaryDirectory() as folder:
        job_file, answers = Path(folder) / "job.json", Path(folder) / "answers.jsonl"
        write_json(job_file, dict(job))
        # Another environment's Python shall not find the packages of this one.
        left_out = () if command[0] == sys.executable else ("PYTHONPATH", "VIRTUAL_ENV")
        environment = {name: value for name, value in os.environ.items() if name not in left_out}
        done = subprocess.run(
            [*command, str(job_file), str(answers)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # vLLM says the cause of its end on its standard output
            text=True,
            errors="replace",
        )
        records = list(iter_jsonl(answers)) if answers.is_file() else []
    if done.returncode:
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise RunError(f"{what}: its process ended with {ended}: {_cause(done.stdout)}")
    return records


def _cause(said: str) -> str:
    """Return the first error that a process named, in a line: later ones only say that it ended; or its last lines."""
    named = _ERROR.search(said)
    words = named[0] if named else " ".join(said.strip().splitlines()[-_LAST_LINES:])
    return f"{' '.join(words.split()):.400}" or "it said nothing"


@dataclass(frozen=True)
class Asked:
    """What an engine said. `answers` are token ids, a list a question; `log_likelihoods` likewise for MMLU, or none."""

    engine: str
    version: str
    dtype: str
    device: str
    also_stop: list[int]
    answers: list[list[int]]
    log_likelihoods: list[list[float]]
    seconds: float
    loading_seconds: float


def ask(engine: Engine, job: Mapping[str, Any], shown: Sequence[str]) -> Asked:
    """Ask `engine`; `shown` names each question in messages.

    Raises RunError where its token ids of a prompt, or of where it stops, are not the evaluated ones, or where its
    process ends before the last answer.
    """
    records = run_worker(engine.command, job, f"--engine {engine.name}")
    first = records[0] if records else {}
    _check_prompts(engine.name, first.get("prompts"), job["expected"], shown)
    if first["stop"] != job["end_id"]:
        raise RunError(
            f"--engine {engine.name}: it stops at token {first['stop']}, and what was evaluated at {job['end_id']}; "
            "nothing was asked"
        )
    if not records[-1].get("done"):
        raise RunError(f"--engine {engine.name}: its process ended before the last answer")
    answers = {record["position"]: record["ids"] for record in records if "position" in record}
    mmlu = {record["mmlu"]: record["log_likelihoods"] for record in records if "mmlu" in record}
    return Asked(
        first["engine"],
        first["version"],
        first["dtype"],
        first["device"],
        first["also_stop"],
        [answers[position] for position in range(len(job["messages"]))],
        [mmlu[position] for position in range(len(mmlu))],
        next(record["seconds"] for record in records if "seconds" in record),
        first["loading_seconds"],
    )


def _check_prompts(name: str, found: Any, expected: list[list[int]], shown: Sequence[str]) -> None:
    if not isinstance(found, list) or len(found) != len(expected):
        raise RunError(f"--engine {name}: it said nothing of its prompts")
    other = [place for place, (one, wanted) in enumerate(zip(found, expected, strict=True)) if one != wanted]
    if other:
        one, wanted = found[other[0]], expected[other[0]]
        both = min(len(one), len(wanted))
        place = next((index for index in range(both) if one[index] != wanted[index]), both)
        raise RunError(
            f"--engine {name}: it reads {len(other)} of {len(expected)} prompts otherwise than they were evaluated, "
            f"first {shown[other[0]]}: from token {place} on {json.dumps(one[place : place + 8])}, and "
            f"{json.dumps(wanted[place : place + 8])} were evaluated; nothing was asked"
        )
