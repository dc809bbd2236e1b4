"""Hardness: the official counts, from a parse and from text."""

import json
import zipfile
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from text2sql.core.errors import UserError
from text2sql.scoring.hardness import HARDNESS_LEVELS, hardness_of_parsed, hardness_of_query

# Each with the level that the official script gives.
QUERIES = {
    "SELECT count(*) FROM singer": "easy",
    "SELECT name FROM singer WHERE age > 20": "easy",
    "SELECT DISTINCT country FROM singer ORDER BY age": "easy",
    "SELECT name , age FROM singer": "medium",
    "SELECT name FROM singer ORDER BY age LIMIT 1": "medium",
    "SELECT T1.name FROM singer AS T1 JOIN concert AS T2 ON T1.id = T2.singer WHERE T2.year = 2014": "medium",
    "SELECT name FROM singer WHERE country = 'x' OR country = 'y'": "medium",
    "SELECT avg(age) , min(age) , max(age) FROM singer WHERE country = 'France'": "medium",
    "SELECT name FROM singer WHERE name LIKE '%or%'": "medium",
    "SELECT name FROM singer WHERE age > (SELECT avg(age) FROM singer)": "hard",
    "SELECT name FROM singer WHERE id NOT IN (SELECT singer FROM concert)": "hard",
    "SELECT name FROM singer EXCEPT SELECT T1.name FROM singer AS T1 JOIN concert AS T2 ON T1.id = T2.singer": "hard",
    "SELECT name , age FROM singer WHERE age > 1 AND age < 9 UNION SELECT 1 , 2 FROM x": "extra",
    "SELECT T2.name , count(*) FROM concert AS T1 JOIN stadium AS T2 ON T1.s = T2.s GROUP BY T1.s": "medium",
    "SELECT T2.name FROM concert AS T1 JOIN stadium AS T2 ON T1.s = T2.s WHERE T1.year > 2013 GROUP BY T2.s "
    "ORDER BY count(*) DESC LIMIT 1": "extra",
    # two components and two others: not hard
    "SELECT country , count(*) FROM singer GROUP BY country ORDER BY count(*) DESC": "extra",
    # what follows a set operator belongs to its second query
    "SELECT name FROM singer WHERE age > 1 UNION SELECT name FROM band WHERE x = 1 ORDER BY name LIMIT 3": "hard",
    # BETWEEN's AND connects no conditions
    "SELECT name FROM singer WHERE age BETWEEN 1 AND 5": "easy",
    # words in quotes are no keywords
    'SELECT name FROM singer WHERE name = "order by limit or like union"': "easy",
    # after a comparison of columns the official parser overlooks OR
    "SELECT T1.a FROM x AS T1 JOIN y AS T2 ON T1.i = T2.i WHERE T2.b < T2.c OR T2.b > T2.d": "medium",
}


@pytest.mark.parametrize(("sql", "level"), QUERIES.items())
def test_level_of_text(sql, level):
    assert hardness_of_query(sql) == level
    assert hardness_of_query(f"\n  {sql.upper()} ; ") == level


@pytest.mark.parametrize(
    ("sql", "level"),
    [
        ("SELECT a FROM x t1 LEFT OUTER JOIN y t2 ON t1.i = t2.i", "easy"),
        ("SELECT a FROM x, y WHERE x.i = y.i", "medium"),
        ("SELECT a FROM x WHERE (b = 1 OR c = 2)", "medium"),
        ("SELECT a FROM x WHERE b IN (1, 2, 3)", "easy"),
        ("SELECT a FROM x WHERE b IS NULL OR c = 1", "medium"),
        ("SELECT a FROM x WHERE EXISTS (SELECT 1 FROM y)", "hard"),
        ("(SELECT a FROM x) UNION (SELECT b FROM y)", "hard"),
        ("WITH z AS (SELECT a FROM x) SELECT a FROM z", "hard"),
        ("SELECT CASE WHEN a > 1 THEN 'x' ELSE 'y' END FROM x", "easy"),
        ("", "easy"),
    ],
)
def test_queries_that_the_official_parser_cannot_read_have_a_level_too(sql, level):
    assert hardness_of_query(sql) == level


@given(
    st.lists(
        st.sampled_from(
            "select from where group by having order limit union ( ) , and or not in like between".split(" ")
            + "a.b 'x' 1 = join on;".split(" ")
        ),
        max_size=40,
    )
)
@settings(max_examples=200, deadline=None)
def test_any_text_has_a_level(words):
    assert hardness_of_query(" ".join(words)) in HARDNESS_LEVELS


def test_deep_and_broken_text_has_a_level():
    for text in ("(" * 50_000, ")" * 50_000, "select (" * 20_000, "'" * 50_001, "/*" * 50_000, "where not " * 5_000):
        assert hardness_of_query(text) in HARDNESS_LEVELS


def parsed(**parts):
    """Return the official parse of a query that selects one column from one table, but for `parts`."""
    column = [0, [0, [0, 1, False], None]]
    return {
        "select": [False, [column]], "from": {"table_units": [["table_unit", 0]], "conds": []}, "where": [],
        "groupBy": [], "having": [], "orderBy": [], "limit": None, "intersect": None, "union": None, "except": None,
    } | parts  # fmt: skip


def test_level_of_a_parse():
    def condition(operator=2, value=1.0, negated=False):
        return [negated, operator, [0, [0, 3, False], None], value, None]

    column, count = [0, 1, False], [3, 0, False]
    assert hardness_of_parsed(parsed()) == "easy"
    assert hardness_of_parsed(parsed(where=[condition()])) == "easy"
    assert hardness_of_parsed(parsed(where=[condition(), "or", condition()])) == "medium"
    assert hardness_of_parsed(parsed(where=[condition(operator=9)])) == "medium"
    assert hardness_of_parsed(parsed(where=[condition(value=parsed())])) == "hard"
    assert hardness_of_parsed(parsed(union=parsed())) == "hard"
    assert hardness_of_parsed(parsed(union=parsed(), limit=1, where=[condition()])) == "extra"
    # NOT counts as an aggregate: two of them make one of the others
    negated = parsed(where=[condition(negated=True)], orderBy=["asc", [[0, column, None]]])
    assert hardness_of_parsed(negated) == "medium"
    assert (
        hardness_of_parsed(
            parsed(
                select=[False, [[3, [0, [0, 0, False], None]], [0, [0, column, None]]]],
                groupBy=[column],
                orderBy=["desc", [[0, count, None]]],
            )
        )
        == "extra"
    )


@pytest.mark.parametrize("damaged", [{}, {"select": []}, parsed(where=None), parsed(select=[]), parsed(having=[7])])
def test_a_damaged_parse_is_the_users_mistake(damaged):
    with pytest.raises(UserError, match="'sql' is not a query parsed in Spider's form"):
        hardness_of_parsed(damaged)


def test_official_split_of_spider_dev(spider_zip):
    with zipfile.ZipFile(spider_zip) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/dev.json"))
        dev = json.loads(archive.read(name))
    from_parse = [hardness_of_parsed(example["sql"]) for example in dev]
    assert Counter(from_parse) == {"easy": 248, "medium": 446, "hard": 174, "extra": 166}
    assert [hardness_of_query(example["query"]) for example in dev] == from_parse
