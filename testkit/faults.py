"""Faults for a stage in a process of its own: killed or out of disk space at the n-th write, or with a clock that errs.

Each is called in the process before the stage starts.
"""

import errno
import importlib
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

KILLED, DISK_FULL = "killed", "disk full"


@dataclass(frozen=True)
class At:
    """The fault `kind` before the n-th call, counted from 1, of a function such as "os.replace"."""

    function: str
    number: int
    kind: str = KILLED

    def __call__(self) -> None:
        """Replace the function by one that counts."""
        module = importlib.import_module(self.function.rpartition(".")[0])
        name = self.function.rpartition(".")[2]
        function, calls = getattr(module, name), 0

        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == self.number and self.kind == KILLED:
                os.killpg(0, signal.SIGKILL)
            if calls == self.number and self.kind == DISK_FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*arguments, **options)

        setattr(module, name, counted)


@dataclass(frozen=True)
class FilesUpTo:
    """No file grows beyond so many bytes, whatever library writes it: the write fails as on a full disk."""

    size: int

    def __call__(self) -> None:
        """Set the limit, which holds for the processes that it starts as well."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


@dataclass(frozen=True)
class ClockGoesBack:
    """The time of day is an hour less at each look; the monotonic clock is not affected."""

    def __call__(self) -> None:
        """Replace the clocks by ones that run backwards."""
        looks = 0

        def back(clock: Callable, hour: int) -> Callable:
            def wrong() -> Any:
                nonlocal looks
                looks += 1
                return clock() - looks * hour

            return wrong

        time.time, time.time_ns = back(time.time, 3600), back(time.time_ns, 3600 * 10**9)
