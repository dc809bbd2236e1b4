"""Run SQL that a language model wrote on a SQLite database, treating it as hostile.

`Executor` runs queries in worker processes, `run_query` one query in a process of its own. Both give a `Result` for
any text at all: rows, or an error and its kind.

Covered
- Writing: SQLite gets a copy of the database in memory, and knows no files; one above 128 MiB is opened read-only and
  as immutable, so that there is no lock, journal or WAL file either. An authorizer refuses whatever is not on a short
  list of reading actions, tables and functions; SQLite's temporary storage stays in memory; workers may not write
  a byte to any file (RLIMIT_FSIZE).
- Reading elsewhere: no ATTACH, no VACUUM INTO, no extension, no PRAGMA, no virtual table but json_each, json_tree and
  the database's own full-text and R-tree tables (so no table-valued PRAGMA), no function that reaches a file, the log,
  or the registry of tokenizers.
- Work: SQLite's virtual-machine steps are counted, so that a limit gives the same verdict on a busy machine. CPU time
  is the fallback: it does not advance while the machine is suspended. Between two steps, and while it prepares a
  query, SQLite cannot be interrupted: limits on lengths keep most of that short, and a CPU-time alarm kills the
  worker half a second after the limit. Wall-clock time is the last resort, at 120 times the limit.
- Memory: limits on values, patterns, statements and SQLite's heap, on the rows and bytes of a result, and on the
  address space of a worker.
- A worker that crashes or is killed costs one verdict and is replaced. Workers end with their parent, however it ends.

Not covered
- Faults in SQLite itself that let SQL run machine code. Databases made to exploit them: the file is trusted.
- Answers that differ from run to run by nature: `random()`, `randomblob`, `datetime('now')`, rows without ORDER BY.
- Values above 250 kB, patterns above 250 bytes and queries above 100 kB, which a plain connection would take (older
  builds of SQLite turn a `printf` that is too long into NULL, here as above their own limit); other virtual tables.
- Other builds of SQLite: they count steps and bytes a little differently, so that a query at the very edge of a limit
  may fall on either side; builds without memory statistics ignore the heap limit.
"""

import contextlib
import io
import itertools
import os
import pickle
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from text2sql.core.errors import RunError
from text2sql.execution.sandbox import ANY_PURPOSE, Limits, Purpose, Result
from text2sql.execution.worker import CLOCK_FACTOR, LENGTH_BYTES

__all__ = ["Executor", "Limits", "Purpose", "Result", "run_query"]

MAX_FAILED_STARTS = 5
BATCH = 32  # how many queries on a small database are sent together: a round trip takes as long as a quick query
SMALL_BYTES = 1_000_000  # a database below this is small: its queries are usually quick
RESULTS_AHEAD = 8  # how many queries a worker may be ahead of the result that is asked for

_Query = tuple[str | os.PathLike, str, Purpose]
_Task = tuple[Any, _Query]  # a query, and what its result is told by


def run_query(database: str | os.PathLike, sql: str, limits: Limits) -> Result:
    """Run `sql` on the SQLite file `database` in a process of its own (some 50 ms: for many, keep an `Executor`).

    Raises nothing, whatever the text; RunError where no process starts.
    """
    with Executor(limits, workers=1) as executor:
        return executor.run_all([(database, sql)])[0]


class Executor:
    """Worker processes that run queries, one at a time each. A context manager: the workers live as long as it.

    They share nothing with this process but a pipe: each is a fresh interpreter (some 50 ms), whatever is loaded here.
    """

    def __init__(self, limits: Limits, workers: int | None = None) -> None:
        self._limits = limits
        self._count = workers or os.cpu_count() or 1
        self._workers: list[_Worker] = []
        self._never_started = 0

    def __enter__(self) -> "Executor":
        for _ in range(self._count):
            self._workers.append(_Worker(self._limits))
        return self

    def __exit__(self, *exception: object) -> None:
        while self._workers:
            self._workers.pop().end()

    def run_all(self, queries: Iterable[tuple[str | os.PathLike, str]]) -> list[Result]:
        """Run (database, sql) pairs and return their results in order; equal pairs run once.

        Raises RunError where workers do not start.
        """
        queries = list(queries)
        different = dict.fromkeys(queries)
        results = dict(zip(different, self.run_each(different)))
        return [results[query] for query in queries]

    def run_each(self, queries: Iterable[tuple[str | os.PathLike, str]]) -> Iterator[Result]:
        """Yield the results of (database, sql) pairs in order, with only a few of them in memory at a time."""
        results: dict[int, Result] = {}
        following = 0
        ahead = RESULTS_AHEAD * len(self._workers)
        waiting: deque[_Task] = deque(
            (position, (database, sql, ANY_PURPOSE)) for position, (database, sql) in enumerate(queries)
        )

        def one() -> list[_Task]:
            return [waiting.popleft()] if waiting and waiting[0][0] < following + ahead else []

        for position, result in self._run(one):
            results[position] = result
            while following in results:
                result = results.pop(following)
                following += 1
                yield result

    def run_unordered(
        self, queries: Iterable[_Query], groups: Sequence[Hashable] | None = None
    ) -> Iterator[tuple[int, Result]]:
        """Yield the results of (database, sql, purpose) triples as they come, each with its query's position.

        Queries begin in the order given: with long ones first, the workers end at about the same time. Those in a row
        that are of one of `groups`, one a query, run on one worker, unless it dies.
        """
        tasks = deque(enumerate(queries))
        if groups is None:
            return self.run_growing(tasks)
        batches = deque(_grouped(tasks, groups))
        return self._run(lambda: batches.popleft() if batches else [])

    def run_growing(self, waiting: deque[tuple[Any, _Query]]) -> Iterator[tuple[Any, Result]]:
        """Yield the results of pairs of a tag and a query as they come, each with its query's tag.

        `waiting` may be extended at both ends while results are taken: its first query begins next. Ends when it is
        empty and all have run.
        """
        return self._run(lambda: _batch(waiting))

    def _run(self, next_batch: Callable[[], list[_Task]]) -> Iterator[tuple[Any, Result]]:
        """Run what `next_batch` gives, an empty list where no query may begin now."""
        if not self._workers:
            raise RuntimeError("an Executor runs queries only inside its context: with Executor(…) as executor")
        unsent: list[list[_Task]] = []
        answers: list[tuple[Any, Result]] = []
        try:
            while True:
                self._send(unsent, next_batch)
                if answers:  # once all workers are busy again
                    yield from answers
                    answers = []
                    continue
                if not unsent and not any(worker.waiting for worker in self._workers):
                    batch = [] if all(worker.started for worker in self._workers) else next_batch()
                    if not batch:
                        return
                    unsent.append(batch)  # for a worker that is about to start
                for place in self._readable():
                    worker = self._workers[place]
                    answers += worker.receive()
                    if not worker.alive:
                        # One of these killed it: run each alone to find which.
                        unsent += ([task] for task in reversed(worker.waiting))
                        self._replace(place)
        finally:
            for place, worker in enumerate(self._workers):
                if worker.alive and worker.waiting:  # the consumer stopped: its pending answers are discarded
                    worker.end()
                    self._replace(place)

    def _send(self, unsent: list[list[_Task]], next_batch: Callable[[], list[_Task]]) -> None:
        for worker in self._workers:
            if worker.idle and (batch := unsent.pop() if unsent else next_batch()):
                if not worker.send(batch):
                    unsent.append(batch)

    def _replace(self, position: int) -> None:
        lost = self._workers[position]
        # One failed start may be chance, a row of them is not.
        self._never_started = 0 if lost.started else self._never_started + 1
        if self._never_started == MAX_FAILED_STARTS:
            raise RunError(f"worker processes for SQL queries do not start (exit code {lost.process.returncode})")
        self._workers[position] = _Worker(self._limits)

    def _readable(self) -> list[int]:
        """Wait until workers have output; return which."""
        with selectors.DefaultSelector() as selector:
            for position, worker in enumerate(self._workers):
                selector.register(worker.stdout, selectors.EVENT_READ, position)
            return [key.data for key, _ in selector.select()]


def _batch(waiting: deque[_Task]) -> list[_Task]:
    """Take the first task of `waiting`, or several in a row: on one small database, or answers to one question."""
    if not waiting:
        return []
    batch = [waiting.popleft()]
    database, _, purpose = batch[0][1]
    is_small = os.path.isfile(database) and os.path.getsize(database) < SMALL_BYTES
    while waiting and len(batch) < BATCH and waiting[0][1][0] == database:
        # They read the same pages of the database, which their worker then has at hand.
        if not is_small and set(purpose.known).isdisjoint(waiting[0][1][2].known):
            break
        batch.append(waiting.popleft())
    return batch


def _grouped(tasks: Iterable[_Task], groups: Sequence[Hashable]) -> Iterator[list[_Task]]:
    """Yield all `tasks` in order: group by group, or several groups in a row on a small database together."""
    of_group = zip(tasks, groups, strict=True)
    for database, on_one in itertools.groupby(of_group, key=lambda one: one[0][1][0]):
        is_small = os.path.isfile(database) and os.path.getsize(database) < SMALL_BYTES
        batch: list[_Task] = []
        for _, members in itertools.groupby(on_one, key=lambda one: one[1]):
            following = [task for task, _ in members]
            if batch and not (is_small and len(batch) + len(following) <= BATCH):
                yield batch
                batch = []
            batch += following
        yield batch


class _Worker:
    """The parent's end of one worker process. It gets new queries once it has answered all pending ones."""

    def __init__(self, limits: Limits) -> None:
        program = "import sys; sys.path.append(sys.argv[1]); from text2sql.execution.worker import serve; serve()"
        command = [sys.executable, "-I", "-S", "-c", program, str(Path(__file__).absolute().parents[2])]
        # Unbuffered, so that the selector sees all that has arrived.
        self.process = subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.waiting: deque[_Task] = deque()  # its pending queries, in order
        self.alive = True
        self.started = False
        self._limits = limits
        self._sent = time.monotonic()
        self._write(limits)

    @property
    def idle(self) -> bool:
        return self.started and self.alive and not self.waiting

    def send(self, tasks: list[_Task]) -> bool:
        """Hand over queries. False where the worker has ended, which `receive` will find too."""
        self._sent = time.monotonic()
        if not self._write([(os.fsencode(os.path.abspath(database)), *rest) for _, (database, *rest) in tasks]):
            return False
        self.waiting.extend(tasks)
        return True

    def _write(self, message: object) -> bool:
        content = memoryview(pickle.dumps(message))
        try:
            while content:
                content = content[self.stdin.write(content) :]
        except OSError:
            return False
        return True

    def receive(self) -> list[tuple[Any, Result]]:
        """Return results that have come, with their queries' tags: none where the worker has started or ended.

        A worker that ended amid a single query gives its result, too.
        """
        try:
            content = io.BytesIO(self._read(int.from_bytes(self._read(LENGTH_BYTES))))
        except (EOFError, OSError):
            return self._bury()
        if not self.started:
            self.started = True
            return []
        answers = []
        while content.tell() < len(content.getbuffer()):
            answers.append((self.waiting.popleft()[0], pickle.load(content)))
        return answers

    def _read(self, size: int) -> bytes:
        content = bytearray()
        while len(content) < size:
            piece = self.stdout.read(size - len(content))
            if not piece:
                raise EOFError
            content += piece
        return bytes(content)

    def _bury(self) -> list[tuple[Any, Result]]:
        self.end()
        if len(self.waiting) != 1:
            return []
        code = self.process.returncode
        seconds = self._limits.timeout_s
        kind = "limit"
        if code == -signal.SIGPROF:
            message = f"{seconds:g} seconds of processor time were not enough"
        elif code == -signal.SIGALRM:
            message = f"{CLOCK_FACTOR * seconds:g} seconds on the clock were not enough"
        else:
            kind, message = "crash", f"the worker process ended (exit code {code})"
        return [(self.waiting.popleft()[0], Result((), (), message, kind, time.monotonic() - self._sent))]

    def end(self) -> None:
        """Kill the process and wait for its end."""
        self.alive = False
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            self.stdin.close()
        self.stdout.close()
