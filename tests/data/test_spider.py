"""Spider's files, folder or zip: the records that come out, and what is said where they are not right."""

import errno
import io
import json
import shutil
import sqlite3
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testkit.raw_data import GOOD, SQL, spider_folder
from text2sql.core.errors import UserError
from text2sql.data import databases, spider
from text2sql.data.schema import Column, ForeignKey, Schema, Table, schema_from_sqlite, schema_from_tables_entry
from text2sql.data.spider import Example, open_spider

SCHEMA = Schema(
    "league",
    (
        Table("team", (Column("id", "INTEGER"), Column("home town", "TEXT")), ("id",)),
        Table(
            "player",
            (Column("name", "VARCHAR(20)"), Column("team_id", "INT"), Column("goals", "")),
            ("name", "team_id"),
        ),
    ),
    (ForeignKey("player", "team_id", "team", "id"), ForeignKey("player", "team_id", "team", "id")),
)


def zipped(folder: Path, top: str = "") -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for source in sorted(folder.rglob("*")):
            if source.is_file():
                file.write(source, top + source.relative_to(folder).as_posix())
    return path


@pytest.mark.parametrize("form", ["folder", "folder with a top folder", "zip", "zip with a top folder"])
def test_folder_and_zip_give_the_same_examples_and_databases(tmp_path, form):
    folder = spider_folder(tmp_path / "data" / "spider_data", dev=[GOOD, {**GOOD, "sql": {"from": []}}])
    path = {
        "folder": lambda: folder,
        "folder with a top folder": lambda: folder.parent,
        "zip": lambda: zipped(folder),
        "zip with a top folder": lambda: zipped(folder, "spider_data/"),
    }[form]()
    with open_spider(path) as source:
        assert source.examples("train") == [Example(0, *GOOD.values())]
        assert source.examples("dev") == [Example(0, *GOOD.values()), Example(1, *GOOD.values(), {"from": []})]
        assert source.examples("dev", limit=1) == [Example(0, *GOOD.values())]
        assert source.database_ids() == {"league"}
        assert source.tables_json() == {}
        source.extract_database("league", tmp_path / "out" / "league.sqlite")
    assert schema_from_sqlite(tmp_path / "out" / "league.sqlite", "league") == SCHEMA
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["league.sqlite"]


def test_a_schema_survives_json():
    assert Schema.from_dict(json.loads(json.dumps(SCHEMA.to_dict()))) == SCHEMA
    for broken in (None, [], {}, {**SCHEMA.to_dict(), "tables": 3}, {**SCHEMA.to_dict(), "db_id": 3}):
        with pytest.raises(UserError, match="not a schema"):
            Schema.from_dict(broken)


def test_a_tables_entry_gives_the_schema_it_describes():
    entry = {
        "db_id": "league",
        "table_names_original": ["team", "player"],
        "column_names_original": [[-1, "*"], [0, "id"], [0, "town"], [1, "name"], [1, "team_id"]],
        "column_types": ["text", "number", "text", "text", "number"],
        "primary_keys": [1, [3, 4]],
        "foreign_keys": [[4, 1]],
    }
    schema = schema_from_tables_entry(entry)
    assert schema.tables == (
        Table("team", (Column("id", "number"), Column("town", "text")), ("id",)),
        Table("player", (Column("name", "text"), Column("team_id", "number")), ("name", "team_id")),
    )
    assert schema.foreign_keys == (ForeignKey("player", "team_id", "team", "id"),)
    for field in entry:
        with pytest.raises(UserError, match="not a schema"):
            schema_from_tables_entry({**entry, field: 7})
    with pytest.raises(UserError, match="tables.json, database league: not a schema"):
        schema_from_tables_entry({**entry, "foreign_keys": [[99, 1]]})


@pytest.mark.parametrize(
    ("dev", "message"),
    [
        ("", "found an empty file, wanted a JSON array"),
        ("{}", "found text that begins with '{', wanted a JSON array"),
        ("[]", "holds no examples, wanted at least one"),
        ("[{]", "example 0: not valid JSON"),
        ("[" * 100_000, "example 0: found '[', wanted a JSON object"),
        ("[" + '{"a":' * 100_000, "example 0: not valid JSON"),
        ('[{"a": ' + "9" * 5000 + "}]", "example 0: not valid JSON: Exceeds the limit"),
        (json.dumps([GOOD])[:-1], "example 0: not valid JSON: wanted , or ] after it"),
        (json.dumps([GOOD])[:-1] + ",", "example 1: found the end of the file, wanted a JSON object"),
        (json.dumps([GOOD]) + "x", "text after the array's end"),
        ([GOOD, 3], "example 1: found '3', wanted a JSON object"),
        ([GOOD, "text"], "example 1: found '\"', wanted a JSON object"),
        ([{"db_id": "a", "question": "b"}], "example 0: has no field 'query'"),
        ([{**GOOD, "question": 3}], "example 0: found a number as 'question', wanted a text"),
        ([{**GOOD, "question": " "}], "example 0: found an empty text as 'question', wanted a text"),
        ([{**GOOD, "query": []}], "example 0: found an array as 'query', wanted a text"),
        ([{**GOOD, "query": ["SELECT 1", 2]}], "example 0: found a number as 'query', wanted a text"),
        ([{**GOOD, "evidence": 3}], "example 0: found a number as 'evidence', wanted a text"),
        (
            [{**GOOD, "difficulty": ""}],
            "example 0: found an empty text as 'difficulty', wanted a text that is not empty",
        ),
        ([{**GOOD, "db_id": "../../etc"}], "example 0: found db_id '../../etc', wanted a plain file name"),
        ([{**GOOD, "db_id": ".."}], "wanted a plain file name"),
        ([{**GOOD, "sql": "SELECT"}], "example 0: found a text as 'sql', wanted an object"),
        ([{**GOOD, "question": "\ud800"}], "example 0: 'question' holds half of a surrogate pair"),
    ],
)
def test_a_split_that_is_not_right_is_named_with_its_place(tmp_path, dev, message):
    with open_spider(spider_folder(tmp_path / "spider", dev=dev)) as source, pytest.raises(UserError) as error:
        source.examples("dev")
    assert message in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}/spider/dev.json")
    assert "\n" not in str(error.value)


def test_a_split_that_is_not_utf8_or_missing_is_named(tmp_path):
    folder = spider_folder(tmp_path / "spider")
    (folder / "dev.json").write_bytes(json.dumps([GOOD]).replace("How", "H\xf6w").encode("latin-1"))
    (folder / "train_spider.json").unlink()
    with open_spider(folder) as source:
        with pytest.raises(UserError, match="dev.json: not UTF-8"):
            source.examples("dev")
        with pytest.raises(UserError, match="train_spider.json: no such file"):
            source.examples("train")
    (folder / "dev.json").unlink()
    with pytest.raises(UserError, match="found no dev.json, neither at the top"), open_spider(folder):
        pass


def sqlite_bytes(tmp_path: Path, script: str) -> bytes:
    path = tmp_path / "bytes.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(script)
    connection.close()
    return path.read_bytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"not a database at all" * 100, "not a valid SQLite file: file is not a database"),
        (lambda data: data[: len(data) // 2], "not a valid SQLite file|a damaged SQLite file"),
        (lambda data: data[:4096] + b"\xff" * 4096 + data[8192:], "not a valid SQLite file|a damaged SQLite file"),
        (lambda data: b"", "holds no table"),
    ],
)
def test_a_file_that_is_no_sound_database_is_named_and_leaves_nothing(tmp_path, damage, message):
    folder = spider_folder(tmp_path / "spider")
    rows = "CREATE TABLE t (a); " + "INSERT INTO t VALUES (hex(randomblob(2000)));" * 20
    (folder / "database/league/league.sqlite").write_bytes(damage(sqlite_bytes(tmp_path, rows)))
    with open_spider(folder) as source:
        with pytest.raises(UserError, match=message) as error:
            source.extract_database("league", tmp_path / "out.sqlite")
        assert str(error.value).startswith(f"{folder}/database/league/league.sqlite: ")
        with pytest.raises(UserError, match="database/other/other.sqlite: no such file"):
            source.extract_database("other", tmp_path / "out.sqlite")
    assert not (tmp_path / "out.sqlite").exists()


def test_a_rows_value_that_the_schema_forbids_is_no_damage(tmp_path):
    folder = spider_folder(tmp_path / "spider")
    script = """CREATE TABLE t (a); INSERT INTO t VALUES (NULL); PRAGMA writable_schema = 1;
        UPDATE sqlite_master SET sql = 'CREATE TABLE t (a NOT NULL)';"""
    (folder / "database/league/league.sqlite").write_bytes(sqlite_bytes(tmp_path, script))
    with open_spider(folder) as source:
        source.extract_database("league", tmp_path / "out.sqlite")
    assert schema_from_sqlite(tmp_path / "out.sqlite", "league").tables[0].name == "t"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("CREATE TABLE t (a); INSERT INTO u VALUES (1);", "SQLite refuses this text: no such table: u"),
        ("CREATE TABLE t (a); ATTACH 'reached.db' AS x;", "SQLite refuses this text: too many attached databases"),
        ("CREATE TABLE t (a); VACUUM INTO 'reached.db';", "SQLite refuses this text: "),
        ("CREATE TABLE t (a); BEGIN; INSERT INTO t VALUES (1);", "begins a transaction and does not end it"),
        ("CREATE TABLE t (a); \0", "SQLite refuses this text: embedded null character"),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT count(*) FROM n;", "interrupted"),
        ("-- nothing", "holds no table"),
    ],
)
def test_a_script_reaches_no_other_file_and_has_to_end(tmp_path, monkeypatch, script, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(databases, "_MAX_BUILD_STEPS", 3_000_000)
    folder = spider_folder(tmp_path / "spider")
    (folder / "database/league/league.sql").write_text(script)
    with open_spider(folder) as source, pytest.raises(UserError, match=message):
        source.extract_database("league", tmp_path / "out.sqlite")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spider"]


def test_a_full_disk_is_not_taken_for_a_fault_of_the_script(tmp_path):
    folder = spider_folder(tmp_path / "spider")
    script = "PRAGMA max_page_count = 2; CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(100000));"
    (folder / "database/league/league.sql").write_text(script)
    with open_spider(folder) as source, pytest.raises(OSError) as error:
        source.extract_database("league", tmp_path / "out.sqlite")
    assert error.value.errno == errno.ENOSPC
    assert not (tmp_path / "out.sqlite").exists()


def test_tables_json_is_read_by_database(tmp_path):
    folder = spider_folder(tmp_path / "spider", tables=[{"db_id": "a"}, {"db_id": "b"}])
    with open_spider(folder) as source:
        assert source.tables_json() == {"a": {"db_id": "a"}, "b": {"db_id": "b"}}
    (folder / "tables.json").write_text('[{"db_id": "a"}, {"db_id": 3}]')
    with open_spider(folder) as source, pytest.raises(UserError, match="tables.json, entry 1: has no text 'db_id'"):
        source.tables_json()
    (folder / "tables.json").unlink()
    with open_spider(folder) as source:
        assert source.tables_json() == {}


def test_a_long_split_streams_through_in_little_memory(tmp_path):
    examples = [{**GOOD, "question": f"{number} " + "é" * 300} for number in range(20_000)]
    path = zipped(spider_folder(tmp_path / "spider", train=examples))
    with open_spider(path) as source:
        tracemalloc.start()
        indices = [example.index for example in source.iter_examples("train")]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert indices == list(range(20_000))
    # The split is 38 MB of JSON; the list of its indices alone takes 0.8 MB of this.
    assert (tmp_path / "spider/train_spider.json").stat().st_size > 30_000_000
    assert peak < 4_000_000


JSON_VALUE = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON_OBJECT = st.dictionaries(st.text(max_size=3), JSON_VALUE | st.lists(JSON_VALUE, max_size=3), max_size=3)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    values=st.lists(JSON_OBJECT | st.fixed_dictionaries({"a": JSON_OBJECT}), max_size=4),
    indent=st.none() | st.integers(0, 3),
    chunk=st.integers(1, 7),
)
def test_the_streaming_reader_reads_every_array_as_json_does(values, indent, chunk):
    """Whatever lies across the border of two chunks."""

    class Drip(io.StringIO):
        def read(self, size=-1):
            return super().read(chunk)

    text = json.dumps(values, indent=indent)
    assert list(spider._iter_objects(Drip(text), "here", "example")) == json.loads(text)


FIELD = st.sampled_from(["db_id", "question", "query", "sql", "other"])
RECORD = st.dictionaries(FIELD, st.none() | st.integers() | st.text() | st.just("league") | st.just({}))


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.lists(st.just(GOOD) | RECORD | st.fixed_dictionaries(
        {"db_id": st.text(max_size=10), "question": st.text(), "query": st.text()}
    )).map(lambda records: json.dumps(records).encode())
    | st.tuples(st.integers(0, 150), st.integers(0, 255)).map(
        lambda flip: json.dumps([GOOD, GOOD]).encode()[: flip[0]]
        + bytes([flip[1]])
        + json.dumps([GOOD, GOOD]).encode()[flip[0] + 1 :]
    )
)  # fmt: skip
def test_any_split_gives_records_or_a_message(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "fuzzed_spider"
    folder.mkdir(exist_ok=True)
    (folder / "dev.json").write_bytes(data)
    with open_spider(folder) as source:
        try:
            examples = source.examples("dev")
        except UserError as error:
            assert str(error).startswith(f"{folder}/dev.json")
        else:
            assert examples
            for example in examples:
                assert example.question.strip() and example.query.strip() and "/" not in example.db_id


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode) | st.just(SQL.encode()))
def test_any_database_text_gives_a_database_or_a_message(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "fuzzed_database"
    shutil.rmtree(folder, ignore_errors=True)
    spider_folder(folder)
    (folder / "database/league/league.sql").write_bytes(data)
    destination = folder / "out.sqlite"
    with open_spider(folder) as source:
        try:
            source.extract_database("league", destination)
        except UserError:
            assert not destination.exists()
        else:
            assert schema_from_sqlite(destination, "league").tables


def test_the_real_archive_is_read_whole(spider_zip, tmp_path):
    with open_spider(spider_zip) as source:
        train, dev, databases = source.examples("train"), source.examples("dev"), source.database_ids()
        missing = [example.db_id for example in train if example.db_id not in databases]
        assert (len(train), len(dev), len(databases), len(source.tables_json())) == (7000, 1034, 164, 166)
        assert (missing.count("baseball_1"), missing.count("soccer_1"), len(missing)) == (82, 14, 96)
        assert all(example.sql for example in dev) and not any(example.sql for example in train)
        source.extract_database("concert_singer", tmp_path / "concert_singer.sqlite")
        schema = schema_from_sqlite(tmp_path / "concert_singer.sqlite", "concert_singer")
        assert [table.name for table in schema.tables] == ["stadium", "singer", "concert", "singer_in_concert"]
        assert len(schema.foreign_keys) == 3
        assert len(schema_from_tables_entry(source.tables_json()["soccer_1"]).tables) == 7


def test_spider_dk_beside_spiders_files_or_instead_of_them(tmp_path):
    folder = spider_folder(tmp_path / "spider")
    asked = {"db_id": GOOD["db_id"], "question": "Which players are from Moravia?", "query": GOOD["query"], "type": "1"}
    (folder / "Spider-DK.json").write_text(json.dumps([asked]))
    with open_spider(folder) as source:
        assert [example.question for example in source.examples("dk")] == [asked["question"]]
        assert [example.question for example in source.examples("dev")] == [GOOD["question"]]
    (folder / "dev.json").unlink()
    with open_spider(folder) as source:
        assert [example.question for example in source.examples("dev")] == [asked["question"]]
