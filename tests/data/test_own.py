"""A user's own folder becomes Spider's plain records, whatever form its questions have; what is wrong is one line."""

import csv
import json
import os
import shutil
import sqlite3
import unicodedata
import zipfile
from collections import Counter

import pyarrow
import pyarrow.parquet
import pytest

from text2sql.core.errors import UserError
from text2sql.data.own import Faults, held_out
from text2sql.data.sources import open_source

QUESTIONS = [
    {"db_id": db_id, "question": f"How many {db_id}, less {number}?", "query": f"SELECT count(*) - {number} FROM t"}
    for db_id in ("bikes", "boats", "cars")
    for number in range(4)
]


def database(path, rows=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
    connection.executemany("INSERT INTO t VALUES (?, ?)", [(number, f"b{number}" * 200) for number in range(rows)])
    connection.commit()
    connection.close()


@pytest.fixture
def folder(tmp_path):
    """Three databases, in folders or not, and no questions yet."""
    folder = tmp_path / "fleet"
    database(folder / "bikes.sqlite")
    database(folder / "databases/boats.db")
    database(folder / "databases/cars/cars.sqlite3")
    return folder


def write_jsonl(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_csv(path, records, delimiter=","):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(records)


def write_parquet(path, records):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)


WRITERS = {"jsonl": write_jsonl, "csv": write_csv, "parquet": write_parquet}


def split_examples(folder, holdout=None):
    with open_source(folder, holdout) as source:
        return {split: source.examples(split) for split in ("train", "dev")}


def message(folder, holdout=0.3):
    with pytest.raises(UserError) as raised:
        split_examples(folder, holdout)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("column", ["query", "sql", "SQL"])
def test_every_form_gives_the_same_examples(folder, ending, column):
    records = [
        {
            "id": str(number),
            "db_id": one["db_id"],
            "question": one["question"],
            column: one["query"],
            "hint": "t is a table" if number == 1 else "",
            "split": "dev" if number % 3 == 0 else "train",
        }
        for number, one in enumerate(QUESTIONS)
    ]
    WRITERS[ending](folder / f"questions.{ending}", records)
    found = split_examples(folder)
    assert [len(found[split]) for split in ("train", "dev")] == [8, 4]
    first = found["train"][0]
    assert (first.index, first.db_id, first.evidence) == (0, "bikes", "t is a table")
    assert (first.question, first.query) == (QUESTIONS[1]["question"], QUESTIONS[1]["query"])
    assert [example.index for example in found["dev"]] == [0, 1, 2, 3]
    assert found["train"][1].evidence is None


def test_a_zip_reads_as_its_folder(folder, tmp_path):
    write_parquet(folder / "questions.parquet", QUESTIONS)
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w") as file:
        for path in folder.rglob("*"):
            file.write(path, path.relative_to(tmp_path))
    assert split_examples(packed, 0.4) == split_examples(folder, 0.4)
    with open_source(packed, 0.4) as source:
        source.extract_database("boats", tmp_path / "out.sqlite")
    assert sqlite3.connect(tmp_path / "out.sqlite").execute("SELECT count(*) FROM t").fetchone() == (3,)


def test_a_file_a_split(folder):
    write_csv(folder / "train.csv", QUESTIONS[:8])
    write_jsonl(folder / "validation.jsonl", QUESTIONS[8:])
    found = split_examples(folder)
    assert [example.question for example in found["dev"]] == [one["question"] for one in QUESTIONS[8:]]
    assert len(found["train"]) == 8


def test_several_queries_may_answer_a_question(folder):
    several = ["SELECT count(*) - 0 FROM t", "SELECT sum(1) FROM t"]
    for ending in ("jsonl", "parquet"):
        rows = [{**one, "query": several if number == 0 else [one["query"]]} for number, one in enumerate(QUESTIONS)]
        WRITERS[ending](folder / f"questions.{ending}", rows)
        found = split_examples(folder, 0.4)
        (of_first,) = [one for split in found.values() for one in split if one.question == QUESTIONS[0]["question"]]
        assert of_first.queries == tuple(several)
        assert sum(len(one.queries) for split in found.values() for one in split) == len(QUESTIONS) + 1
        (folder / f"questions.{ending}").unlink()
    write_jsonl(folder / "questions.jsonl", [*QUESTIONS, QUESTIONS[0] | {"query": ["SELECT 1", 7]}])
    assert "line 13: found a number as 'query', wanted a text that is not empty" in message(folder)


def test_what_tools_leave_beside_the_questions_is_passed_over(folder):
    expected = None
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(QUESTIONS).assign(evidence=None)
    for write in (
        lambda: write_jsonl(folder / "questions.jsonl", QUESTIONS),
        lambda: frame.to_csv(folder / "questions.csv"),  # with its index, a column without a name
        lambda: frame[frame.index >= 0].sort_values("db_id").to_parquet(folder / "questions.parquet"),
        lambda: (folder / "questions.csv").write_text(  # a spreadsheet's: empty columns and rows at the end
            "\ufeff" + "".join(f"{line},,\r\n" for line in frame.to_csv(index=False).splitlines()) + ",,,,,\r\n" * 2,
            newline="",
        ),
    ):
        write()
        expected = expected or split_examples(folder, 0.4)
        assert split_examples(folder, 0.4) == expected
        for file in folder.glob("questions.*"):
            file.unlink()


def test_text_in_parquet_may_be_of_any_string_type(folder):
    kinds = pyarrow.string(), pyarrow.large_string(), pyarrow.string_view(), pyarrow.dictionary("int32", "string")
    table = pyarrow.Table.from_pylist(QUESTIONS)
    for kind in kinds:
        columns = {name: table[name].combine_chunks().cast(kind) for name in table.column_names}
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / "questions.parquet")
        assert len(split_examples(folder, 0.4)["dev"]) == 4


def test_a_macs_names_and_files_beside_others_are_no_other_databases(tmp_path):
    database(tmp_path / "shop" / (unicodedata.normalize("NFD", "k\u00e4se") + ".sqlite"))
    (tmp_path / "shop/._k\u00e4se.sqlite").write_bytes(b"\0\5\26\7")
    (tmp_path / "shop/._questions.jsonl").write_bytes(b"\0\5\26\7")
    rows = [{"question": f"How many, less {number}?", "query": f"SELECT {number}"} for number in range(9)]
    for db_id in ({"db_id": "k\u00e4se"}, {"db_id": unicodedata.normalize("NFD", "k\u00e4se")}, {}):
        write_jsonl(tmp_path / "shop/questions.jsonl", [{**row, **db_id} for row in rows])
        assert {one.db_id for one in split_examples(tmp_path / "shop", 0.3)["dev"]} == {"k\u00e4se"}


def test_questions_about_one_of_several_databases_are_divided(folder):
    write_jsonl(folder / "questions.jsonl", QUESTIONS[:4])
    found = split_examples(folder, 0.5)
    assert len(found["train"]) == len(found["dev"]) == 2
    write_jsonl(folder / "questions.jsonl", [one | {"query": "SELECT 1"} for one in QUESTIONS[:4]])
    assert "data.holdout: all questions have one query, which cannot be divided" in message(folder)


def test_one_split_alone_can_be_asked(folder):
    write_jsonl(folder / "dev.jsonl", QUESTIONS)
    with open_source(folder) as source:
        assert len(source.examples("dev")) == len(QUESTIONS)
        with pytest.raises(UserError, match="no question is of the train split"):
            source.examples("train")


def test_whole_databases_are_held_out_where_there_are_several(folder):
    write_jsonl(folder / "questions.jsonl", QUESTIONS)
    found = split_examples(folder, 0.4)
    train, dev = ({example.db_id for example in found[split]} for split in ("train", "dev"))
    assert len(train) == 2 and len(dev) == 1 and not train & dev
    again = split_examples(shutil.copytree(folder, folder.with_name("copy")), 0.4)
    assert found == again


def test_equal_queries_stay_together_where_there_is_one_database(tmp_path):
    database(tmp_path / "shop/shop.sqlite")
    records = [
        {"question": f"Question {number}, said {way}?", "query": query}
        for number in range(40)
        for way, query in (("so", f"SELECT {number}  FROM t"), ("otherwise", f"select {number} from t;"))
    ]
    write_jsonl(tmp_path / "shop/questions.jsonl", records)
    found = split_examples(tmp_path / "shop", 0.25)
    numbers = {split: {example.question.split(",")[0] for example in found[split]} for split in found}
    assert not numbers["train"] & numbers["dev"]
    assert len(found["dev"]) == 20 and {example.db_id for example in found["dev"]} == {"shop"}


def test_one_unit_is_held_out_and_never_all():
    assert held_out(Counter({b"a": 10, b"b": 3}), 0.01) == {b"b"}
    assert len(held_out(Counter({b"a": 1, b"b": 1}), 0.99)) == 1


FAULTS = {
    "a missing database": (
        [*QUESTIONS, QUESTIONS[0] | {"db_id": "boat"}],
        "line 13: found no database 'boat' (did you mean boats?)",
    ),
    "no question": ([*QUESTIONS, QUESTIONS[0] | {"question": " "}], "line 13: found an empty text as 'question'"),
    "null": ([*QUESTIONS, QUESTIONS[0] | {"question": None}], "line 13: has no question"),
    "a number": ([*QUESTIONS, QUESTIONS[0] | {"query": 7}], "line 13: found a number as 'query'"),
    "no db_id": ([{"question": "How?", "query": "SELECT 1"}], "has no db_id, and there are 3 databases"),
    "no column": ([{"question": "How?", "db_id": "cars"}], "has no column 'query'; found question, db_id"),
    "unknown": (
        [{"qestion": "How?", "query": "SELECT 1", "db_id": "cars"}],
        "unknown column 'qestion' (did you mean question?); found qestion, query, db_id; wanted question and query",
    ),
    "twice": ([QUESTIONS[0] | {"sql": "SELECT 2"}], "has both 'query' and 'sql', which mean the same"),
    "split": ([QUESTIONS[0] | {"split": "trian"}], "found split 'trian' (did you mean train?)"),
    "some split": (
        [QUESTIONS[0] | {"split": "train"}, QUESTIONS[1]],
        "some questions name a split (questions.jsonl: train) and others none",
    ),
    "two names": (
        [QUESTIONS[0] | {"split": "dev"}, QUESTIONS[1] | {"split": "test"}],
        "line 2: found split 'test', and 'dev' before, which mean the same",
    ),
    "one split": ([one | {"split": "train"} for one in QUESTIONS], "no question is of the dev split"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_that_is_not_right_is_named(folder, fault):
    records, said = FAULTS[fault]
    write_jsonl(folder / "questions.jsonl", records)
    assert said in message(folder, None if "split" in fault or "name" in fault else 0.3)


def test_all_faults_are_kept_one_line_each(folder):
    write_jsonl(folder / "questions.jsonl", [one | {"question": "", "db_id": "x"} for one in QUESTIONS[:3]])
    with pytest.raises(Faults) as raised, open_source(folder, 0.3):
        pass
    assert len(raised.value.faults) == 3 and "and 2 more" in str(raised.value)


def test_questions_without_a_split_need_a_share(folder):
    write_jsonl(folder / "questions.jsonl", QUESTIONS)
    assert "name no split; wanted a column split" in message(folder, None)
    write_jsonl(folder / "questions.jsonl", [one | {"split": "dev"} for one in QUESTIONS])
    assert "data.holdout: got 0.3, and the questions" in message(folder, 0.3)


def test_a_share_of_spiders_layout_is_refused(repository):
    assert "has splits already" in message(repository / "data/sample/spider")


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("questions.csv", "questions.jsonl", "questions.csv and questions.jsonl both hold all questions"),
        ("dev.csv", "dev.jsonl", "dev.csv and dev.jsonl both hold the dev split"),
        ("dev.csv", "test.csv", "dev.csv and test.csv both hold the dev split"),
    ],
)
def test_two_files_that_claim_one_split_are_named(folder, one, other, said):
    for name in (one, other, *(["train.csv"] if one != "questions.csv" else [])):
        WRITERS[name.partition(".")[2]](folder / name, QUESTIONS)
    assert message(folder, None).startswith(f"{folder}: {said}")


def test_two_files_of_one_database_are_named(folder):
    write_jsonl(folder / "questions.jsonl", QUESTIONS)
    shutil.copy(folder / "bikes.sqlite", folder / "databases/bikes.db")
    assert "bikes.sqlite and databases/bikes.db are both database bikes" in message(folder)


def test_a_folder_without_databases_or_questions_is_named(tmp_path):
    (tmp_path / "nothing").mkdir()
    assert "found no dev.json or questions.jsonl, questions.csv or questions.parquet" in message(tmp_path / "nothing")
    write_jsonl(tmp_path / "nothing/questions.jsonl", QUESTIONS)
    assert "holds no database; wanted SQLite files (*.sqlite, *.sqlite3, *.db)" in message(tmp_path / "nothing")


def test_csv_of_another_form_is_named(folder):
    path = folder / "questions.csv"
    write_csv(path, QUESTIONS, delimiter=";")
    assert message(folder).endswith("questions.csv: its columns are separated by semicolons; wanted commas")
    path.write_text('question,query,db_id\n"How?,SELECT 1,cars\n')
    assert "not valid CSV" in message(folder)
    path.write_text("question,query,db_id\nHow?,SELECT 1, 2,cars\n")
    assert "line 2: found 4 fields, wanted 3 as in the first line" in message(folder)
    path.write_bytes("question,query,db_id\nWie groß?,SELECT 1,cars\n".encode("latin-1"))
    assert "not UTF-8" in message(folder)


def test_parquet_of_another_form_is_named(folder):
    path = folder / "questions.parquet"
    write_parquet(path, [one | {"question": number} for number, one in enumerate(QUESTIONS)])
    assert message(folder).endswith("questions.parquet: column 'question' is of type int64, wanted string")
    path.write_bytes(path.read_bytes()[:300])
    assert "questions.parquet: not a valid Parquet file" in message(folder)


def test_json_lines_that_are_none_are_named(folder):
    (folder / "questions.jsonl").write_text('{"question": "How?"\n')
    assert "questions.jsonl, line 1: not valid JSON" in message(folder)


def test_questions_that_change_while_they_are_read_are_refused(folder):
    write_jsonl(folder / "questions.jsonl", QUESTIONS)
    with pytest.raises(UserError, match=r"questions.jsonl: changed while it was read; run it again"):
        with open_source(folder, 0.3) as source:
            source.examples("train")
            write_jsonl(folder / "questions.jsonl", [*QUESTIONS, QUESTIONS[0]])
            source.examples("dev")


@pytest.mark.parametrize("locked", ["", "locked", "cars.db"])
def test_what_may_not_be_read_is_named(folder, tmp_path, locked):
    write_jsonl(folder / "questions.jsonl", QUESTIONS)
    database(folder / "locked/trains.db")
    (folder / "databases/cars/cars.sqlite3").rename(folder / "cars.db")
    (folder / locked).chmod(0)
    try:
        if os.access(folder / locked, os.R_OK):
            pytest.skip("needs a user who may not read everything")
        with pytest.raises(UserError, match="not permitted to read this") as raised, open_source(folder, 0.3) as source:
            source.extract_database("cars", tmp_path / "cars.sqlite")
        assert str(raised.value).startswith(f"{folder / locked}: ")
    finally:
        (folder / locked).chmod(0o700)


def content(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_a_database_in_use_is_copied_with_its_changes_and_left_alone(folder, tmp_path):
    write_jsonl(folder / "questions.jsonl", QUESTIONS)
    connection = sqlite3.connect(folder / "bikes.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("INSERT INTO t VALUES (99, 'late')")
    before = content(folder)
    with open_source(folder, 0.3) as source:
        assert source.database_path("bikes") is None and source.database_path("boats") is not None
        source.extract_database("bikes", tmp_path / "copy.sqlite")
    assert content(folder) == before
    connection.close()
    assert sqlite3.connect(tmp_path / "copy.sqlite").execute("SELECT count(*) FROM t").fetchone() == (4,)


BROKEN = {
    "encrypted": (lambda data: os.urandom(len(data)), "file is not a database, but encrypted or of another kind"),
    "truncated": (lambda data: data[: len(data) // 2], "not a valid SQLite file|a damaged SQLite file"),
    "empty": (lambda data: b"", "holds no table"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_database_is_named_and_nothing_left(folder, tmp_path, kind):
    breaks, said = BROKEN[kind]
    write_jsonl(folder / "questions.jsonl", QUESTIONS)
    database(folder / "large.sqlite", rows=300)
    path = folder / "large.sqlite"
    path.write_bytes(breaks(path.read_bytes()))
    with open_source(folder, 0.3) as source, pytest.raises(UserError, match=said) as raised:
        source.extract_database("large", tmp_path / "out/large.sqlite")
    assert "large.sqlite: " in str(raised.value) and not list((tmp_path / "out").iterdir())
