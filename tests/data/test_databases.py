"""SQLite files as applications leave them: generated columns, views, full text, own collations, a write-ahead log."""

import contextlib
import sqlite3
import zipfile

import pytest

from text2sql.core.errors import UserError
from text2sql.data import in_use
from text2sql.data.databases import check_database
from text2sql.data.in_use import readable
from text2sql.data.schema import schema_from_sqlite
from text2sql.data.spider import open_spider
from text2sql.execution.executor import Limits, run_query

LIMITS = Limits()


def make(path, script, **collations):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for name in collations:
            connection.create_collation(name, lambda one, other: (one > other) - (one < other))
        connection.create_function("tax", 1, lambda price: price, deterministic=True)
        connection.executescript(script)
    return path


def columns(path):
    return {table.name: [column.name for column in table.columns] for table in schema_from_sqlite(path, "shop").tables}


def test_the_schema_has_what_can_be_selected_from_and_nothing_else(tmp_path):
    path = make(
        tmp_path / "shop.sqlite",
        """
        CREATE TABLE sale (id INTEGER PRIMARY KEY, price REAL, pieces INT,
            total REAL GENERATED ALWAYS AS (price * pieces) VIRTUAL, double_price REAL AS (2 * price) STORED);
        CREATE VIEW cheap AS SELECT id, price AS "the price" FROM sale WHERE price < 2;
        CREATE TABLE gone (a); CREATE VIEW broken AS SELECT a FROM gone; DROP TABLE gone;
        CREATE VIRTUAL TABLE note USING fts5(text);
        CREATE VIRTUAL TABLE place USING rtree(id, low, high);
        CREATE TABLE taxed (a INTEGER PRIMARY KEY AUTOINCREMENT, b AS (tax(a)));
        INSERT INTO sale (price, pieces) VALUES (1.5, 2);
        INSERT INTO note VALUES ('late delivery'), ('none');
        INSERT INTO place VALUES (1, 2, 3);
        """,
    )
    assert columns(path) == {
        "sale": ["id", "price", "pieces", "total", "double_price"],
        "cheap": ["id", "the price"],
        "note": ["text"],
        "place": ["id", "low", "high"],
        "taxed": ["a"],
    }
    for sql, rows in {
        "SELECT * FROM sale": ((1, 1.5, 2, 3.0, 3.0),),
        "SELECT * FROM cheap": ((1, 1.5),),
        "SELECT text FROM note WHERE note MATCH 'delivery' ORDER BY bm25(note)": (("late delivery",),),
        "SELECT high FROM place WHERE low > 1": ((3.0,),),
    }.items():
        assert run_query(path, sql, LIMITS).rows == rows
    for sql in ("PRAGMA page_size", "INSERT INTO note (note) VALUES ('rebuild')", "SELECT rtreecheck('place')"):
        assert run_query(path, sql, LIMITS).error_kind == "forbidden"


def test_an_applications_own_collation_and_function_are_named_and_the_rest_is_checked(tmp_path):
    path = make(
        tmp_path / "contacts.sqlite",
        "CREATE TABLE contact (name TEXT COLLATE LOCALIZED UNIQUE, price INT, b AS (tax(price)) NOT NULL);"
        "CREATE INDEX by_tax ON contact (tax(price)); INSERT INTO contact VALUES ('Bia', 1), ('Ana', 2);",
        LOCALIZED=None,
    )
    assert sorted(check_database(path, "here")) == ["collation LOCALIZED", "function tax"]
    assert run_query(path, "SELECT name FROM contact", LIMITS).rows == (("Bia",), ("Ana",))
    assert (
        "no such collation sequence: LOCALIZED" in run_query(path, "SELECT name FROM contact ORDER BY 1", LIMITS).error
    )
    content = bytearray(path.read_bytes())
    content[4096:4104] = b"\0" * 8
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged|not a valid"):
        check_database(path, "here")


@pytest.fixture(params=["old", "new"])
def application(request, tmp_path):
    """An open database in WAL mode: 10 ferries, of which its file has 3 (old) or not even the table (new)."""
    path = tmp_path / "ferries.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE ferry (id INT)")
    connection.execute("INSERT INTO ferry VALUES (1), (2), (3)")
    connection.commit()
    if request.param == "old":
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.executemany("INSERT INTO ferry VALUES (?)", [(4 + i,) for i in range(7)])
    connection.commit()
    yield path
    connection.close()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_an_open_database_is_read_with_its_write_ahead_log(application, tmp_path):
    before = contents(tmp_path)
    with readable(application) as copy:
        assert columns(copy) == {"ferry": ["id"]}
        assert run_query(copy, "SELECT count(*) FROM ferry", LIMITS).rows == ((10,),)
    assert not copy.exists() and contents(tmp_path) == before


def test_a_database_is_never_read_without_its_write_ahead_log(application):
    assert "ferries.sqlite-wal" in run_query(application, "SELECT count(*) FROM ferry", LIMITS).error
    with pytest.raises(UserError, match="ferries.sqlite-wal: holds changes"):
        schema_from_sqlite(application, "ferries")


def test_a_database_that_changes_all_the_time_is_refused_in_one_line(application, tmp_path, monkeypatch):
    connection = sqlite3.connect(application)
    state = in_use.state_of
    monkeypatch.setattr(in_use, "PAUSE_S", 0)

    def writing(path):
        connection.execute("INSERT INTO ferry VALUES (0)")
        connection.commit()
        return state(path)

    monkeypatch.setattr(in_use, "state_of", writing)
    with pytest.raises(UserError, match="ferries.sqlite: changed during each of 3 attempts"), readable(application):
        pass
    connection.close()


def test_a_transaction_that_was_cut_off_is_rolled_back_in_the_copy(tmp_path):
    path = make(tmp_path / "a.sqlite", "CREATE TABLE t (x); INSERT INTO t VALUES (1);")
    writer = sqlite3.connect(path, isolation_level=None)
    writer.executescript("PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN; UPDATE t SET x = 2;")
    writer.executemany("INSERT INTO t VALUES (?)", [("x" * 3000,) for _ in range(50)])
    with readable(path) as copy:
        assert copy != path and run_query(copy, "SELECT x FROM t", LIMITS).rows == ((1,),)
    writer.close()
    with readable(path) as copy:
        assert copy == path


@pytest.mark.parametrize("packed", [False, True])
def test_spiders_layout_may_hold_open_databases(application, tmp_path, packed):
    folder = tmp_path / "spider" / "database" / "ferries"
    folder.mkdir(parents=True)
    (tmp_path / "spider" / "dev.json").write_text("[]")
    for ending in ("", "-wal"):
        (folder / f"ferries.sqlite{ending}").write_bytes((tmp_path / f"ferries.sqlite{ending}").read_bytes())
    source = tmp_path / "spider"
    if packed:
        source = tmp_path / "spider.zip"
        with zipfile.ZipFile(source, "w") as file:
            for path in (tmp_path / "spider").rglob("*"):
                file.write(path, path.relative_to(tmp_path))
    out = tmp_path / "out" / "ferries.sqlite"
    with open_spider(source) as spider:
        assert spider.extract_database("ferries", out) == []
    assert run_query(out, "SELECT count(*) FROM ferry", LIMITS).rows == ((10,),)
    assert [path.name for path in out.parent.iterdir()] == ["ferries.sqlite"]
