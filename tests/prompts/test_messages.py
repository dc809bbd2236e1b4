"""What the model is told, to the letter, and what is taken from its answer."""

import json
import sqlite3

import pytest

from text2sql.core.errors import UserError
from text2sql.data.mmlu import Question
from text2sql.data.schema import Column, ForeignKey, Schema, Table, schema_from_sqlite
from text2sql.prompts.answers import extract_sql
from text2sql.prompts.messages import (
    OPTIONS,
    FewShot,
    bare_messages,
    in_order,
    load_few_shot,
    mmlu_prompt,
    render_schema,
    spider_messages,
    with_evidence,
)

SCHEMA = Schema(
    "league",
    (
        Table("team", (Column("id", "INTEGER"), Column("home town", "TEXT")), ("id",)),
        Table("player", (Column("name", "TEXT"), Column("team_id", "INT"), Column("order", "")), ("name", "team_id")),
    ),
    (ForeignKey("player", "team_id", "team", "id"),),
)
TABLES = 'team(id, "home town")\nplayer(name, team_id, "order")'


def content(messages):
    (message,) = messages
    assert message["role"] == "user"
    return message["content"]


def test_each_form_of_a_schema():
    assert render_schema(SCHEMA, "none") == ""
    assert render_schema(SCHEMA, "name") == "Database: league"
    assert render_schema(SCHEMA, "tables") == TABLES
    assert render_schema(SCHEMA, "ddl") == (
        "CREATE TABLE team (\n"
        "  id INTEGER PRIMARY KEY,\n"
        '  "home town" TEXT\n'
        ");\n"
        "CREATE TABLE player (\n"
        "  name TEXT,\n"
        "  team_id INT,\n"
        '  "order",\n'
        "  PRIMARY KEY (name, team_id),\n"
        "  FOREIGN KEY (team_id) REFERENCES team (id)\n"
        ");"
    )


def test_descriptions_are_comments_in_the_ddl_alone(tmp_path):
    described = SCHEMA.described({("team", "id"): "its number", ("player", "order"): "rank; 1 is first"})
    assert render_schema(described, "tables") == TABLES
    text = render_schema(described, "ddl")
    assert "  id INTEGER PRIMARY KEY, -- its number\n" in text and '  "order", -- rank; 1 is first\n' in text
    assert '  "home town" TEXT\n' in text
    with sqlite3.connect(tmp_path / "built.sqlite") as connection:
        connection.executescript(text)
    connection.close()
    assert schema_from_sqlite(tmp_path / "built.sqlite", "league") == SCHEMA


def test_evidence_stands_after_the_question():
    assert with_evidence(" Who? ", " a refers\nto b ") == "Who?\nHint: a refers to b"
    assert with_evidence(" Who? ", " ") == with_evidence(" Who? ", None) == " Who? "
    asked = content(spider_messages(with_evidence("Who?", "a is b"), SCHEMA, "tables"))
    assert asked == f"Answer with one SQLite query.\n{TABLES}\nWho?\nHint: a is b"


def test_the_ddl_is_sql_that_builds_the_same_schema(tmp_path):
    columns = (Column("select", "INT"), Column('x"y', ""), Column("été", "TEXT"), Column("1st", "INT"))
    odd = Schema('a"b', (Table("left join", columns, ("select",)),))
    for schema in (SCHEMA, odd):
        path = tmp_path / "built.sqlite"
        path.unlink(missing_ok=True)
        with sqlite3.connect(path) as connection:
            connection.executescript(render_schema(schema, "ddl"))
        connection.close()
        assert schema_from_sqlite(path, schema.db_id) == schema


def names(schema):
    return [table.name for table in schema.tables]


def schema_of(db_id, *tables):
    return Schema(db_id, tuple(Table(name, (Column("id", "INT"),)) for name in tables))


def test_the_order_of_tables_moves_whole_tables_and_changes_nothing_else():
    for form, lines in (("tables", 1), ("ddl", 4)):
        given = render_schema(SCHEMA, form)
        assert render_schema(SCHEMA, form, "given") == given
        turned = render_schema(SCHEMA, form, "reversed")
        assert turned != given and sorted(turned.splitlines()) == sorted(given.splitlines())
        assert turned.splitlines()[-lines:] == given.splitlines()[:lines]
    assert render_schema(SCHEMA, "name", "reversed") == "Database: league"
    assert render_schema(None, "none", "shuffled") == ""


def test_a_shuffle_is_a_third_order_the_same_on_any_day_and_another_for_another_database():
    tables = [f"t{number}" for number in range(6)]
    assert names(in_order(schema_of("league", *tables), "shuffled")) == ["t0", "t1", "t5", "t3", "t2", "t4"]
    orders = set()
    for number in range(40):
        three = schema_of(f"db{number}", "a", "b", "c")
        shuffled = names(in_order(three, "shuffled"))
        assert sorted(shuffled) == ["a", "b", "c"] and shuffled not in (["a", "b", "c"], ["c", "b", "a"])
        orders.add(tuple(shuffled))
    assert len(orders) == 4
    for few in (schema_of("one", "a"), schema_of("none")):
        assert in_order(few, "shuffled") == in_order(few, "reversed") == few


def test_worked_examples_come_in_the_order_of_the_question():
    shots = [FewShot("league", "Who?", "SELECT name FROM player", SCHEMA)]
    text = content(spider_messages("How many?", SCHEMA, "tables", shots, "reversed"))
    assert text.count("\n".join(reversed(TABLES.splitlines()))) == 2 and TABLES not in text


def test_a_schema_that_is_needed_and_missing_is_an_error():
    assert render_schema(None, "none") == ""
    with pytest.raises(UserError, match="prompt.schema: tables needs a schema"):
        render_schema(None, "tables")


def test_without_schema_and_examples_the_prompt_is_the_bare_question():
    assert content(spider_messages(" How many? ", None, "none")) == "How many?"
    assert spider_messages("How many?", SCHEMA, "none") == bare_messages("How many?")


def test_with_a_schema_the_prompt_adds_one_line_of_instruction():
    assert content(spider_messages("How many?", SCHEMA, "tables")) == (
        f"Answer with one SQLite query.\n{TABLES}\nHow many?"
    )
    assert content(spider_messages("How many?", SCHEMA, "name")) == (
        "Answer with one SQLite query.\nDatabase: league\nHow many?"
    )


def test_the_papers_prompt_is_fixed_pairs_and_then_the_question():
    shots = [FewShot("a", f"Question {number}?", f"SELECT {number}", SCHEMA) for number in (1, 2, 3)]
    assert content(spider_messages("How many?", SCHEMA, "none", shots)) == (
        "Answer with one SQLite query.\n\n"
        "Question: Question 1?\nSQL: SELECT 1\n\n"
        "Question: Question 2?\nSQL: SELECT 2\n\n"
        "Question: Question 3?\nSQL: SELECT 3\n\n"
        "Question: How many?\nSQL:"
    )


def test_each_worked_example_is_shown_with_its_own_schema_in_the_chosen_form():
    other = Schema("zoo", (Table("animal", (Column("name", "TEXT"),)),))
    shots = [FewShot("zoo", "Which animals?", "SELECT name FROM animal", other)]
    assert content(spider_messages("How many?", SCHEMA, "tables", shots)) == (
        "Answer with one SQLite query.\n\n"
        "animal(name)\nQuestion: Which animals?\nSQL: SELECT name FROM animal\n\n"
        f"{TABLES}\nQuestion: How many?\nSQL:"
    )


def test_worked_examples_are_read_from_a_file_of_their_own(tmp_path):
    path = tmp_path / "few_shot.json"
    record = {"db_id": "league", "question": "q", "query": "SELECT 1", "schema": SCHEMA.to_dict()}
    path.write_text(json.dumps([record, {**record, "question": "r"}]))
    assert load_few_shot(path, 1) == [FewShot("league", "q", "SELECT 1", SCHEMA)]
    assert load_few_shot(tmp_path / "missing.json", 0) == []
    for value, message in [
        ([record], "holds 1 worked examples, prompt.few_shot wants 2"),
        ({}, "found dict, wanted a list"),
        ([record, 3], "example 1: found int, wanted an object"),
        ([record, {**record, "query": ""}], "example 1: found '' as 'query'"),
        ([record, {**record, "schema": None}], "example 1: 'schema' is not a schema"),
    ]:
        path.write_text(json.dumps(value))
        with pytest.raises(UserError, match=message):
            load_few_shot(path, 2)


def test_the_repositorys_worked_examples_come_from_train_databases(repository):
    shots = load_few_shot(repository / "data/few_shot.json", 3)
    sample = json.loads((repository / "data/sample/spider/dev.json").read_text())
    assert not {shot.db_id for shot in shots} & {example["db_id"] for example in sample}


def test_the_mmlu_prompt_is_hendrycks_to_the_letter():
    """Two spaces before the subject, an empty line after each example, a space before its letter, none at the end."""
    shots = [
        Question("high_school_physics", 0, "Why?", ("a", "b", "c", "d"), 2),
        Question("high_school_physics", 1, "Who?\nSay.", ("1", "2", "3", "4"), 0),
    ]
    question = Question("high_school_physics", 9, "How?", ("w", "x", "y", "z"), 1)
    assert mmlu_prompt(question, shots) == (
        "The following are multiple choice questions (with answers) about  high school physics.\n\n"
        "Why?\nA. a\nB. b\nC. c\nD. d\nAnswer: C\n\n"
        "Who?\nSay.\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: A\n\n"
        "How?\nA. w\nB. x\nC. y\nD. z\nAnswer:"
    )
    assert mmlu_prompt(question, []).endswith("physics.\n\nHow?\nA. w\nB. x\nC. y\nD. z\nAnswer:")
    assert OPTIONS == (" A", " B", " C", " D")


@pytest.mark.parametrize(
    ("raw", "sql"),
    [
        ("SELECT 1", "SELECT 1"),
        ("  SELECT 1 ; ;\n", "SELECT 1"),
        ("SELECT ';' ;", "SELECT ';'"),
        ("SELECT 1<|im_end|>", "SELECT 1"),
        ("SELECT 1<|im_end|>\n<|im_start|>assistant\nSELECT 2", "SELECT 1"),
        ("SELECT 1;<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nSELECT 2", "SELECT 1"),
        ("SELECT 1</s>", "SELECT 1"),
        ("SELECT 1<end_of_turn>\n", "SELECT 1"),
        ("<|im_end|>\n<|im_start|>assistant\nSELECT 2", ""),
        ("<|start_header_id|>assistant<|end_header_id|>\n\nSELECT 1<|eot_id|>", "SELECT 1"),
        (
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nSELECT 1<|eot_id|>",
            "SELECT 1",
        ),
        ("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nSELECT 1<|im_end|>", "SELECT 1"),
        ("```sql\nSELECT 1;\n```", "SELECT 1"),
        ("```SQL\nSELECT 1", "SELECT 1"),
        ("```sqlite\nSELECT 1```", "SELECT 1"),
        ("```SELECT name FROM t```", "SELECT name FROM t"),
        ("```\nSELECT 1\n```", "SELECT 1"),
        ("Here it is:\n```sql\nSELECT 1;\n```\nor\n```sql\nSELECT 2\n```", "SELECT 1"),
        ("``` sql\nSELECT 1\n```<|eot_id|>", "SELECT 1"),
        ("To find this, SELECT 1 would do.", "To find this, SELECT 1 would do."),
        ("SELECT `a b` FROM t", "SELECT `a b` FROM t"),
        ("", ""),
        ("```", ""),
        (";", ""),
    ],
)
def test_the_sql_is_the_assistants_turn_without_fences_and_final_semicolons(raw, sql):
    assert extract_sql(raw, "paper") == sql
    assert extract_sql(sql, "paper") == sql
