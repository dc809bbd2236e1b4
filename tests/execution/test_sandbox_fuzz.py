"""Whatever the text: an outcome, in time, and every file as it was."""

import resource

import psutil
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from testkit import attacks
from text2sql.execution.executor import Executor, Limits

KINDS = {"sqlite", "limit", "too_large", "forbidden", "crash", "empty", "multiple", "invalid_text"}
STEPS = Limits(max_steps=20_000, timeout_s=1, max_rows=200, max_megabytes=0.5)
SECONDS = Limits(max_steps=10**12, timeout_s=0.1, max_rows=200, max_megabytes=0.5)
# The same examples every time, however slow the machine.
same_every_time = settings(
    derandomize=True, database=None, deadline=None, max_examples=250, suppress_health_check=list(HealthCheck)
)

QUERIES = [*attacks.ALLOWED.values(), *attacks.WRITES.values(), *attacks.REFUSED.values()]
QUERIES += [*attacks.UNKNOWN_OR_REFUSED.values(), *attacks.LONG.values(), *attacks.LARGE_VALUES.values()]
WORDS = r"""
SELECT DISTINCT FROM WHERE GROUP BY HAVING ORDER LIMIT OFFSET UNION ALL EXCEPT INTERSECT WITH RECURSIVE AS VALUES
JOIN LEFT NATURAL ON USING AND OR NOT IN EXISTS BETWEEN LIKE GLOB MATCH REGEXP ESCAPE IS NULL CASE WHEN THEN ELSE END
CAST COLLATE NOCASE OVER PARTITION ROWS PRECEDING MATERIALIZED INDEXED INSERT INTO UPDATE SET DELETE REPLACE DROP
CREATE TEMP TABLE VIEW INDEX TRIGGER VIRTUAL ALTER RENAME TO ADD COLUMN ATTACH DATABASE DETACH PRAGMA VACUUM ANALYZE
REINDEX BEGIN COMMIT ROLLBACK SAVEPOINT RELEASE EXPLAIN QUERY PLAN RETURNING singer numbers odd adults sqlite_master
pragma_table_info dbstat json_each main temp id name age n value rowid secret.txt other.sqlite writable_schema
journal_mode abs max min sum count total avg length hex zeroblob randomblob random printf replace instr substr upper
trim char unicode quote typeof coalesce ifnull iif nullif group_concat json_extract json_group_array date strftime
julianday likelihood soundex load_extension fts3_tokenizer sqlite_version changes row_number lag ntile 0 1 -1 2.5
1e999 9223372036854775807 100000 x'00ff' 'text' '' "name" [name] `name` '%_%' '$.a' ? :a @b $c ( ) ( ) , , ; . * + -
/ % || = == <> < > <= << & | ~ -> ->> -- /* */ ' " \ # é 🎤
""".split()

soup = st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join)
any_text = st.text(st.characters(exclude_categories=()), max_size=200)


@st.composite
def spliced(draw) -> str:
    """A query of the attacks with a piece of another, or of anything, in place of some of it."""
    query = draw(st.sampled_from(QUERIES))
    start = draw(st.integers(0, len(query)))
    end = draw(st.integers(start, min(len(query), start + 20)))
    piece = draw(st.one_of(soup, any_text, st.sampled_from(QUERIES), st.just(query)))
    return query[:start] + piece + query[end:]


values = st.sampled_from("1 -1 2.5 100000 9223372036854775807 NULL 'a' x'00ff' n random()".split())
OPERATORS = st.sampled_from("+ - * / % || << = < AND OR IS LIKE GLOB ->".split())
FUNCTIONS = st.sampled_from("abs hex zeroblob randomblob length quote upper char sum count".split())
LONG_FUNCTIONS = st.sampled_from("replace printf max substr iif".split())
WINDOWS = st.sampled_from(["count(*)", "sum(n)", "group_concat(n)"])
expressions = st.recursive(
    values,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, OPERATORS, inner),
        st.builds("{}({})".format, FUNCTIONS, inner),
        st.builds("{}({}, {}, {})".format, LONG_FUNCTIONS, inner, inner, inner),
        st.builds("(SELECT {} FROM numbers m WHERE {})".format, inner, inner),
        st.builds("{} OVER (ORDER BY {})".format, WINDOWS, inner),
    ),
    max_leaves=12,
)
selects = st.builds("SELECT {}, {} FROM numbers, odd WHERE {} ORDER BY {}".format, *[expressions] * 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    attacks.build_folder(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def by_steps(folder):
    with Executor(STEPS, workers=1) as executor:
        yield executor


@pytest.fixture(scope="module")
def by_seconds(folder):
    with Executor(SECONDS, workers=1) as executor:
        yield executor


def processor_seconds() -> float:
    """How long the child processes have worked, dead or alive: unlike time on the wall, whatever else runs."""
    dead = resource.getrusage(resource.RUSAGE_CHILDREN)
    alive = [child.cpu_times() for child in psutil.Process().children()]
    return dead.ru_utime + dead.ru_stime + sum(times.user + times.system for times in alive)


def check(executor: Executor, limits: Limits, folder, text: str) -> None:
    """Run `text` and hold the outcome against everything that is promised of any text."""
    before, started = attacks.contents(folder), processor_seconds()
    result = executor.run_all([(folder / "main.sqlite", text)])[0]
    assert processor_seconds() - started < limits.timeout_s + 1
    assert attacks.contents(folder) == before
    assert executor.run_all([(folder / "main.sqlite", "SELECT 42")])[0].rows == ((42,),)
    if result.error_kind is None:
        assert result.error is None and result.columns
        assert len(result.rows) <= limits.max_rows
        assert attacks.SECRET not in repr(result.rows)
    else:
        assert result.error_kind in KINDS - {"crash"}
        assert result.error and result.rows == () and result.columns == ()


@same_every_time
@given(text=any_text)
def test_any_text(by_steps, folder, text):
    check(by_steps, STEPS, folder, text)


@same_every_time
@given(text=soup)
def test_words_of_sql_in_any_order(by_steps, folder, text):
    check(by_steps, STEPS, folder, text)


@same_every_time
@given(text=spliced())
def test_attacks_spliced_with_each_other(by_steps, folder, text):
    check(by_steps, STEPS, folder, text)


@same_every_time
@given(text=selects)
def test_queries_of_any_expressions(by_steps, folder, text):
    check(by_steps, STEPS, folder, text)


@settings(same_every_time, max_examples=25)
@given(text=st.sampled_from(list(attacks.LONG.values())), column=expressions)
@example(text=attacks.DEAF, column="1")
@example(text=attacks.SLOW_CALLS["random bytes without end"], column="1")
@example(text=attacks.SLOW_CALLS["a query that doubles itself"], column="1")
def test_endless_queries_outlive_no_limit(by_seconds, folder, text, column):
    check(by_seconds, SECONDS, folder, f"SELECT *, {column} FROM ({text})")
