"""Files of samples: what is read of them, and what is refused in one line."""

import gzip
import json

import pytest

from text2sql.core.errors import UserError
from text2sql.data.spider import Example
from text2sql.scoring.samples import in_halves, read_questions

EXAMPLES = [Example(index, "concert", "Who?", "SELECT 1") for index in range(3)]
GREEDY = ["SELECT 0", "SELECT 1", "SELECT 2"]


def line(index, *queries, db_id="concert", likelihood=-1.5, **more):
    samples = [{"raw": sql, "sql": sql, "new_tokens": 3, "log_likelihood": likelihood} for sql in queries]
    return {"index": index, "db_id": db_id, "samples": samples, **more}


@pytest.fixture
def write(tmp_path):
    def write(*lines):
        path = tmp_path / "samples.jsonl"
        path.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines))
        return path

    return write


def test_samples_stand_beside_their_greedy_answers_compressed_or_not(write, tmp_path):
    path = write(line(2, "SELECT 5", "SELECT 6"), line(0, "SELECT 3", " SELECT 4 "))
    questions = read_questions(path, GREEDY, EXAMPLES)
    assert [(one.index, one.greedy, [answer.sql for answer in one.samples]) for one in questions] == [
        (0, "SELECT 0", ["SELECT 3", "SELECT 4"]),
        (1, "SELECT 1", []),
        (2, "SELECT 2", ["SELECT 5", "SELECT 6"]),
    ]
    assert questions[0].samples[0].log_likelihood == -1.5
    packed = tmp_path / "samples.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_questions(packed, GREEDY, EXAMPLES) == questions


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["SELECT 1"], "line 1: wanted an object with index, db_id and samples"),
        (["[1]"], "line 1: wanted an object"),
        ([line(0, "SELECT 1") | {"samples": [{"sql": None}]}], "line 1: wanted an object"),
        ([line(0, "SELECT 1"), line(7, "SELECT 1")], "line 2: found index 7 of 'concert', which is no example"),
        ([line(0, "SELECT 1", db_id="zoo")], "line 1: found index 0 of 'zoo', which is no example"),
        ([line(0, "SELECT 1"), line(0, "SELECT 1")], "line 2: index 0 comes twice"),
        ([line(0)], "line 1: wanted an object with index, db_id and samples, at least one, each"),
        ([line(0, "SELECT 1", likelihood=float("nan"))], "samples, at least one, each with sql and a finite log_likel"),
        ([line(0, "SELECT 1"), line(1, "SELECT 1", "SELECT 2")], "found 1 samples of one question and 2 of another"),
    ],
)
def test_files_that_are_none_are_one_line(write, lines, said):
    with pytest.raises(UserError) as error:
        read_questions(write(*lines), GREEDY, EXAMPLES)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_questions_of_halved_batches_are_counted_once(write, tmp_path):
    samples = write(line(0, "SELECT 1", halved_batch=True), line(1, "SELECT 1"))
    greedy = tmp_path / "predictions.jsonl"
    marks = [{"halved_batch": True}, {"halved_batch": True}, {}]
    greedy.write_text("".join(json.dumps({"index": index, **mark}) + "\n" for index, mark in enumerate(marks)))
    assert in_halves(greedy, samples) == 2


def odds(index, db_id="concert", **judged):
    return {
        "index": index,
        "db_id": db_id,
        "judged": [{"sql": sql, "log_odds": value} for sql, value in judged.items()],
    }


def test_a_verifiers_log_odds_stand_beside_the_samples(write, tmp_path):
    samples = write(line(0, "A", " B ", "A", "C"))
    beside = tmp_path / "log_odds.jsonl"
    beside.write_text(json.dumps(odds(0, A=1.5, B=None)) + "\n")
    questions = read_questions(samples, GREEDY, EXAMPLES, beside)
    assert [answer.log_odds for answer in questions[0].samples] == [1.5, None, 1.5, None]
    assert questions[1].samples == ()
    assert [answer.log_odds for answer in read_questions(samples, GREEDY, EXAMPLES)[0].samples] == [None] * 4


def test_log_odds_among_the_samples_count_where_no_others_are_given(write, tmp_path):
    of_one = line(0, "A", "B")
    for sample, value in zip(of_one["samples"], (2.5, None), strict=True):
        sample["log_odds"] = value
    samples, beside = write(of_one), tmp_path / "log_odds.jsonl"
    assert [answer.log_odds for answer in read_questions(samples, GREEDY, EXAMPLES)[0].samples] == [2.5, None]
    beside.write_text(json.dumps(odds(0, A=None, B=-1.0)) + "\n")
    assert [answer.log_odds for answer in read_questions(samples, GREEDY, EXAMPLES, beside)[0].samples] == [None, -1.0]
    of_one["samples"][0]["log_odds"] = float("nan")
    with pytest.raises(UserError, match="line 1: wanted an object with index, db_id and samples"):
        read_questions(write(of_one), GREEDY, EXAMPLES)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "has no line of index 0, which has samples; judge them with these samples"),
        (
            [odds(0, A=float("inf"))],
            "line 1: wanted an object with index, db_id and judged, each with sql and log_odds",
        ),
        ([odds(0, A="high")], "line 1: wanted an object with index, db_id and judged"),
        ([odds(0, db_id="zoo", A=1)], "line 1: found index 0 of 'zoo', which is no example of this split"),
    ],
)
def test_log_odds_of_other_samples_are_one_line(write, tmp_path, lines, said):
    samples = write(line(0, "A", "B"))
    beside = tmp_path / "log_odds.jsonl"
    beside.write_text("".join(json.dumps(one) + "\n" for one in lines))
    with pytest.raises(UserError) as error:
        read_questions(samples, GREEDY, EXAMPLES, beside)
    assert said in str(error.value) and "\n" not in str(error.value)
