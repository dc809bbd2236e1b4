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
import queue
import resource
import selectors
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path

from text2sql.core.errors import RunError
from text2sql.execution.sandbox import ANY_PURPOSE, MAX_HEAP_BYTES, Limits, Purpose, Result, Sandbox, failure

__all__ = ["Executor", "Limits", "Purpose", "Result", "run_query"]

GRACE_S = 0.5  # of CPU time: how long after the time limit the alarm kills a worker
CLOCK_FACTOR = 120  # wall-clock limit, as a multiple of the CPU time limit
MAX_FAILED_STARTS = 5
BATCH = 32  # how many queries on a small database are sent together: a round trip takes as long as a quick query
SMALL_BYTES = 1_000_000  # a database below this is small: its queries are usually quick
MAX_ANSWER_BYTES = 100_000  # a worker flushes its answers beyond this, before its batch is done
RESULTS_AHEAD = 8  # how many queries a worker may be ahead of the result that is asked for


_LENGTH_BYTES = 8
_Query = tuple[str | os.PathLike, str, Purpose]


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
        tasks = [(database, sql, ANY_PURPOSE) for database, sql in queries]
        singly = ([position] for position in range(len(tasks)))
        for position, result in self._run(tasks, singly, lambda position: position < following + ahead):  # noqa: B023
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
        queries = list(queries)
        return self._run(queries, _batches(queries, groups or range(len(queries))), lambda position: True)

    def _run(
        self, queries: list[_Query], batches: Iterable[list[int]], may_begin: Callable[[int], bool]
    ) -> Iterator[tuple[int, Result]]:
        if not self._workers:
            raise RuntimeError("an Executor runs queries only inside its context: with Executor(…) as executor")
        unsent = deque(batches)
        missing = len(queries)
        try:
            while missing:
                for worker in self._workers:
                    if worker.idle and unsent and may_begin(unsent[0][0]):
                        if worker.send(unsent[0], [queries[position] for position in unsent[0]]):
                            unsent.popleft()
                for place in self._readable():
                    worker = self._workers[place]
                    answers = worker.receive()
                    if not worker.alive:
                        # One of these killed it: run each alone to find which.
                        unsent.extendleft([position] for position in worker.waiting)
                        self._replace(place)
                    missing -= len(answers)
                    yield from answers
        finally:
            for place, worker in enumerate(self._workers):
                if worker.alive and worker.waiting:  # the consumer stopped: its pending answers are discarded
                    worker.end()
                    self._replace(place)

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


def _batches(queries: list[_Query], groups: Sequence[Hashable]) -> Iterator[list[int]]:
    """Yield the positions of all queries in order: group by group, or several in a row on a small database together."""
    for database, positions in itertools.groupby(range(len(queries)), key=lambda position: queries[position][0]):
        is_small = os.path.isfile(database) and os.path.getsize(database) < SMALL_BYTES
        batch: list[int] = []
        for _, members in itertools.groupby(positions, key=groups.__getitem__):
            following = list(members)
            if batch and not (is_small and len(batch) + len(following) <= BATCH):
                yield batch
                batch = []
            batch += following
        yield batch


class _Worker:
    """The parent's end of one worker process. It gets new queries once it has answered all pending ones."""

    def __init__(self, limits: Limits) -> None:
        program = "import sys; sys.path.append(sys.argv[1]); from text2sql.execution.executor import _serve; _serve()"
        command = [sys.executable, "-I", "-S", "-c", program, str(Path(__file__).absolute().parents[2])]
        # Unbuffered, so that the selector sees all that has arrived.
        self.process = subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.waiting: deque[int] = deque()  # positions of its pending queries, in order
        self.alive = True
        self.started = False
        self._limits = limits
        self._sent = time.monotonic()
        self._write(limits)

    @property
    def idle(self) -> bool:
        return self.started and self.alive and not self.waiting

    def send(self, positions: list[int], queries: list[_Query]) -> bool:
        """Hand over queries. False where the worker has ended, which `receive` will find too."""
        self._sent = time.monotonic()
        if not self._write([(os.fsencode(Path(database).absolute()), *rest) for database, *rest in queries]):
            return False
        self.waiting.extend(positions)
        return True

    def _write(self, message: object) -> bool:
        content = memoryview(pickle.dumps(message))
        try:
            while content:
                content = content[self.stdin.write(content) :]
        except OSError:
            return False
        return True

    def receive(self) -> list[tuple[int, Result]]:
        """Return results that have come, with their queries' positions: none where the worker has started or ended.

        A worker that ended amid a single query gives its result, too.
        """
        try:
            content = io.BytesIO(self._read(int.from_bytes(self._read(_LENGTH_BYTES))))
        except (EOFError, OSError):
            return self._bury()
        if not self.started:
            self.started = True
            return []
        answers = []
        while content.tell() < len(content.getbuffer()):
            answers.append((self.waiting.popleft(), pickle.load(content)))
        return answers

    def _read(self, size: int) -> bytes:
        content = bytearray()
        while len(content) < size:
            piece = self.stdout.read(size - len(content))
            if not piece:
                raise EOFError
            content += piece
        return bytes(content)

    def _bury(self) -> list[tuple[int, Result]]:
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
        return [(self.waiting.popleft(), Result((), (), message, kind, time.monotonic() - self._sent))]

    def end(self) -> None:
        """Kill the process and wait for its end."""
        self.alive = False
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            self.stdin.close()
        self.stdout.close()


def _serve() -> None:
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
    sys.stdout.buffer.writelines([size.to_bytes(_LENGTH_BYTES), *answers])
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
