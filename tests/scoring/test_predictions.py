"""Files of predictions: any system's, line by line, and our own stage's, which say which example a line is for."""

import gzip
import json

import pytest

from text2sql.core.errors import UserError
from text2sql.data.spider import Example
from text2sql.scoring.predictions import read_predictions

EXAMPLES = [Example(index, "x", "?", "SELECT 1") for index in range(4)]


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "predictions"
        path.write_bytes(text.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\nc\nd", ["a", "b", "c", "d"]),
        ("a\r\nb\r\n  c\t x\r\nd\n", ["a", "b", "c", "d"]),
        ("a\n\nc\nd\n", ["a", "", "c", "d"]),
        ("a\nb\nc\nd\n\n\n", ["a", "b", "c", "d"]),
        ("a\nb\nc\n\n", ["a", "b", "c", ""]),
        ("a\u2028b\nc\n\x0bd\ne", ["a\u2028b", "c", "d", "e"]),
        (
            '{"sql": "a\\nb"}\n{"sql": "b", "index": 1, "db_id": "x"}\n\n{"sql": " c "}\n{"sql": ""}',
            ["a\nb", "b", "c", ""],
        ),
    ],
)
def test_predictions_are_read_line_by_line(write, text, expected):
    assert read_predictions(write(text), EXAMPLES) == expected


@pytest.mark.parametrize("text", ["a\r\nb\nc\nd", "\ufeff" + "\n".join(json.dumps({"sql": name}) for name in "abcd")])
def test_a_file_may_be_compressed(tmp_path, text):
    path = tmp_path / "predictions"  # told by its first bytes, not by its name
    path.write_bytes(gzip.compress(text.encode()))
    assert read_predictions(path, EXAMPLES) == list("abcd")


@pytest.mark.parametrize("damage", [lambda whole: whole[:-6], lambda whole: whole[:2], lambda whole: whole[:14] + b"?"])
def test_a_damaged_compressed_file_is_named(tmp_path, damage):
    path = tmp_path / "m1.jsonl.gz"
    path.write_bytes(damage(gzip.compress(b"SELECT 1\n" * 4)))
    with pytest.raises(UserError, match=r"m1.jsonl.gz: damaged: .*; wanted a whole file of gzip") as raised:
        read_predictions(path, EXAMPLES)
    assert "\n" not in str(raised.value)


SQL = ["SELECT 1", 'SELECT "a\\tb"', "", "SELECT\n4"]
OBJECTS = [{"index": index, "sql": sql, "raw": f"It is {sql}"} for index, sql in enumerate(SQL)]
BIRD = {str(index): f"{sql}\t----- bird -----\tx" for index, sql in enumerate(SQL)}


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(
    "text",
    [
        "\n".join(map(json.dumps, OBJECTS)),
        "\r\n".join(map(json.dumps, SQL)) + "\r\n",
        json.dumps(OBJECTS, indent=1),
        json.dumps(SQL),
        json.dumps(BIRD, indent=4),
        json.dumps(dict(reversed(BIRD.items()))),
        json.dumps({str(index): sql for index, sql in enumerate(SQL)}),
    ],
)
def test_json_in_any_form_gives_the_same_predictions(write, text, mark):
    assert read_predictions(write(mark + text), EXAMPLES) == SQL


def test_a_byte_order_mark_is_no_part_of_a_query(write):
    assert read_predictions(write("\ufeffa\nb\nc\nd\n"), EXAMPLES) == ["a", "b", "c", "d"]


def test_the_answers_that_the_sql_was_taken_from_are_read_too(write):
    text = "\n".join(map(json.dumps, OBJECTS))
    assert read_predictions(write(text), EXAMPLES, field="raw")[0] == "It is SELECT 1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '# made by x\n{"sql": "a"}\n{"sql": "b"}\n{"sql": "c"}\n',
            "line 1: not valid JSON, as other lines are: '# made",
        ),
        (
            '{"predictions": ["a", "b"]}',
            "line 1: found no text as 'sql', wanted the predicted query; it has the fields",
        ),
        ('{\n "predictions": ["a", "b"]\n}', "found an object with the fields 'predictions', wanted"),
        ('["a", "b", 3, "d"]', "item 3: found a number, wanted a text"),
        ('["a", "b"]', "found 2 predictions, wanted 4"),
        ('["a", "b"', "begins as JSON does"),
        ('{"0": "a", "1": "b", "2": "c"}', "found none for example 3"),
        (json.dumps({**BIRD, "2": "a\t----- bird -----\ty"}), "key 2: found db_id 'y', wanted 'x'"),
        ("index,sql\n0,a\n", "found 2 predictions, wanted 4, one a line for each example (the first: 'index,sql')"),
    ],
)
def test_a_file_that_fits_no_form_is_one_line_that_shows_what_was_found(write, text, message):
    with pytest.raises(UserError) as caught:
        read_predictions(write(text), EXAMPLES)
    assert message in str(caught.value) and "\n" not in str(caught.value)


OWN = "".join(f'{{"index": {index}, "sql": "SELECT {index}"}}\n' for index in range(4))


def test_our_own_stages_lines_say_which_example_they_are_for(write):
    assert read_predictions(write(OWN), EXAMPLES, stage="predict_spider") == [f"SELECT {index}" for index in range(4)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            OWN.replace('"index": 2', '"index": 1'),
            "line 3: found index 1, wanted 2 as in data/prepared/spider",
        ),
        (OWN.partition("\n")[2], "line 1: found index 1, wanted 0 as in"),
        (OWN.rstrip().rpartition("\n")[0], "found 3 predictions, wanted 4 as data/prepared/spider/dev.jsonl has"),
        ("", "found 0 predictions, wanted 4 as"),
    ],
)
def test_our_own_stages_file_of_other_examples_says_what_to_run_again(write, text, message):
    with pytest.raises(UserError, match="; run predict_spider again$") as caught:
        read_predictions(write(text), EXAMPLES, stage="predict_spider")
    assert message in str(caught.value)


def test_our_own_stages_file_is_never_taken_for_plain_queries(write):
    with pytest.raises(UserError, match="line 1: not valid JSON"):
        read_predictions(write("a\nb\nc\nd\n"), EXAMPLES, stage="predict_spider")
