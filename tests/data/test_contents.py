"""What a database's columns hold: bounded, the same on any machine, kept by the file's bytes."""

import contextlib
import json
import sqlite3

import pytest

from text2sql.data import contents
from text2sql.data.contents import LONGEST_TEXT, Contents, contents_of, read_contents


@pytest.fixture
def build(tmp_path):
    """Return a function that builds a database from SQL, or by a function of its connection."""

    def make(script, name="built"):
        path = tmp_path / f"{name}.sqlite"
        path.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.executescript(script) if isinstance(script, str) else script(connection)
            connection.commit()
        return path

    return make


def test_samples_are_the_most_frequent_values_and_texts_are_all_of_them(build):
    path = build(
        "CREATE TABLE singer (id INTEGER PRIMARY KEY, country TEXT, score REAL);"
        "INSERT INTO singer VALUES (1, 'Peru', 1.5), (2, 'Chad', NULL), (3, 'Chad', 2.5), (4, 'Mali', 2.5);"
        "INSERT INTO singer VALUES (5, '', 9e999);"
    )
    found = contents_of(path)
    assert found.of("singer", "country").samples == ("Chad", "Peru", "Mali")
    assert found.of("singer", "country").texts == ("Peru", "Chad", "Mali")
    assert found.of("singer", "score").samples == (2.5, 1.5) and found.of("singer", "score").texts == ()
    assert found.of("singer", "id").samples == (1, 2, 3)
    assert found.of("singer", "nothing").samples == ()


def test_blobs_are_left_out_and_long_texts_cut(build):
    def fill(connection):
        connection.execute("CREATE TABLE t (a, b)")
        connection.execute("INSERT INTO t VALUES (?, ?)", (b"\0\1", "x" * 5000))
        connection.execute("INSERT INTO t VALUES (?, ?)", ("Ærø", "short"))

    found = contents_of(build(fill))
    assert found.of("t", "a").samples == ("Ærø",)
    assert [len(value) for value in found.of("t", "b").samples] == [LONGEST_TEXT + 1, 5]
    assert found.of("t", "b").texts == ("short",)


def test_a_large_table_is_sampled_the_same_each_time_from_its_beginning_to_its_end(build, monkeypatch):
    monkeypatch.setattr(contents, "MOST_ROWS", 1000)
    rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)"
    path = build(
        f"CREATE TABLE t (i INTEGER PRIMARY KEY, a TEXT); {rows} INSERT INTO t SELECT i, 'v' || i FROM n;"
        f"CREATE TABLE w (a TEXT PRIMARY KEY) WITHOUT ROWID; INSERT INTO w SELECT a FROM t;"
    )
    found = contents_of(path)
    numbers = [int(value[1:]) for value in found.of("t", "a").texts]
    assert len(numbers) == 1000 and numbers == sorted(numbers)
    assert numbers[0] == 1 and max(numbers) > 49000 and max(b - a for a, b in zip(numbers, numbers[1:])) < 1000
    assert len(found.of("w", "a").texts) == 1000
    assert contents_of(path) == found


def test_what_goes_on_for_ever_or_fails_costs_its_own_values_alone(build, monkeypatch):
    monkeypatch.setattr(contents, "_MOST_STEPS", 1_000_000)
    path = build(
        "CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('here');"
        "CREATE VIEW endless AS "
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) AS s FROM n;"
        "CREATE VIEW failing AS SELECT abs(-9223372036854775808) AS f;"
        "CREATE VIEW plain AS SELECT a AS b FROM t;"
    )
    found = contents_of(path)
    assert found.of("t", "a").texts == ("here",)
    assert found.of("endless", "s").samples == found.of("failing", "f").samples == ()
    assert found.of("plain", "b").samples == ("here",) and found.of("plain", "b").texts == ()


def test_odd_names_and_tables_that_hide_their_row_ids_are_read(build, monkeypatch):
    monkeypatch.setattr(contents, "MOST_ROWS", 100)
    path = build(
        'CREATE TABLE "order by" ("a""b" TEXT, rowid TEXT, oid TEXT, _rowid_ TEXT);'
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)"
        """INSERT INTO "order by" SELECT 'v' || i, 'r', 'o', 'x' FROM n;"""
    )
    assert len(contents_of(path).of("order by", 'a"b').texts) == 100


def test_it_is_kept_by_the_databases_bytes_and_read_again_where_the_file_is_damaged(build, tmp_path):
    cache = tmp_path / "cache"
    script = "CREATE TABLE t (a); INSERT INTO t VALUES ('one'), (2), (2.5);"
    path = build(script)
    first = read_contents(path, cache)
    (kept,) = cache.iterdir()
    assert first == contents_of(path) == read_contents(path, cache) == read_contents(build(script, "other"), cache)
    assert len(list(cache.iterdir())) == 1
    kept.write_text(json.dumps([["t", "a", ["kept"], []]]))
    assert read_contents(path, cache).of("t", "a").samples == ("kept",)
    for damaged in ("[", "{}", '["t"]', "[[1]]"):
        kept.write_text(damaged)
        assert read_contents(path, cache) in (first, Contents())
    assert read_contents(build("CREATE TABLE t (a); INSERT INTO t VALUES ('new');"), cache).of("t", "a").texts == (
        "new",
    )
    assert len(list(cache.iterdir())) == 2


def test_a_cache_that_cannot_be_written_costs_time_alone(build, tmp_path):
    (tmp_path / "file").write_text("")
    path = build("CREATE TABLE t (a); INSERT INTO t VALUES ('one');")
    assert read_contents(path, tmp_path / "file").of("t", "a").texts == ("one",)
