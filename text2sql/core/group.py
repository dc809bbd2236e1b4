"""What the processes of one run tell one another beside their work, through the store that their launcher keeps.

Who they are, which part of the work each takes next, and that they still run. A thread of each watches the others:
where one is killed or gives no sign of life, this process says in one line which, and ends. No exception could: the
main thread may be waiting for the lost process in a kernel of NCCL.
"""

import atexit
import contextlib
import itertools
import json
import os
import platform
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from text2sql.core.digests import digest_of
from text2sql.core.errors import RunError, UserError
from text2sql.core.timing import versions

BEAT_S = 2.0  # between two signs of life
# Below a minute, and beyond what a library that is loaded keeps a process's other threads from running.
SILENT_S = 45.0
SLOW_S = 60.0  # of waiting, before a line says for whom
GOES_ON = "once what ended it is mended, the same command goes on"


@dataclass(frozen=True)
class Member:
    """One process of the run: its machine, by name and told apart from others of that name, and its libraries."""

    host: str
    machine: str
    pid: int
    versions: Mapping[str, str]

    @classmethod
    def here(cls) -> "Member":
        """Return this process."""
        libraries = {"python": platform.python_version(), **versions()}
        return cls(socket.gethostname(), _machine(), os.getpid(), libraries)


class Group:
    """The processes of one run, seen from the one with number `index`."""

    def __init__(self, store: Any, index: int, members: Sequence[Member]) -> None:
        """`store` is one of `torch.distributed`'s that all `members` share."""
        self._store, self._index, self.members = store, index, members
        self._deals = itertools.count()
        self._left: set[int] = {index}  # those that no longer need to give a sign of life
        self._leaving = threading.Event()
        self._waits_since: float | None = None

    @classmethod
    def join(cls, store: Any, index: int, count: int) -> "Group":
        """Return the group of `count` processes, once all are there.

        Raises RunError where one does not come, before the store's patience ends.
        """
        store.set(f"member/{index}", json.dumps(asdict(Member.here())))
        members = []
        for number in range(count):
            try:
                members.append(Member(**json.loads(store.get(f"member/{number}"))))
            except RuntimeError as error:
                raise RunError(f"process {number + 1} of {count} did not start; see what its machine says") from error
        return cls(store, index, members)

    def deal(self, parts: int) -> Iterator[int]:
        """Yield those of the `parts` that this process is to do: the next that none has taken, until none is left.

        Whoever is slow takes fewer. All processes call it for the same work in the same order.
        """
        work = next(self._deals)
        while (part := self._store.add(f"dealt/{work}", 1) - 1) < parts:
            yield part

    def name(self, index: int | None = None) -> str:
        """Return how lines name a process, by default this one."""
        index = self._index if index is None else index
        member = self.members[index]
        return f"process {index + 1} of {len(self.members)} (pid {member.pid} on {member.host})"

    def is_first_to_say(self, line: str) -> bool:
        """Whether no other process of this machine has said, or is to say, the same."""
        try:
            return self._store.add(f"said/{self.members[self._index].machine}/{digest_of(line)}", 1) == 1
        except RuntimeError:
            return True  # no store: better twice than never

    def leave(self, code: int = 0, said: str = "", line: str = "") -> None:
        """Tell the others that this process ends, and with which exit code; they end too unless it is 0.

        `line` is what it said of it, and `said` the part of it that all processes say alike.
        """
        if not self._leaving.is_set():
            self._leaving.set()
            with contextlib.suppress(RuntimeError):
                self._store.set(f"end/{self._index}", json.dumps([code, said, line]))

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a wait for the others: should it last, one line says for whom."""
        self._store.add(f"arrived/{self._index}", 1)
        self._waits_since = time.monotonic()
        try:
            yield
        finally:
            self._waits_since = None

    def watch(self) -> None:
        """Give signs of life from now on, and end this process where another is lost."""
        atexit.register(self.leave)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        try:
            with _Siblings(self.members, self._index) as siblings:
                seen = {number: (0, time.monotonic()) for number in range(len(self.members))}
                while not self._leaving.is_set():
                    ended = siblings.ended(BEAT_S)
                    self._store.add(f"beat/{self._index}", 1)
                    self._look_for_ends(ended)
                    self._look_for_silence(seen)
                    self._say_who_is_slow()
        except RuntimeError:  # the store's, which the first process or its launcher has
            if not self._leaving.wait(2 * BEAT_S):  # as it also goes at the end of a run
                self._end(f"the launcher of {self.name(0)}, or its machine, is lost; {GOES_ON}", 1)

    def _look_for_ends(self, ended: Mapping[int, str]) -> None:
        for number in set(range(len(self.members))) - self._left:
            if self._store.check([f"end/{number}"]):
                self._left.add(number)
                code, said, line = json.loads(self._store.get(f"end/{number}"))
                if code:
                    self._end(line, code, said)
            elif number in ended:
                # One line of it: how it ended is gone where another process looked later.
                self._end(f"{self.name(number)} {ended[number]}; {GOES_ON}", 1, f"{self.name(number)} has ended")

    def _look_for_silence(self, seen: dict[int, tuple[int, float]]) -> None:
        now = time.monotonic()
        for number in set(seen) - self._left:
            beats = self._store.add(f"beat/{number}", 0)
            if beats != seen[number][0]:
                seen[number] = beats, now
            elif now - seen[number][1] > SILENT_S:
                self._end(f"{self.name(number)} gave no sign of life for {SILENT_S:.0f} s; {GOES_ON}", 1)

    def _say_who_is_slow(self) -> None:
        if self._waits_since is None or time.monotonic() - self._waits_since < SLOW_S:
            return
        self._waits_since = None
        arrived = [self._store.add(f"arrived/{number}", 0) for number in range(len(self.members))]
        late = [self.name(number) for number, waits in enumerate(arrived) if waits < arrived[self._index]]
        line = f"waiting for {', '.join(late)} for {SLOW_S:.0f} s by now"
        if late and self.is_first_to_say(f"{line}, {arrived[self._index]}"):
            _write(line)

    def _end(self, line: str, code: int, said: str | None = None) -> None:
        said = said or line
        if self.is_first_to_say(said):
            _write(f"error: {line}")
        self.leave(code, said, line)
        os._exit(code)  # whatever the main thread waits for


class _Siblings:
    """The other processes of this machine: each one's end is seen as it happens, where the system shows it."""

    def __init__(self, members: Sequence[Member], index: int) -> None:
        self._poll, self._numbers, self._pids = select.poll(), {}, [member.pid for member in members]
        for number, member in enumerate(members):
            if number != index and member.machine == members[index].machine and hasattr(os, "pidfd_open"):
                with contextlib.suppress(OSError):
                    file = os.pidfd_open(member.pid)
                    self._numbers[file] = number
                    self._poll.register(file, select.POLLIN)

    def __enter__(self) -> "_Siblings":
        return self

    def __exit__(self, *error: Any) -> None:
        for file in self._numbers:
            os.close(file)

    def ended(self, seconds: float) -> dict[int, str]:
        """Wait for so long, or until one ends; return how those ended that had not before."""
        found = {}
        for file, _ in self._poll.poll(seconds * 1000):
            self._poll.unregister(file)
            number = self._numbers[file]
            found[number] = _how_it_ended(self._pids[number])
        return found


def _how_it_ended(pid: int) -> str:
    """Return how a process ended; its launcher has it removed within a tenth of a second."""
    try:
        # The last field, by proc(5) `exit_code`, is what waitpid(2) gives.
        status = int(Path(f"/proc/{pid}/stat").read_text().rpartition(" ")[2])
    except (OSError, ValueError):
        return "has ended without a word"
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"has ended with exit code {os.WEXITSTATUS(status)}"


def check_same_versions(members: Sequence[Member]) -> None:
    """Raise UserError where not all processes have the same libraries."""
    first = members[0].versions
    for number, member in enumerate(members):
        for library in sorted({*first, *member.versions}):
            ours, theirs = first.get(library, "not installed"), member.versions.get(library, "not installed")
            if ours != theirs:
                raise UserError(
                    f"{library}: {ours} in process 1 (on {members[0].host}), {theirs} in process {number + 1} "
                    f"(on {member.host}); all processes of a run take the same"
                )


def _machine() -> str:
    """Return what tells this machine, and the pids that are seen on it, from all others."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def _write(line: str) -> None:
    # The main thread may hold `sys.stderr`. Written at once, so that no other line comes in between.
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{line}\n".encode(errors="backslashreplace"))
