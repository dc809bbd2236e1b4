"""MMLU's two layouts: the questions that come out, and what is said where they are not right."""

import io
import zipfile
from collections import Counter

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testkit.raw_data import ROWS, csv_text, mmlu_folder
from text2sql.core.errors import UserError
from text2sql.data import mmlu
from text2sql.data.mmlu import CATEGORIES, SUBJECT_CATEGORY, Question, open_mmlu, read_parquet, write_parquet

QUESTIONS = [
    Question("philosophy", 0, ROWS[0][0], tuple(ROWS[0][1:5]), 0),
    Question("philosophy", 1, ROWS[1][0], tuple(ROWS[1][1:5]), 1),
]


def hub_table(questions=QUESTIONS, **changes):
    columns = {
        "question": [question.question for question in questions],
        "subject": [question.subject for question in questions],
        "choices": [list(question.choices) for question in questions],
        "answer": [question.answer for question in questions],
    }
    return pyarrow.table({name: value for name, value in (columns | changes).items() if value is not None})


def hub_folder(folder, test=None, dev=None):
    (folder / "philosophy").mkdir(parents=True)
    for split, table in (("test", test), ("dev", dev)):
        pyarrow.parquet.write_table(
            hub_table() if table is None else table, folder / "philosophy" / f"{split}-00000-of-00001.parquet"
        )
    return folder


def test_the_57_subjects_fall_into_hendrycks_categories():
    assert Counter(SUBJECT_CATEGORY.values()) == {"stem": 18, "humanities": 13, "social_sciences": 12, "other": 14}
    assert set(CATEGORIES) == set(SUBJECT_CATEGORY.values())
    # Some others count it as STEM; in Hendrycks et al.'s own table it is a health subject.
    assert SUBJECT_CATEGORY["anatomy"] == "other"


@pytest.mark.parametrize("layout", [mmlu_folder, hub_folder])
@pytest.mark.parametrize("form", ["folder", "below a top folder", "zip", "zip with a top folder"])
def test_both_layouts_give_the_same_questions(tmp_path, layout, form):
    folder = layout(tmp_path / "data" / "mmlu")
    path = folder if form == "folder" else folder.parent
    if form.startswith("zip"):
        path = tmp_path / "mmlu.zip"
        base = folder if form == "zip" else folder.parent
        with zipfile.ZipFile(path, "w") as file:
            for source in folder.rglob("*.*"):
                file.write(source, source.relative_to(base).as_posix())
    with open_mmlu(path) as source:
        assert source.questions("philosophy", "test") == QUESTIONS
        assert source.questions("philosophy", "dev", limit=1) == QUESTIONS[:1]
        with pytest.raises(UserError, match="virology_test.csv: no such file, and no virology/test-"):
            source.questions("virology", "test")


def test_parquet_in_several_parts_is_read_in_their_order(tmp_path):
    folder = hub_folder(tmp_path / "mmlu")
    pyarrow.parquet.write_table(hub_table(QUESTIONS[:1]), folder / "philosophy/test-00000-of-00002.parquet")
    pyarrow.parquet.write_table(hub_table(QUESTIONS[1:]), folder / "philosophy/test-00001-of-00002.parquet")
    (folder / "philosophy/test-00000-of-00001.parquet").unlink()
    with open_mmlu(folder) as source:
        assert source.questions("philosophy", "test") == QUESTIONS


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("", "holds no questions, wanted at least one"),
        ("\r\n\r\n", "holds no questions"),
        ([ROWS[0], ROWS[1][:5]], "line 3: found 5 fields, wanted 6"),
        ([[*ROWS[1], "E"]], "line 1: found 7 fields, wanted 6"),
        ([[*ROWS[1][:5], "E"]], "line 1: found 'E' as answer, wanted A, B, C or D"),
        ([[*ROWS[1][:5], "1"]], "line 1: found '1' as answer"),
        ([["question", "A", "B", "C", "D", "answer"], *ROWS], "line 1: found 'answer' as answer"),
        ([["", *ROWS[1][1:]]], "line 1: found '' as question, wanted a text that is not empty"),
        ([[*ROWS[1][:4], " ", "A"]], "line 1: found ' ' as choice"),
        ('"never closed,a,b,c,d,A\nq,a,b,c,d,A\n', "not valid CSV: unexpected end of data"),
        ('"closed" twice,a,b,c,d,A\n', "line 1: not valid CSV"),
        ("q" * 200_000 + ",a,b,c,d,A\n", "line 1: not valid CSV: field larger than field limit"),
        ("question,Caf\xe9,b,c,d,A\n".encode("latin-1"), "not UTF-8"),
    ],
)
def test_csv_that_is_not_right_is_named_with_its_line(tmp_path, test, message):
    with open_mmlu(mmlu_folder(tmp_path / "mmlu", test=test)) as source, pytest.raises(UserError) as error:
        source.questions("philosophy", "test")
    assert message in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}/mmlu/test/philosophy_test.csv")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"choices": None}, "has no column 'choices'; found question, subject, answer; wanted"),
        ({"choices": [["a", "b", "c"], ["a"]]}, "row 0: found 3 choices, wanted four texts"),
        ({"choices": [list("abcd"), None]}, "row 1: found None as choices, wanted four texts"),
        ({"choices": [list("abcd"), ["a", "b", "c", None]]}, "row 1: found None as choice, wanted a text"),
        ({"choices": ["abcd", "abcd"]}, "row 0: found 'abcd' as choices, wanted four texts"),
        ({"answer": [0, 4]}, "row 1: found 4 as answer, wanted a whole number from 0 to 3"),
        ({"answer": ["A", "B"]}, "row 0: found 'A' as answer"),
        ({"answer": [True, False]}, "row 0: found True as answer"),
        ({"answer": [1.0, 2.0]}, "row 0: found 1.0 as answer"),
        ({"question": ["", "x"]}, "row 0: found '' as question"),
        ({"question": [1, 2]}, "row 0: found 1 as question"),
        ({"subject": ["philosophy", "virology"]}, "row 1: found subject 'virology', wanted 'philosophy'"),
        ({"question": [], "subject": [], "choices": [], "answer": []}, "holds no questions"),
    ],
)
def test_parquet_that_is_not_right_is_named_with_its_row(tmp_path, changes, message):
    folder = hub_folder(tmp_path / "mmlu", test=hub_table(**changes))
    with open_mmlu(folder) as source, pytest.raises(UserError) as error:
        source.questions("philosophy", "test")
    assert message in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}/mmlu/philosophy/test-")


def test_parquet_that_declares_too_much_is_not_read(tmp_path, monkeypatch):
    folder = hub_folder(tmp_path / "mmlu")
    monkeypatch.setattr(mmlu, "_MAX_PARQUET_ROWS", 1)
    with open_mmlu(folder) as source, pytest.raises(UserError, match="declares 2 rows"):
        source.questions("philosophy", "test")


def test_what_is_no_mmlu_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="found no test/<subject>_test.csv or <subject>/test-"):
        with open_mmlu(tmp_path / "empty"):
            pass


def test_the_prepared_file_gives_back_what_was_written(tmp_path):
    path = tmp_path / "philosophy.parquet"
    write_parquet(path, {"dev": QUESTIONS[:1], "test": QUESTIONS})
    assert read_parquet(path, "test") == QUESTIONS
    assert read_parquet(path, "test", limit=1) == QUESTIONS[:1]
    assert read_parquet(path, "dev") == QUESTIONS[:1]
    first = path.read_bytes()
    write_parquet(path, {"dev": QUESTIONS[:1], "test": QUESTIONS})
    assert path.read_bytes() == first
    table = pyarrow.parquet.read_table(path)
    assert table.schema.names == ["split", "subject", "category", "question", "choices", "answer"]
    assert set(table["category"].to_pylist()) == {"humanities"}
    write_parquet(path, {"test": QUESTIONS})
    with pytest.raises(UserError, match="philosophy.parquet: holds no dev questions"):
        read_parquet(path, "dev")
    path.write_bytes(first[:-20])
    with pytest.raises(UserError, match="philosophy.parquet: not a valid Parquet file"):
        read_parquet(path, "dev")
    with pytest.raises(UserError, match="none.parquet: no such file"):
        read_parquet(tmp_path / "none.parquet", "dev")


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(str.encode)
    | st.lists(st.lists(st.text(max_size=5) | st.sampled_from("ABCD"), min_size=4, max_size=7), max_size=4).map(
        lambda rows: csv_text(rows).encode()
    )
    | st.lists(st.tuples(*[st.text(max_size=9)] * 5, st.sampled_from("ABCDE")), max_size=4).map(
        lambda rows: csv_text(rows).encode()
    )
)  # fmt: skip
def test_any_csv_gives_questions_or_a_message(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "fuzzed_mmlu"
    (folder / "test").mkdir(parents=True, exist_ok=True)
    (folder / "test/philosophy_test.csv").write_bytes(data)
    check_questions_or_message(folder)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(position=st.integers(0, 5000), value=st.integers(0, 255), length=st.integers(0, 5000))
def test_any_damage_to_parquet_gives_questions_or_a_message(tmp_path_factory, position, value, length):
    folder = tmp_path_factory.getbasetemp() / "fuzzed_parquet"
    file = folder / "philosophy" / "test-00000-of-00001.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(hub_table(), buffer)
    data = bytearray(buffer.getvalue())
    data[position % len(data)] = value
    file.write_bytes(data[: len(data) - (length % len(data) if length % 3 == 0 else 0)])
    check_questions_or_message(folder)


def check_questions_or_message(folder):
    with open_mmlu(folder) as source:
        try:
            questions = source.questions("philosophy", "test")
        except UserError as error:
            assert str(error).startswith(str(folder))
        else:
            assert questions
            for question in questions:
                assert question.question.strip() and len(question.choices) == 4 and question.answer in range(4)


def test_the_real_archive_is_read_whole(mmlu_zip):
    with open_mmlu(mmlu_zip) as source:
        counts = {
            split: sum(len(source.questions(subject, split)) for subject in SUBJECT_CATEGORY)
            for split in ("dev", "test")
        }
    assert counts == {"dev": 285, "test": 14_042}
