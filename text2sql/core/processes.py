"""The processes of one run: one by default, more under `torchrun` (or, on GPUs, `accelerate launch`)."""

import contextlib
import datetime
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from text2sql.core.errors import RunError, UserError
from text2sql.core.group import BEAT_S, GOES_ON, SILENT_S, Group, check_same_versions

JOIN_S = 300  # until all processes have imported PyTorch, from a disk that may be slow
# Until a signal that torchrun sends all others, as one ends, is taken for the user's: the watch says which has ended.
VERDICT_S = 1.0


@dataclass(frozen=True)
class Processes:
    """This process's number, how many there are, and what they tell one another; one process has no `group`."""

    index: int = 0
    count: int = 1
    group: Group | None = field(default=None, compare=False)

    @property
    def is_main(self) -> bool:
        """Whether this process writes outputs."""
        return self.index == 0

    def deal(self, parts: int) -> Iterator[int]:
        """Yield those of the `parts` of some work that are this process's, see `Group.deal`."""
        dealt = iter(range(self.index, parts, self.count)) if self.group is None else self.group.deal(parts)
        while True:
            with self.together():
                part = next(dealt, None)
            if part is None:
                return
            yield part

    def wait(self) -> None:
        """Wait until all processes are here. Raises RunError where one has ended."""
        if self.count > 1:
            from accelerate import PartialState

            with self.together(), self.group.waiting() if self.group else contextlib.nullcontext():
                PartialState().wait_for_everyone()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Around work that exchanges data: turn the loss of another process into one line.

        Gloo's errors are plain RuntimeErrors that name it, NCCL's and the store's are PyTorch's own.
        """
        try:
            yield
        except RuntimeError as error:
            from torch.distributed import DistError

            if self.count == 1 or not (isinstance(error, DistError) or "gloo" in str(error).lower()):
                raise
            _on_sigterm(signal.SIG_IGN)  # this one ends by itself, with one line
            if self.group:
                time.sleep(SILENT_S + 5 * BEAT_S)  # the watch knows which process it is, and ends this one
            raise RunError(f"another process of this run has ended; {GOES_ON}") from error


def current_processes() -> Processes:
    """Return this process's place under torchrun or `accelerate launch`, with its GPU selected.

    Raises UserError where a machine has more processes than GPUs, or not all have the same versions of libraries;
    RunError where one of them does not start.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        # A launcher of one process: without its variables the run is the same as without it.
        for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
            os.environ.pop(name, None)
        return Processes()
    import torch
    from accelerate import PartialState

    if _joined:
        return _joined[0]
    on_cpu = not torch.cuda.is_available()
    if on_cpu:
        # By itself it names the device `cpu:0`, which PyTorch loads no checkpoint's optimizer onto.
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    else:
        check_gpus(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count())
    index, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    # Versions are compared before anything is exchanged by them.
    store = next(torch.distributed.rendezvous("env://", timeout=datetime.timedelta(seconds=JOIN_S)))[0]
    group = Group.join(torch.distributed.PrefixStore("text2sql", store), index, count)
    processes = Processes(index, count, group)
    _joined.append(processes)
    check_same_versions(group.members)
    # Without `cpu` it takes each process on a machine without GPUs for the only one.
    PartialState(cpu=on_cpu)

    def stop(number: int, frame: Any) -> None:
        time.sleep(VERDICT_S)
        line = f"process {index + 1} of {count}: stopped by SIGTERM"
        if group.is_first_to_say(line):
            print(line, file=sys.stderr, flush=True)
        group.leave(128 + number, line, line)
        sys.exit(128 + number)

    _on_sigterm(stop)  # torchrun sends it to all the others where a process has ended
    group.watch()
    return processes


_joined: list[Processes] = []  # this one, once it has joined a group


def check_gpus(processes: int, gpus: int) -> None:
    """Raise UserError where a machine of so many GPUs has more processes than those: each needs one of its own."""
    if processes > gpus:
        raise UserError(
            f"{processes} processes on this machine, which has {gpus} GPU{'s' if gpus > 1 else ''}: "
            f"takes at most --nproc_per_node {gpus}"
        )


def last_words(message: str, code: int, names_process: bool) -> str | None:
    """Tell the other processes of this run, if any, that this one ends with the exit code `code`.

    Returns what is to be printed of it: `message`, with this process's name where it `names_process`. None where
    another process says the same: bad input ends all of them.
    """
    group = _joined[0].group if _joined else None
    if group is None:  # or not yet: the processes of one machine find the same bad input
        return message if names_process or os.environ.get("LOCAL_RANK", "0") == "0" else None
    line = f"{group.name()}: {message}" if names_process else message
    said = group.is_first_to_say(message)
    group.leave(code, message, line)
    return line if said else None


def _on_sigterm(handler: Any) -> None:
    if threading.current_thread() is threading.main_thread():  # the only one that may
        signal.signal(signal.SIGTERM, handler)
