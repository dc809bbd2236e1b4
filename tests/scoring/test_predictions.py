"""Files of predictions: any system's, line by line, and our own stage's, which say which example a line is for."""

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
