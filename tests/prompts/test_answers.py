"""What is taken from a model's answer by the standard rule; the paper's is in test_messages."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from text2sql.prompts.answers import extract_sql, reasoning_opened_by

SQL = "SELECT count(*) FROM ferries"
DRAFT = "SELECT * FROM ferries"


@pytest.mark.parametrize(
    "raw",
    [
        f"<think>\nThe user wants a count.\n</think>\n\n{SQL}",
        f"<think>\n\n</think>\n\n{SQL}",
        f"The user wants a count, it's said.\n</think>\n\n{SQL}",
        f"<think>\nMaybe\n```sql\n{DRAFT}\n```\nno, a count.\n</think>\n\n```sql\n{SQL}\n```",
        f"<reasoning>{DRAFT}?</reasoning>\n{SQL}",
        f"<Thinking>a</Thinking><answer>{SQL}</answer>",
        f"[THINK]{DRAFT}[/THINK]{SQL}",
        f"◁think▷{DRAFT}◁/think▷{SQL}",
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{SQL}<|return|>",
        f"analysisWe need to count.assistantfinal{SQL}",
        f"<|channel>thought\n{DRAFT}\n<channel|>{SQL}<turn|>",
        f"<|START_THINKING|>{DRAFT}<|END_THINKING|><|START_RESPONSE|>{SQL}<|END_RESPONSE|>",
        f"Here is my thought process: {DRAFT}. Here is my response: {SQL}",
        f"{SQL}\n<think>That is right.</think>",
        f"<|im_start|>assistant\n<think>\n\n</think>\n\n{SQL}<|im_end|>",
    ],
)
def test_reasoning_is_no_part_of_the_answer(raw):
    assert extract_sql(raw) == SQL


def test_reasoning_without_an_end_never_came_to_its_sql():
    assert extract_sql(f"<think>\nMaybe\n```sql\n{SQL}\n```\nbut") == ""
    assert extract_sql(f"Maybe {SQL}\n</think>\n") == ""


@pytest.mark.parametrize(
    "raw",
    [
        f"The table is:\n```\nferries(ferry_id, name)\n```\nand the query:\n```sql\n{SQL}\n```",
        f"First try:\n```sql\n{DRAFT}\n```\nThat lists them; counted:\n```sql\n{SQL};\n```\nDone.",
        f"~~~sql\n{SQL}\n~~~",
        f"````sql\n{SQL}\n````",
        f'```sql title="count"\n{SQL}\n```',
        f"```{{.sql}}\n{SQL}\n```",
        f"```sql {SQL}```",
        f"```{SQL}",
        f"```{DRAFT}``` or ```{SQL}```",
        f"```sql\n{DRAFT}\n\nNo, counted:\n```sql\n{SQL}\n```",
        f"```markdown\n```sql\n{SQL}\n```\n```",
        f"> ```sql\n> {SQL}\n> ```",
        f"```sql\n-- all of them\n{SQL};\n```",
        f"{SQL}\n\nIt gives:\n```\n3\n```",
        f'```json\n{{"sql": "{SQL}", "certain": true}}\n```',
    ],
)
def test_of_several_blocks_the_last_that_begins_as_a_query_counts(raw):
    assert extract_sql(raw) == SQL


@pytest.mark.parametrize(
    "raw",
    [
        f"{SQL};\n\nThis query counts the ferries.",
        f"{SQL}\n\nThis query counts the ferries.",
        f"{SQL}\nThis query doesn't need a join.",
        f"{SQL}\nExplanation: it counts.",
        f"{SQL}\n\nQuestion: Which ferry is the oldest?\nSQL: {DRAFT}",
        f"{SQL}\n\nferries(ferry_id, name)\nQuestion: Which ferry is the oldest?\nSQL: {DRAFT}",
        f"{SQL}; {DRAFT}",
        f"{SQL}\n\n{DRAFT}",
        f"Here you go:\n\n{SQL}\n\nIt's a count.",
        f"The query is: {SQL}.",
        f"The answer is {SQL}",
        f"**SQL:** `{SQL}`",
        f"Use `{SQL}` for that.",
        f"SQL: {SQL}",
        f"1. {SQL}",
        f"`{SQL}`",
        f"That is one query (`{SQL}`).",
        f'"{SQL}"',
        f"“{SQL}”",
        f"<sql>{SQL}</sql>",
        f"[SQL]\n{SQL}\n[/SQL]",
        f"\ufeff{SQL}",
        f"{SQL}\n---\nIt counts.",
        f'{{"query": "{SQL}"}}',
        f'["{SQL}"]',
        f'Sure:\n{{\n  "sql": "{SQL}"\n}}',
        f"{SQL}<|im_end|>\n<|im_start|>user",
        f"{SQL}<｜end▁of▁sentence｜>",
    ],
)
def test_prose_wrappers_and_what_follows_are_dropped(raw):
    assert extract_sql(raw) == SQL


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM t WHERE x = '</s>'",
        "SELECT * FROM t WHERE x LIKE '%<|im_end|>%' AND y = 1",
        "SELECT '</think>' FROM t",
        "SELECT * FROM t WHERE note = 'a;b -- \nNote: x'",
        "WITH a AS (SELECT 1)\n\nSELECT * FROM a",
        "SELECT name\nFROM singer\n\nWHERE Age > 3\nORDER BY Age",
        "SELECT a FROM b UNION\n\nSELECT c FROM d",
        "SELECT a,\n  Name\nFROM b",
        'SELECT "a b", `c d`, [e f] FROM t',
        "SELECT /* Note: x */ a -- Note: y\nFROM t",
        "VALUES (1), (2)",
        "SELECT a FROM b WHERE c IN (SELECT d FROM e))",
        'SELECT a FROM b WHERE c = """x"""',
        "(SELECT 1)",
    ],
)
def test_a_query_alone_stays_as_it_is(sql):
    assert extract_sql(sql) == sql
    assert extract_sql(f"```sql\n{sql};\n```") == sql
    assert extract_sql(f"{sql};<|im_end|>") == sql


@pytest.mark.parametrize(
    "raw",
    [
        "I do not know.",
        "To find this, SELECT 1 would do.",
        "Select the names of all ferries.",
        "Use `SELECT` with `count(*)`.",
        "DELETE FROM ferries",
        "CREATE TABLE a AS\nSELECT 1",
        "",
    ],
)
def test_an_answer_without_a_query_stays_as_it_is(raw):
    assert extract_sql(raw) == extract_sql(raw, "paper")


def test_a_question_that_nobody_asked_is_not_answered():
    assert extract_sql(f"There are three.\n\nQuestion: Which is the oldest?\nSQL: {SQL}") == "There are three."


PIECES = st.sampled_from(
    ["'", '"', "`", "```", "~~~\n", "```sql\n", "\n", " ", "SELECT a FROM b", "select ", "with a as (", "values(", "(",
     ")", "[", "{", "}", "/*", "*/", "--", ";", ":", "<think>", "</think>", "<|im_end|>", "</s>", "<answer>",
     "Question: ",
     "\\", '{"sql": "', "''", "The ", "\ud800", "\0", "<|channel|>final<|message|>", "é", "**", "1. "]
)  # fmt: skip


@given(st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=60))
@settings(max_examples=400, deadline=None)
def test_any_text_gives_a_text(raw):
    for rule in ("standard", "paper"):
        sql = extract_sql(raw, rule)
        assert sql == sql.strip("\t\n\r ") and len(sql) <= len(raw)


def test_white_space_that_is_not_sqls_goes_with_the_semicolon():
    assert extract_sql("0\x1f;") == "0"
    assert extract_sql("SELECT 1\x0c;\x0c") == "SELECT 1"


@pytest.mark.parametrize(
    "piece", ["'", "`", "```", "[", "/*", "\n", "SELECT 1\nThe ", 'with "', "<think>", '{"a":', "`SELECT a "]
)
def test_time_grows_with_the_length_alone(piece):
    begin = time.process_time()
    extract_sql("SELECT (" + piece * (200_000 // len(piece)))
    extract_sql(piece * (200_000 // len(piece)))
    assert time.process_time() - begin < 10  # where it grew with the square, hours


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("<｜User｜>Names that begin with 'A?<｜Assistant｜><think>\n", "<think>\n"),
        ("[INST]Names?[/INST][THINK]", "[THINK]"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", ""),
        ("<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n", ""),
        ("", ""),
    ],
)
def test_a_reasoning_that_the_prompt_opened_is_seen(prompt, opened):
    assert reasoning_opened_by(prompt) == opened
