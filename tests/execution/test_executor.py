"""Attacks on the sandbox: whatever the text, an outcome, and files as they were."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

import psutil
import pytest

from testkit.attacks import (
    ALLOWED,
    DEAF,
    ENDLESS,
    LARGE_VALUES,
    LONG,
    REFUSED,
    SECRET,
    SLOW_CALLS,
    UNKNOWN_OR_REFUSED,
    WRITES,
    build_database,
    build_folder,
    contents,
)
from text2sql.execution.executor import SMALL_BYTES, Executor, Limits, Purpose, _Worker, run_query

LIMITS = Limits(max_steps=300_000, timeout_s=60, max_rows=1_000, max_megabytes=2)
PATIENT = Limits(max_steps=10**12, timeout_s=600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a database and files that are none of its business, in which all processes run."""
    folder = tmp_path_factory.mktemp("sandbox")
    build_folder(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(autouse=True)
def unharmed(folder):
    """Find every file in the folder as it was."""
    before = contents(folder)
    yield
    assert contents(folder) == before


@pytest.fixture
def database(folder) -> Path:
    return folder / "main.sqlite"


@pytest.fixture(scope="module")
def executor(folder):
    with Executor(LIMITS, workers=2) as executor:
        yield executor


@pytest.fixture
def run(executor, database):
    """Run one text on the database with `LIMITS`."""
    return lambda sql: executor.run_all([(database, sql)])[0]


def plain(database: Path, sql: str) -> tuple[tuple, ...]:
    """What the official evaluator's connection gives."""
    connection = sqlite3.connect(database)
    connection.text_factory = lambda text: text.decode(errors="ignore")
    try:
        return tuple(connection.execute(sql).fetchall())
    finally:
        connection.close()


@pytest.fixture
def children():
    """Find the processes that the test has started."""
    older = psutil.Process().children()
    return lambda: [process for process in psutil.Process().children() if process not in older]


def wait_until(condition) -> None:
    """Wait for something that will happen; the bound is there so that a failure ends."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


# --- What a SELECT needs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sql", ALLOWED.values(), ids=ALLOWED)
def test_what_a_select_needs_gives_the_rows_of_a_plain_connection(run, database, sql):
    result = run(sql)
    assert result.error is None
    assert repr(result.rows) == repr(plain(database, sql))


def test_a_result_names_its_columns_and_its_time(run):
    result = run("SELECT name, age AS years, count(*) FROM singer")
    assert result.columns == ("name", "years", "count(*)")
    assert result.seconds >= 0 and result.error_kind is None


def test_text_that_is_not_utf8_loses_the_bytes_that_are_not(run):
    assert run("SELECT value FROM odd WHERE typeof(value) = 'text'").rows == (("ab",),)


# --- Writing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sql", WRITES.values(), ids=WRITES)
def test_a_write_is_refused_by_name(run, sql):
    result = run(sql)
    assert (result.error_kind, result.rows) == ("forbidden", ())
    assert result.error.endswith(" is not allowed")
    verb = sql.split()[0] if sql[0] not in "/W" else next(v for v in ("INSERT", "UPDATE", "DELETE") if v in sql)
    assert verb in result.error


CATALOGUE_WRITES = {
    "UPDATE": "UPDATE sqlite_master SET sql = 'x'",
    "DELETE": "DELETE FROM sqlite_schema",
    "INSERT": "INSERT INTO sqlite_master VALUES ('table', 'a', 'a', 2, 'x')",
}


@pytest.mark.parametrize("sql", CATALOGUE_WRITES.values(), ids=CATALOGUE_WRITES)
def test_the_catalogue_cannot_be_written(run, sql):
    assert run(sql).error_kind in ("forbidden", "sqlite")


# --- Reading elsewhere, and settings -------------------------------------------------------------------------------


@pytest.mark.parametrize("sql", REFUSED.values(), ids=REFUSED)
def test_nothing_beside_the_database_is_reached(run, sql):
    result = run(sql)
    assert (result.error_kind, result.rows) == ("forbidden", ())


@pytest.mark.parametrize("sql", UNKNOWN_OR_REFUSED.values(), ids=UNKNOWN_OR_REFUSED)
def test_what_some_builds_of_sqlite_offer_gives_nothing(run, sql):
    result = run(sql)
    assert result.error_kind in ("forbidden", "sqlite") and result.rows == ()
    assert SECRET not in result.error


# --- Work ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sql", LONG.values(), ids=LONG)
def test_long_work_ends_at_the_limit_on_steps(run, sql):
    result = run(sql)
    assert (result.error_kind, result.rows) == ("limit", ())
    assert "300000 SQLite steps" in result.error


def test_long_work_ends_at_the_limit_on_time(database):
    result = run_query(database, ENDLESS, Limits(max_steps=10**12, timeout_s=0.2))
    assert result.error_kind == "limit" and "0.2 seconds of processor time" in result.error


def test_a_worker_that_stands_still_for_longer_than_the_limit_goes_on(database, children):
    limits = Limits(max_steps=4_000_000, timeout_s=2)  # these steps take a tenth of a second
    with Executor(limits, workers=1) as executor:
        executor.run_all([(database, "SELECT 1")])
        (worker,) = children()
        before = worker.cpu_times().user
        results = []
        thread = threading.Thread(target=lambda: results.extend(executor.run_all([(database, ENDLESS)])))
        thread.start()
        wait_until(lambda: worker.cpu_times().user > before or results)
        worker.suspend()
        time.sleep(2.6)
        worker.resume()
        thread.join()
    assert (results[0].error_kind, results[0].error) == ("limit", "4000000 SQLite steps were not enough")


def test_the_limit_on_steps_falls_at_the_same_place_every_time(database):
    sql = "SELECT count(*) FROM numbers a, numbers b WHERE a.n < 20 AND b.n < 20"
    low, high = 1, 10**6
    while high - low > 1:
        middle = (low + high) // 2
        if run_query(database, sql, Limits(max_steps=middle)).error_kind == "limit":
            low = middle
        else:
            high = middle
    assert 1_000 < high < 10**6
    others = ("SELECT 1", "nonsense", ENDLESS, sql + " AND 1")
    for steps, kind in ((low, "limit"), (high, None)):
        with Executor(Limits(max_steps=steps), workers=2) as executor:
            queries = [(database, text) for other in others for text in (sql, other, sql)]
            results = list(executor.run_each(queries))
            assert {result.error_kind for result, (_, text) in zip(results, queries) if text == sql} == {kind}


def test_calls_that_sqlite_cannot_interrupt_end_with_their_worker(database):
    with Executor(Limits(timeout_s=0.2), workers=1) as executor:
        deaf, after = executor.run_all([(database, DEAF), (database, "SELECT 1")])
    assert deaf.error_kind == "limit" and "0.2 seconds of processor time" in deaf.error
    assert after.rows == ((1,),)


def test_a_caller_that_ignores_the_alarms_changes_nothing(database):
    before = {alarm: signal.signal(alarm, signal.SIG_IGN) for alarm in (signal.SIGPROF, signal.SIGALRM)}
    try:
        assert run_query(database, DEAF, Limits(timeout_s=0.2)).error_kind == "limit"
    finally:
        for alarm, handler in before.items():
            signal.signal(alarm, handler)


@pytest.mark.parametrize("sql", SLOW_CALLS.values(), ids=SLOW_CALLS)
def test_slow_calls_have_a_verdict(database, sql):
    result = run_query(database, sql, Limits(timeout_s=0.2))
    assert result.error_kind in (None, "limit", "too_large", "sqlite")  # how slow they are depends on the build


# --- Memory and size -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sql", LARGE_VALUES.values(), ids=LARGE_VALUES)
def test_a_large_value_is_refused(run, sql):
    result = run(sql)
    assert (result.error_kind, result.rows) == ("too_large", ())


def test_a_large_printf_is_refused_or_null_as_the_build_has_it(run):
    result = run("SELECT printf('%.*c', 300000, 'x')")
    assert result.error_kind == "too_large" or result.rows == ((None,),)


LARGE_RESULTS = {
    "rows": ("SELECT a.n FROM numbers a, numbers b", "more than 1000 rows"),
    "texts": ("SELECT hex(zeroblob(9000)) FROM numbers", "larger than 2 megabytes"),
    "blobs": ("SELECT zeroblob(9000) FROM numbers", "larger than 2 megabytes"),
    "cells": ("SELECT " + ", ".join(["*"] * 1_000) + " FROM numbers", "larger than 2 megabytes"),
}


@pytest.mark.parametrize("sql, message", LARGE_RESULTS.values(), ids=LARGE_RESULTS)
def test_a_large_result_is_refused(run, sql, message):
    result = run(sql)
    assert (result.error_kind, result.rows) == ("too_large", ())
    assert message in result.error


def test_a_result_as_large_as_allowed_passes_the_pipe_whole(database, executor):
    sql = "SELECT printf('%.*c', 50000, 'x'), n FROM numbers LIMIT 39"
    assert executor.run_all([(database, sql)])[0].rows == tuple(("x" * 50_000, n) for n in range(1, 40))


def test_memory_has_a_limit(database):
    hungry = "SELECT zeroblob(200000), a.n FROM numbers a, numbers b ORDER BY random()"
    with Executor(PATIENT, workers=1) as executor:
        first, after = executor.run_all([(database, hungry), (database, "SELECT 1")])
    assert first.error_kind == "limit" and "memory" in first.error
    assert after.rows == ((1,),)


@pytest.mark.parametrize("operator, pattern", [("LIKE", "%a" * 5_000), ("GLOB", "*a" * 5_000)], ids=["LIKE", "GLOB"])
def test_a_pathological_pattern_is_refused(run, operator, pattern):
    result = run(f"SELECT hex(zeroblob(100000)) {operator} '{pattern}b'")
    assert result.error_kind == "limit" and "pattern too complex" in result.error


# --- Texts ---------------------------------------------------------------------------------------------------------

TEXTS = {
    "nothing": ("", "empty"),
    "blanks": (" \n\t\r ", "empty"),
    "a comment": ("-- no query", "empty"),
    "a byte-order mark in front of a write": ("\ufeffDROP TABLE singer", "forbidden"),
    "a byte-order mark in front of EXPLAIN": ("\ufeff;EXPLAIN SELECT 1", "forbidden"),
    "a comment that never ends": ("/* no query", "empty"),
    "semicolons": (";;;", "empty"),
    "two statements": ("SELECT 1; SELECT 2", "multiple"),
    "two semicolons": ("SELECT 1;;", "multiple"),
    "a write behind a query": ("SELECT 1; DROP TABLE singer", "multiple"),
    "a write in front of a query": ("DROP TABLE singer; SELECT 1", "forbidden"),
    "a write behind a comment": ("SELECT 1 --\n; DELETE FROM singer", "multiple"),
    "NUL": ("SELECT 1\0; DROP TABLE singer", "invalid_text"),
    "NUL alone": ("\0", "invalid_text"),
    "a lone surrogate": ("SELECT '\ud800'", "invalid_text"),
    "ten million letters": ("a" * 10_000_000, "limit"),
    "ten million brackets": ("SELECT " + "(" * 10_000_000, "limit"),
    "ten million bytes of blanks": (" " * 10_000_000, "limit"),
    "ten million bytes of wide letters": ("é" * 5_000_000, "limit"),
    "deep brackets": ("SELECT " + "(" * 20_000 + "1" + ")" * 20_000, "sqlite"),
    "deep subqueries": ("SELECT * FROM (" * 5_000 + "SELECT 1" + ")" * 5_000, "sqlite"),
    "deep CASE": ("SELECT " + "CASE WHEN 1 THEN " * 3_000 + "1" + " END" * 3_000, "sqlite"),
    "deep NOT": ("SELECT " + "NOT " * 20_000 + "1", "sqlite"),
    "a deep sum": ("SELECT " + "1 + " * 20_000 + "1", "sqlite"),
    "deep functions": ("SELECT " + "abs(" * 10_000 + "1" + ")" * 10_000, "sqlite"),
    "a deep union": (" UNION ".join(["SELECT 1"] * 5_000), "sqlite"),
    "too many columns": ("SELECT " + ", ".join(["1"] * 30_000), "sqlite"),
    "too many tables": ("SELECT 1 FROM " + ", ".join(["singer"] * 5_000), "sqlite"),
    "too many arguments": ("SELECT max(" + ", ".join(["1"] * 20_000) + ")", "sqlite"),
    "an open text": ("SELECT 'singer", "sqlite"),
    "an open name": ('SELECT "singer', "sqlite"),
    "a conversation": ("I'm sorry, I cannot answer that. Could you share the schema?", "sqlite"),
    "another system's SQL": ("SELECT TOP 3 name FROM singer", "sqlite"),
    "a parameter": ("SELECT * FROM singer WHERE id = ?", "sqlite"),
    "a named parameter": ("SELECT :name", "sqlite"),
    "control characters": ("\x01\x02\x7f\x1b[31m", "sqlite"),
    "emoji": ("🎤", "sqlite"),
    "a name in right-to-left text": ("SELECT \u202eeman FROM singer", "sqlite"),
    "a long unknown name": ("SELECT " + "name" * 20_000, "sqlite"),
    "an unknown table": ("SELECT * FROM band", "sqlite"),
    "an unknown column": ("SELECT height FROM singer", "sqlite"),
    "an overflow": ("SELECT abs(-9223372036854775808)", "sqlite"),
    "deep JSON": ("SELECT json('" + "[" * 90_000 + "')", "sqlite"),
}


@pytest.mark.parametrize("sql, kind", TEXTS.values(), ids=TEXTS)
def test_any_text_has_an_outcome(run, sql, kind):
    result = run(sql)
    assert (result.error_kind, result.columns, result.rows) == (kind, (), ())
    assert 0 < len(result.error) <= 1_000


# --- Database files ------------------------------------------------------------------------------------------------

NAMES = {
    "a question mark": "what?mode=rwc.sqlite",
    "a hash": "number#1.sqlite",
    "an escape": "100%3f%00.sqlite",
    "an ampersand": "a&mode=rwc&b=c.sqlite",
    "blanks": " two  words .sqlite",
    "quotes": 'it\'s "quoted".sqlite',
    "a line end": "two\nlines.sqlite",
    "a backslash": "back\\slash.sqlite",
    "other letters": "Sänger_歌手_🎤.sqlite",
    "bytes that are not UTF-8": os.fsdecode(b"\xff\xfe.sqlite"),
    "a scheme": "file:x.sqlite",
    "a name of SQLite's": ":memory:",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_file_of_any_name_opens_and_no_other(tmp_path, monkeypatch, executor, name):
    build_database(tmp_path / "plain.sqlite")
    (tmp_path / "plain.sqlite").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, Path(name), name):
        assert executor.run_all([(path, "SELECT max(n) FROM numbers")])[0].rows == ((2_000,),)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_in_wal_mode_is_read_without_a_file_beside_it(tmp_path):
    connection = sqlite3.connect(tmp_path / "wal.sqlite")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t AS SELECT 7 AS a")
    connection.commit()
    connection.close()
    before = (tmp_path / "wal.sqlite").read_bytes()
    assert run_query(tmp_path / "wal.sqlite", "SELECT a FROM t", LIMITS).rows == ((7,),)
    assert contents(tmp_path) == {"wal.sqlite": before}


def test_a_file_without_a_right_to_write_is_read(tmp_path):
    build_database(tmp_path / "locked.sqlite")
    (tmp_path / "locked.sqlite").chmod(0o400)
    assert run_query(tmp_path / "locked.sqlite", "SELECT count(*) FROM singer", LIMITS).rows == ((3,),)


@pytest.mark.parametrize("name", ["nowhere.sqlite", ".", "secret.txt", "main.sqlite\0", ""])
def test_a_file_that_is_no_database_is_an_outcome_that_names_it(folder, name):
    result = run_query(name, "SELECT 1 FROM singer", LIMITS)
    assert result.error_kind == "sqlite" and str(folder / name) in result.error


IN_PROCESS = """
import sys
from text2sql.execution.sandbox import Limits, Sandbox
path, *queries = sys.argv[1:]
for in_memory in (True, False):
    sandbox = Sandbox(path, in_memory)
    print([sandbox.run(sql, Limits()).rows for sql in queries], [sandbox.run(sql, Limits()).error for sql in queries])
"""


def test_a_database_too_large_for_memory_gives_the_same_from_its_file(repository, database):
    long = "SELECT a.n % 7, count(*), sum(b.n) FROM numbers a, numbers b WHERE b.n < 90 GROUP BY 1 ORDER BY a.n || b.n"
    queries = [*ALLOWED.values(), *WRITES.values(), *REFUSED.values(), long]
    command = [sys.executable, "-c", IN_PROCESS, str(database), *queries]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    copy, file = done.stdout.splitlines()
    assert copy == file and "not allowed" in copy


# --- What is known without running to the end -----------------------------------------------------------------------

PAIRS = "SELECT {} FROM numbers a, numbers b WHERE a.n < 400 AND b.n > {}"  # some millions of steps


def foresee(database, sql: str, purpose: Purpose):
    with Executor(Limits(), workers=1) as executor:
        ((position, result),) = executor.run_unordered([(database, sql, purpose)])
    assert position == 0
    return result


def test_a_long_query_of_no_use_is_not_run_to_its_end(database):
    result = foresee(database, ENDLESS, Purpose(widths=frozenset({2, 3})))
    assert result.error_kind == "width" and "1 columns, where 2 or 3 are wanted" in result.error
    assert foresee(database, ENDLESS, Purpose(widths=frozenset({1, 2}))).error_kind == "limit"
    assert foresee(database, ENDLESS, Purpose()).error_kind == "limit"


def test_a_short_query_of_no_use_is_run(database):
    assert foresee(database, "SELECT 1, 2", Purpose(widths=frozenset({1}))).rows == ((1, 2),)


def test_a_long_query_with_a_known_program_is_not_run_again(database):
    known = PAIRS.format("count(*), sum(a.n)", 5)
    other = "/* the same */ select COUNT(*) AS pairs, SUM(x.N) from numbers x, numbers as y where x.n<400 and y.n>5"
    result = foresee(database, other, Purpose(known=("SELECT 1", "no query", known)))
    assert (result.same_as, result.columns, result.rows, result.error) == (known, ("pairs", "SUM(x.N)"), (), None)


@pytest.mark.parametrize(
    "known, other",
    [
        (PAIRS.format("count(*)", 5), PAIRS.format("count(*)", 6)),
        (PAIRS.format("count(*)", "'5'"), PAIRS.format("count(*)", "'5 '")),
        (PAIRS.format("max(0.3)", 5), PAIRS.format("max(0.30000000000000004)", 5)),
        (PAIRS.format("max(x'610062')", 5), PAIRS.format("max(x'610063')", 5)),
        (PAIRS.format("count(*)", 9_007_199_254_740_993), PAIRS.format("count(*)", 9_007_199_254_740_992)),
        (PAIRS.format("max(a.n || b.n)", 5), PAIRS.format("max(a.n || b.n COLLATE NOCASE)", 5)),
        (PAIRS.format("max(a.n)", 5), PAIRS.format("min(a.n)", 5)),
        (PAIRS.format("max(a.n) AS x, count(*) AS x", 5), PAIRS.format("max(a.n) AS x, count(*) AS x ", 5)),
    ],
)
def test_a_long_query_with_another_program_is_run(database, known, other):
    result = foresee(database, other, Purpose(known=(known,)))
    assert result.same_as is None and result.rows == plain(database, other)


# --- Worker processes ----------------------------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_queries(database, executor):
    slow = "SELECT {} FROM numbers a, numbers b WHERE a.n < {} LIMIT 1 OFFSET 10000"
    queries = [(database, slow.format(n, 9) if n % 5 == 0 else f"SELECT {n}") for n in range(200)]
    assert [result.rows for result in executor.run_all(queries)] == [((n,),) for n in range(200)]


def test_results_of_several_databases_do_not_mix(tmp_path, executor):
    for n in range(5):
        connection = sqlite3.connect(tmp_path / f"{n}.sqlite")
        connection.execute(f"CREATE TABLE t AS SELECT {n} AS a")
        connection.commit()
        connection.close()
    queries = [(tmp_path / f"{n % 5}.sqlite", f"SELECT a, {n} FROM t") for n in range(50)]
    assert [result.rows for result in executor.run_all(queries)] == [((n % 5, n),) for n in range(50)]


def test_no_queries_give_no_results(executor):
    assert executor.run_all([]) == []


def test_more_workers_than_queries(database):
    with Executor(LIMITS, workers=4) as executor:
        assert executor.run_all([(database, "SELECT 1")])[0].rows == ((1,),)


def test_a_query_leaves_nothing_behind_for_the_next(database):
    attacks = (*WRITES.values(), *REFUSED.values(), *LARGE_VALUES.values(), ENDLESS)
    with Executor(LIMITS, workers=1) as executor:
        for attack in attacks:
            _, after = executor.run_all([(database, attack), (database, "SELECT count(*), 'x' FROM singer")])
            assert after.rows == ((3, "x"),)


def test_a_killed_worker_costs_one_verdict(database, children):
    with Executor(PATIENT, workers=1) as executor:
        answers = executor.run_each([(database, "SELECT 1"), (database, ENDLESS), (database, "SELECT 3")])
        results = [next(answers)]
        (worker,) = children()
        before = worker.cpu_times().user
        thread = threading.Thread(target=lambda: results.extend(answers))
        thread.start()
        wait_until(lambda: worker.cpu_times().user > before + 0.2)  # it counts
        worker.kill()
        thread.join()
    assert [result.error_kind for result in results] == [None, "crash", None]
    assert results[2].rows == ((3,),)


def test_of_queries_sent_together_only_the_one_that_ends_the_worker_is_lost(database):
    queries = [(database, sql, Purpose()) for sql in ("SELECT 1", DEAF, "SELECT 3", "SELECT 4", "nonsense")]
    with Executor(Limits(timeout_s=0.2), workers=1) as executor:
        results = dict(executor.run_unordered(queries))
    kinds = [None, "limit", None, None, "sqlite"]
    assert [results[position].error_kind for position in range(5)] == kinds
    assert results[3].rows == ((4,),)


def test_queries_may_be_added_while_results_are_taken(database):
    waiting = deque([(number, (database, f"SELECT {number}", Purpose())) for number in range(3)])
    found = {}
    with Executor(LIMITS, workers=2) as executor:
        for number, result in executor.run_growing(waiting):
            found[number] = result.rows
            if number < 30:
                waiting.append((number + 10, (database, f"SELECT {number + 10}", Purpose())))
    assert found == {tens + ones: ((tens + ones,),) for tens in (0, 10, 20, 30) for ones in range(3)}


def test_large_results_of_queries_sent_together_come_whole(database):
    sql = "SELECT n, hex(zeroblob(20000)) FROM numbers WHERE n <= {}"
    with Executor(Limits(), workers=2) as executor:
        results = dict(executor.run_unordered([(database, sql.format(n), Purpose()) for n in range(100)]))
    assert [len(results[n].rows) for n in range(100)] == list(range(100))


def has_ended(process: psutil.Process) -> bool:
    """Whether `process` is over with all of its threads: until then a pipe to it may still take what is written."""
    return process.status() == psutil.STATUS_ZOMBIE and len(os.listdir(f"/proc/{process.pid}/task")) == 1


def test_a_worker_killed_between_two_queries_costs_none(database, children):
    with Executor(LIMITS, workers=2) as executor:
        assert executor.run_all([(database, "SELECT 1")])[0].rows == ((1,),)
        for child in children():
            child.kill()
        wait_until(lambda: all(has_ended(child) for child in children()))
        assert [result.rows for result in executor.run_all([(database, f"SELECT {n}") for n in range(9)])] == [
            ((n,),) for n in range(9)
        ]


def test_no_process_is_left_after_the_context(database, children):
    with Executor(LIMITS, workers=3) as executor:
        executor.run_all([(database, "SELECT 1")])
        assert len(children()) == 3
    assert not children()


def test_no_process_is_left_after_an_exception(database, children):
    with pytest.raises(ZeroDivisionError), Executor(PATIENT, workers=2) as executor:
        for _ in executor.run_each([(database, "SELECT 1"), (database, ENDLESS), (database, DEAF)]):
            1 / 0  # noqa: B018
    assert not children()


def test_answers_that_nobody_waited_for_do_not_reach_the_next_caller(database):
    slow = "SELECT count(*), {} FROM numbers a, numbers b"
    slower = "SELECT count(*) FROM numbers a, numbers b, numbers c WHERE c.n < 5"
    with Executor(PATIENT, workers=2) as executor:
        executor.run_all([(database, slow.format(n)) for n in range(4)])  # by now both workers have started
        for result in executor.run_each([(database, "SELECT 0"), (database, slow.format(4))]):
            assert result.rows == ((0,),)
            break
        mine = executor.run_all([(database, "SELECT 'mine'"), (database, slower)])
        assert [result.rows for result in mine] == [(("mine",),), ((16_000_000,),)]


# A shell starts its background jobs with SIGINT ignored, and that is inherited.
SCRIPT = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from text2sql.execution.executor import Executor, Limits
executor = Executor(Limits(max_steps=10**12, timeout_s=600), workers=2).__enter__()
print(executor.run_all([(sys.argv[1], "SELECT 42")])[0].rows, flush=True)
executor.run_all([(sys.argv[1], sys.argv[2]), (sys.argv[1], sys.argv[2] + " WHERE n > 0")])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_workers_end_with_their_parent(database, repository, number, children):
    # The script has no `if __name__ == "__main__"`, which workers that import it again would need.
    command = [sys.executable, "-c", SCRIPT, str(database), ENDLESS]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=repository, text=True, **pipes) as parent:
        assert parent.stdout.readline() == "((42,),)\n"
        workers = psutil.Process(parent.pid).children()
        assert len(workers) == 2
        wait_until(lambda: all(worker.cpu_times().user > 0.3 for worker in workers))  # both count
        parent.send_signal(number)
        assert parent.wait() == -number
        wait_until(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))


def test_an_executor_outside_its_context_says_so(database):
    with pytest.raises(RuntimeError, match="inside its context"):
        Executor(LIMITS, workers=1).run_all([(database, "SELECT 1")])


@pytest.mark.parametrize("name", ["max_steps", "timeout_s", "max_rows", "max_megabytes"])
def test_a_limit_of_nothing_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}: found 0"):
        Limits(**{name: 0})


def test_it_needs_nothing_but_python(repository):
    program = (
        "import sys; import text2sql.execution.executor;"
        "names = {name.split('.')[0] for name in sys.modules};"
        "print(sorted(names - sys.stdlib_module_names - {'text2sql', '__main__'}))"
    )
    command = [sys.executable, "-S", "-c", program]
    assert subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_answers_to_one_question_run_on_one_worker_whatever_the_database_weighs(tmp_path, monkeypatch):
    """Others on a large database go to whichever worker is free."""
    path = tmp_path / "large.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob({2 * SMALL_BYTES}));")
    asked = {("gold one",): 3, ("gold two",): 2, (): 2}
    purposes = [Purpose(None, known) for known, count in asked.items() for _ in range(count)]
    waiting = deque((place, (path, f"SELECT {place}", purpose)) for place, purpose in enumerate(purposes))
    sent = []
    send = _Worker.send

    def noted(worker, tasks):
        sent.append([tag for tag, _ in tasks])
        return send(worker, tasks)

    monkeypatch.setattr(_Worker, "send", noted)
    with Executor(LIMITS, workers=2) as running:
        results = dict(running.run_growing(waiting))
    assert sorted(sent) == [[0, 1, 2], [3, 4], [5], [6]]
    assert {tag: result.rows for tag, result in results.items()} == {place: ((place,),) for place in range(7)}
