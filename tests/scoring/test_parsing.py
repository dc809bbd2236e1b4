"""What counts as SQL in an answer in chat: it begins as a query, and SQLite parses it, with no tables at all."""

import pytest

from text2sql.scoring.parsing import are_queries

PARSED = [
    "SELECT 1",
    "SELECT count(*) FROM singer WHERE age > (SELECT avg(age) FROM singer)",
    "SELECT T1.name FROM a AS T1 JOIN b AS T2 ON T1.id = T2.id GROUP BY 1 HAVING count(*) > 2",
    "select no_such_function(1)",
    "VALUES (1, 2)",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",  # without end: not executed
]
NOT_PARSED = [
    "",
    "B",
    "The answer is B.",
    "SELECT name FROM (SELECT",
    "SELECT is used to retrieve rows",
    "SELECT 'open",
    "SELECT \0",
    "select the one that fits best of all",
    "DELETE FROM singer",
    "EXPLAIN SELECT 1",
    "COMMIT",
]


@pytest.fixture(scope="module")
def found():
    texts = PARSED + NOT_PARSED
    return dict(zip(texts, are_queries(texts, workers=1), strict=True))


@pytest.mark.parametrize("text", PARSED)
def test_a_query_is_sql_whatever_its_tables(found, text):
    assert found[text]


@pytest.mark.parametrize("text", NOT_PARSED)
def test_prose_halves_of_queries_and_other_statements_are_not(found, text):
    assert not found[text]
