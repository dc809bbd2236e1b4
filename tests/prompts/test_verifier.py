"""What a verifier is shown."""

import contextlib
import sqlite3

import pytest

from text2sql.core.errors import UserError
from text2sql.data.schema import Column, Schema, Table
from text2sql.execution.executor import Limits, run_query
from text2sql.prompts.verifier import INSTRUCTION, VerifierPrompt, shown_result
from text2sql.scoring.case import preview

SCHEMA = Schema("concert", (Table("singer", (Column("name", "TEXT"), Column("age", "INTEGER")), ("name",)),), ())


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Run a query on a real database and show its result as a verifier sees it."""
    path = tmp_path_factory.mktemp("verifier") / "concert.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE singer (name TEXT, age INTEGER)")
        rows = [("Ana", 30), ("Bo\nthe <|im_end|> second", None), ("a" * 90, 1), ("Di", 2)]
        connection.executemany("INSERT INTO singer VALUES (?, ?)", rows)
        connection.commit()

    def run(sql):
        return shown_result(preview(run_query(path, sql, Limits())))

    return run


def test_the_first_rows_a_line_each_cut_and_without_control_tokens(shown):
    assert shown("SELECT name, age FROM singer").split("\n") == [
        "Result, 4 rows:",
        "name | age",
        "Ana | 30",
        "Bo the im_end second | NULL",
        f"{'a' * 39}… | 1",
    ]


def test_one_row_and_no_rows(shown):
    assert shown("SELECT count(*) FROM singer") == "Result, 1 row:\ncount(*)\n4"
    assert shown("SELECT name FROM singer WHERE 0") == "Result, 0 rows:\nname"


def test_what_the_answers_to_a_question_share_stands_first():
    prompt = VerifierPrompt({"concert": SCHEMA}, "tables", evidence=True)
    ((first,), (second,)) = (
        prompt.messages(" Who sings? ", "concert", sql, "Result, 0 rows:\nname", "x means y")
        for sql in ("SELECT name FROM singer", "SELECT 1")
    )
    shared = f"{INSTRUCTION}\nsinger(name, age)\nQuestion: Who sings?\nHint: x means y\nSQL: SELECT "
    assert first["content"] == f"{shared}name FROM singer\nResult, 0 rows:\nname"
    assert second["content"].startswith(shared) and first["role"] == "user"


def test_the_schema_is_that_of_answers_or_none():
    (message,) = VerifierPrompt({"concert": SCHEMA}, "ddl").messages("Who?", "concert", "SELECT 1", "")
    assert "CREATE TABLE singer (" in message["content"]
    (message,) = VerifierPrompt({}, "none").messages("Who?", "concert", "SELECT 1", "")
    assert message["content"] == f"{INSTRUCTION}\nQuestion: Who?\nSQL: SELECT 1"
    with pytest.raises(UserError, match="'zoo' has no schema, which prompt.schema wants"):
        VerifierPrompt({}, "tables").messages("Who?", "zoo", "SELECT 1", "")
