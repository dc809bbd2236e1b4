"""Faults at the n-th call of a function that writes: a killed process, or a disk that is full."""

import errno
import os
import signal
from collections.abc import Callable
from typing import Any

# By these calls a file comes to be, reaches the disk, takes its final name, or goes.
WRITES = ("os.fsync", "os.replace", "os.unlink", "os.chmod")


class Counter:
    """Takes the place of a function and counts its calls; `fault()` runs before the n-th (counted from 1)."""

    def __init__(self, function: Callable, number: int, fault: Callable[[], Any]) -> None:
        self.calls = 0
        self._function, self._number, self._fault = function, number, fault

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls == self._number:
            self._fault()
        return self._function(*arguments, **options)


def kill_at(name: str, number: int) -> None:
    """Kill this process and its group before the n-th call of `os.…`."""
    function = name.removeprefix("os.")
    setattr(os, function, Counter(getattr(os, function), number, lambda: os.killpg(0, signal.SIGKILL)))


def disk_is_full() -> None:
    """Fail as a write on a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
