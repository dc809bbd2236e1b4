"""Run SQL queries in plain SQLite, in two processes, and nothing else: what a scorer is measured against.

    python benchmarks/plain_sqlite.py STEPS < queries.json

Reads a list of [database, query] pairs. Each process takes the next one when it is free, and keeps its connection to a
database open, for reading only, while the same one comes; a query ends after so many steps. Needs no package.
"""

import json
import sqlite3
import sys
from multiprocessing import Process, Value

INTERVAL = 1_000  # steps between calls of the progress handler


class Steps:
    """Counts a query's steps, and stops it at the limit."""

    def __init__(self, most: int) -> None:
        self._left = most

    def __call__(self) -> bool:
        self._left -= INTERVAL
        return self._left <= 0


def run(queries: list[tuple[str, str]], taken, most: int) -> None:
    """Run those of `queries` that no other process has taken, and fetch their rows."""
    last, connection = None, None
    while True:
        with taken.get_lock():
            position = taken.value
            taken.value += 1
        if position >= len(queries):
            return
        database, sql = queries[position]
        if database != last:
            connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
            connection.text_factory = lambda text: text.decode(errors="ignore")
            last = database
        connection.set_progress_handler(Steps(most), INTERVAL)
        try:
            connection.execute(sql).fetchall()
        except (sqlite3.Error, sqlite3.Warning, ValueError):
            pass  # a wrong prediction


if __name__ == "__main__":
    queries = json.load(sys.stdin)
    taken = Value("i", 0)
    processes = [Process(target=run, args=(queries, taken, int(sys.argv[1]))) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
