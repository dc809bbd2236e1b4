"""Answers to training questions with verdicts on them: judged on a real database, kept, and refused of other splits."""

import contextlib
import gzip
import json
import sqlite3

import pytest

from text2sql.core.errors import UserError
from text2sql.data.spider import Example
from text2sql.execution.executor import Limits
from text2sql.scoring.judged import Drawn, counts_of, judged, read_judged, write_judged

LIMITS = Limits(max_steps=200_000, timeout_s=20, max_rows=1_000, max_megabytes=1)
EXAMPLES = [
    Example(3, "pets", "How many cats?", "SELECT count(*) FROM pet WHERE kind = 'cat'"),
    Example(4, "pets", "Names of dogs?", "SELECT name FROM pet WHERE kind = 'dog'"),
    Example(5, "pets", "Names of birds?", "SELECT name FROM pet WHERE kind = 'bird'"),
    Example(7, "pets", "What is broken?", "SELECT name FROM nowhere"),
]
HEADER = Drawn("m1", "0123456789abcdef", 3, 0.8, 0.95, 0)
RIGHT = "SELECT count(name) FROM pet WHERE kind = 'cat'"


def answers(*queries):
    samples = [
        {"raw": sql, "sql": sql, "new_tokens": 9, "log_likelihood": -1.5 - place} for place, sql in enumerate(queries)
    ]
    return {"samples": samples}


SAMPLES = [
    answers(RIGHT, "SELECT 5", RIGHT),
    # Two kinds of one dog: the official definition counts rows, the paper's compares sets.
    answers("SELECT name FROM pet WHERE kind = 'dog' UNION ALL SELECT 'Rex'", "SELECT nme FROM pet", ""),
    answers("SELECT 1 WHERE 0", "SELECT 1", "SELECT 1"),
    answers("SELECT 1", "SELECT 2", "SELECT 3"),
]


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "pets.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE pet (name TEXT, kind TEXT); INSERT INTO pet VALUES ('Tom', 'cat'), ('Kit', 'cat'), "
            "('Rex', 'dog');"
        )
    return path


@pytest.fixture
def records(database):
    return judged(EXAMPLES, SAMPLES, lambda db_id: database, LIMITS, workers=1)


@pytest.fixture
def path(records, tmp_path):
    write_judged(tmp_path / "m1.jsonl.gz", HEADER, records)
    return tmp_path / "m1.jsonl.gz"


def test_each_answer_has_its_verdict_and_first_rows(path):
    drawn, questions = read_judged(path, EXAMPLES)
    assert drawn == HEADER
    cats, dogs, birds, broken = questions
    assert [(answer.sql, answer.count, answer.right, answer.wrong) for answer in cats.answers] == [
        (RIGHT, 2, True, False),
        ("SELECT 5", 1, False, True),
    ]
    assert cats.answers[0].log_likelihood == -1.5
    assert cats.answers[0].result == {"columns": ["count(name)"], "rows": [[2]], "row_count": 1}
    disputed, failing, empty = dogs.answers
    assert not disputed.right and not disputed.wrong and disputed.execution_accuracy
    assert failing.wrong and failing.result is None and "nme" in failing.error
    assert empty.wrong and empty.sql == ""
    assert cats.telling and dogs.telling
    assert not birds.telling and birds.gold_rows == 0
    assert not broken.telling and "nowhere" in broken.gold_error and broken.answers == ()


def test_counts_leave_out_what_tells_nothing(path):
    counts = counts_of(read_judged(path, EXAMPLES)[1])
    assert counts == {
        "questions": 4, "gold_fails": 1, "gold_without_rows": 1, "none_right": 1, "all_right": 0,
        "right_and_wrong": 1, "answers": 6, "right": 2, "wrong": 3, "disputed": 1, "right_share": 0.333333,
    }  # fmt: skip


def test_equal_answers_give_equal_bytes(path, database):
    before = path.read_bytes()
    again = judged(EXAMPLES, SAMPLES, lambda db_id: database, LIMITS, workers=2)
    write_judged(path, HEADER, again)
    assert path.read_bytes() == before


def changed(path, change):
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    change(lines)
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: lines[1].update(index=99), "line 2: found index 99 of 'pets', which is no example"),
        (lambda lines: lines[2].update(question="Of dev?"), "line 3: found index 4 of 'pets', which is no example"),
        (lambda lines: lines[2].update(db_id="dev_db"), "line 3: found index 4 of 'dev_db', which is no example"),
        (lambda lines: lines.append(lines[1]), "line 6: found index 3 of 'pets', which is no example"),
        (lambda lines: lines[1].pop("samples"), "line 2: wanted a question with its samples and verdicts"),
        (lambda lines: lines[0].pop("model"), "line 1: wanted a header as the stage sample_train writes it"),
    ],
)
def test_what_is_not_of_the_training_split_is_refused(path, change, says):
    changed(path, change)
    with pytest.raises(UserError) as error:
        read_judged(path, EXAMPLES)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_damaged_file_is_one_line(path):
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="damaged"):
        read_judged(path, EXAMPLES)
