"""`testkit.shared_work` in several processes, started by torchrun, as users do.

On one "node", or on two that share this machine and its disk.
"""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
LONGEST_S = 240  # of a start: a run that hangs waits for half an hour


class Outcome:
    """What the tasks of one start wrote into `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str) -> Any:
        return json.loads((self.folder / f"{name}.json").read_text())

    def adapter_bytes(self) -> bytes:
        return (self.folder / "adapter" / "adapter_model.safetensors").read_bytes()

    def journaled(self, task: str) -> dict[int, int]:
        """How many answers each process has written into the journal of the task: {process: answers}."""
        files = (self.folder / "journals").glob(f"{task}-[0-9a-f]*-*.jsonl")
        return {int(file.stem.rpartition("-")[2]): file.read_bytes().count(b"\n") for file in files}

    def checkpoint(self) -> int:
        """The step of the last whole checkpoint."""
        steps = (self.folder / "checkpoints").glob("train_m1-*/step-*/manifest.json")
        return max((int(path.parent.name.partition("-")[2]) for path in steps), default=0)


class Start(Outcome):
    """One start by torchrun; on two nodes, each is one, and they share `folder`."""

    def __init__(
        self, base: Path, folder: Path, tasks: Sequence[str], launcher: Sequence[str], **environment: str
    ) -> None:
        super().__init__(folder)
        torchrun = [sys.executable, "-m", "torch.distributed.run", *launcher]
        command = [*torchrun, "-m", "testkit.shared_work", str(base), str(folder), *tasks]
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
        environment.pop("TEXT2SQL_DEBUG", None)
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def wait(self) -> "Start":
        """Wait for its end; `lines` and `code` say how it was."""
        try:
            output, _ = self._process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.communicate()
            raise
        self.lines, self.code = output.splitlines(), self._process.returncode
        return self

    def succeeded(self) -> "Start":
        assert self.wait().code == 0, "\n".join(self.lines[-40:])
        return self

    def errors(self) -> list[str]:
        """What the processes said of their end, torchrun's own long words left out."""
        # Its last words are a traceback, which begins after this line.
        own = list(itertools.takewhile(lambda line: not re.match(r"E\d{4} .* failed \(exitcode", line), self.lines))
        return re.findall(r"error: .*|process \d+ of \d+: .*|Traceback.*", "\n".join(own))

    def terminate(self) -> None:
        """Send torchrun a SIGTERM, as a scheduler does."""
        self._process.terminate()

    def kill_torchrun(self) -> None:
        """End torchrun as `kill -9` does; its processes are left."""
        self._process.kill()

    def pids(self) -> list[int]:
        """The processes' ids, once all have started."""
        self.wait_until(lambda: (self.folder / "processes.json").is_file())
        return [process["pid"] for process in self.read("processes")]

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait until it is so, while it runs."""
        while not is_so():
            if self._process.poll() is not None:
                raise AssertionError(f"it has ended: {self.wait().lines[-40:]}")
            time.sleep(0.01)


def on_one_node(count: int) -> list[str]:
    """Return torchrun's arguments for so many processes."""
    return ["--nproc_per_node", str(count)]


def on_two_nodes(each: int = 1) -> list[list[str]]:
    """Return torchrun's arguments for so many processes on each of two nodes, which find each other over loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = ["--nnodes", "2", "--nproc_per_node", str(each), "--rdzv-backend", "c10d", "--local-addr", "127.0.0.1"]
    return [[*common, "--rdzv-endpoint", f"127.0.0.1:{port}"]] * 2


def seconds_until_gone(pids: Sequence[int]) -> float:
    """Wait until none of the processes is left; return how long that took."""
    started = time.monotonic()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(pid, 0)
                time.sleep(0.05)
    return time.monotonic() - started


def kill(pid: int) -> None:
    """End one process as `kill -9` does, where it still is."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
