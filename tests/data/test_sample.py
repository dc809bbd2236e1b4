"""The project's own sample benchmark: what a user of the default experiment relies on, checked on real SQLite."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from text2sql.data.mmlu import open_mmlu
from text2sql.data.schema import schema_from_sqlite
from text2sql.data.spider import Example, open_spider
from text2sql.prompts.messages import load_few_shot

SUBJECTS = ("high_school_computer_science", "high_school_macroeconomics", "philosophy")

CONSTRUCTS = {
    "join": r"\bJOIN\b",
    "join of three tables": r"\bJOIN\b.*\bJOIN\b",
    "group by": r"\bGROUP BY\b",
    "having": r"\bHAVING\b",
    "order by": r"\bORDER BY\b",
    "descending": r"\bDESC\b",
    "limit": r"\bLIMIT\b",
    "nested in or not in": r"\bIN \(SELECT\b",
    "comparison with a subquery": r"[<>=] \(SELECT\b",
    "intersect": r"\bINTERSECT\b",
    "union": r"\bUNION\b",
    "except": r"\bEXCEPT\b",
    "like": r"\bLIKE\b",
    "between": r"\bBETWEEN\b",
    "distinct": r"\bDISTINCT\b",
    "count": r"\bcount\(",
    "sum": r"\bsum\(",
    "avg": r"\bavg\(",
    "min": r"\bmin\(",
    "max": r"\bmax\(",
}


@pytest.fixture(scope="module")
def examples(repository) -> dict[str, list[Example]]:
    """Both splits of the sample, as the pipeline reads them."""
    with open_spider(repository / "data/sample/spider") as source:
        return {split: source.examples(split) for split in ("train", "dev")}


@pytest.fixture(scope="module")
def databases(repository, tmp_path_factory) -> dict[str, Path]:
    """Every database of the sample, built from its SQL text as the pipeline builds it."""
    folder = tmp_path_factory.mktemp("sample")
    with open_spider(repository / "data/sample/spider") as source:
        paths = {db_id: folder / f"{db_id}.sqlite" for db_id in sorted(source.database_ids())}
        for db_id, path in paths.items():
            source.extract_database(db_id, path)
    return paths


def run_sql(path: Path, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.parametrize("split", ["train", "dev"])
def test_every_gold_query_runs_and_returns_rows(examples, databases, split):
    failures = []
    for example in examples[split]:
        try:
            if not run_sql(databases[example.db_id], example.query):
                failures.append(f"no rows: {example}")
        except sqlite3.Error as error:
            failures.append(f"{error}: {example}")
    assert failures == []


def test_there_are_enough_examples_and_databases(examples, databases):
    assert len(examples["train"]) >= 240
    assert len(examples["dev"]) >= 80
    assert len(databases) >= 12


def test_no_database_serves_both_splits_and_each_serves_one(examples, databases):
    train, dev = ({example.db_id for example in examples[split]} for split in ("train", "dev"))
    assert train & dev == set()
    assert train | dev == set(databases)


def test_no_question_is_asked_twice_of_one_database(examples):
    asked = [(example.db_id, example.question) for split in examples.values() for example in split]
    assert len(asked) == len(set(asked))


def test_first_train_examples_come_from_many_databases(examples):
    # data.train_limit takes the first so many: they must not all be about one database.
    assert len({example.db_id for example in examples["train"][:40]}) >= 8


@pytest.mark.parametrize("split", ["train", "dev"])
def test_every_construct_occurs(examples, split):
    missing = [
        name
        for name, pattern in CONSTRUCTS.items()
        if not any(re.search(pattern, example.query, re.IGNORECASE) for example in examples[split])
    ]
    assert missing == []


def test_rows_respect_the_foreign_keys(databases):
    for db_id, path in databases.items():
        assert run_sql(path, "PRAGMA foreign_key_check") == [], db_id


def test_few_shot_examples_are_train_examples_with_their_true_schemas(repository, examples, databases):
    known = {(example.db_id, example.question, example.query) for example in examples["train"]}
    for shot in load_few_shot(repository / "data/few_shot.json", 3):
        assert (shot.db_id, shot.question, shot.query) in known
        schema = schema_from_sqlite(databases[shot.db_id], shot.db_id)
        assert shot.schema.tables == schema.tables
        assert set(shot.schema.foreign_keys) == set(schema.foreign_keys)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_mmlu_questions_are_well_formed(repository, subject):
    with open_mmlu(repository / "data/sample/mmlu") as source:
        shots, questions = source.questions(subject, "dev"), source.questions(subject, "test")
    assert len(shots) >= 4
    assert len(questions) >= 24
    for question in shots + questions:
        assert question.question.strip()
        assert len({choice.strip() for choice in question.choices}) == 4, question
        assert question.answer in range(4)
    assert len({question.question for question in shots + questions}) == len(shots) + len(questions)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_no_mmlu_letter_is_right_too_often(repository, subject):
    # A model that always says the same letter must not look good.
    with open_mmlu(repository / "data/sample/mmlu") as source:
        answers = [question.answer for question in source.questions(subject, "test")]
    for letter in range(4):
        assert 0.1 <= answers.count(letter) / len(answers) <= 0.4
