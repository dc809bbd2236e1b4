"""A worker process of `text2sql.execution.executor`, whose docstring lists what is guarded against.

It imports no more than it needs: two of them start for each command that runs SQL.
"""

import contextlib
import os
import pickle
import queue
import resource
import signal
import sqlite3
import sys
import threading
import time

from text2sql.execution.sandbox import MAX_HEAP_BYTES, Limits, Purpose, Result, Sandbox, failure

GRACE_S = 0.5  # of CPU time: how long after the time limit the alarm kills a worker
CLOCK_FACTOR = 120  # wall-clock limit, as a multiple of the CPU time limit
MAX_ANSWER_BYTES = 100_000  # a worker flushes its answers beyond this, before its batch is done
LENGTH_BYTES = 8  # before a message, its length


def serve() -> None:
    """Be a worker process: read limits and then queries from standard input, write results to standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    for alarm in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(alarm, signal.SIG_DFL)  # an ignored signal would be inherited
    messages: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_read_messages, args=(messages,), daemon=True).start()
    limits = messages.get()
    _confine(limits)
    _write_answers([])
    server = _Server(limits)
    while True:
        answers = []
        for query in messages.get():
            answers.append(server.answer(*query))
            if sum(map(len, answers)) > MAX_ANSWER_BYTES:
                _write_answers(answers)
                answers = []
        if answers:
            _write_answers(answers)


def _write_answers(answers: list[bytes]) -> None:
    size = sum(map(len, answers))
    sys.stdout.buffer.writelines([size.to_bytes(LENGTH_BYTES), *answers])
    sys.stdout.buffer.flush()


def _confine(limits: Limits) -> None:
    """Set the resource limits of this process: memory, file size, core dumps."""
    memory = MAX_HEAP_BYTES + 1_000_000_000 + int(8_000_000 * limits.max_megabytes)
    for what, value in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (value, value))


class _Server:
    """Runs a worker's queries. It keeps the last database open until an error."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._database: str | None = None
        self._sandbox: Sandbox | None = None

    def answer(self, database: bytes, sql: str, purpose: Purpose) -> bytes:
        """Run a query; return its pickled result."""
        started = time.process_time()
        self._set_alarms(self._limits.timeout_s + GRACE_S, self._limits.timeout_s * CLOCK_FACTOR)
        try:
            message = pickle.dumps(self._run(os.fsdecode(database), sql, purpose))
        except MemoryError:
            self._close()
            message = pickle.dumps(failure("too_large", "the result does not fit the memory of a worker", started))
        self._set_alarms(0, 0)
        return message

    @staticmethod
    def _set_alarms(processor_s: float, clock_s: float) -> None:
        """Let the alarms' default action kill this process, even inside a call of SQLite."""
        signal.setitimer(signal.ITIMER_PROF, processor_s)
        signal.setitimer(signal.ITIMER_REAL, clock_s)

    def _run(self, database: str, sql: str, purpose: Purpose) -> Result:
        started = time.process_time()
        if database != self._database:
            self._close()
            try:
                self._sandbox = Sandbox(database)
            except (sqlite3.Error, OSError) as error:
                return failure("sqlite", f"{database}: {error}", started)
            self._database = database
        assert self._sandbox is not None
        result = self._sandbox.run(sql, self._limits, purpose)
        if result.error_kind not in (None, "sqlite", "width"):
            self._close()
        return result

    def _close(self) -> None:
        if self._sandbox is not None:
            self._sandbox.close()
        self._sandbox = self._database = None


def _read_messages(messages: queue.SimpleQueue) -> None:
    """Queue the parent's messages; exit at once, even during a query, when the parent has ended."""
    try:
        while True:
            messages.put(pickle.load(sys.stdin.buffer))
    finally:
        os._exit(0)
