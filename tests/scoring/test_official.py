"""The official evaluator's definition: what it runs, and when two results are equal."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from text2sql.scoring.official import (
    gold_as_executed,
    official_equal,
    order_matters,
    prediction_as_executed,
    strip_distinct,
)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT DISTINCT name FROM singer", "SELECT  name FROM singer"),
        ("SELECT count(distinct name) FROM singer", "SELECT count( name) FROM singer"),
        ("SELECT DISTINCT(name) FROM singer", "SELECT (name) FROM singer"),
        ("SELECT T1.distinct FROM t AS T1", "SELECT T1. FROM t AS T1"),
        ("SELECT name FROM singer", "SELECT name FROM singer"),
        # not a word by itself
        ("SELECT distinct_name, indistinct FROM t", "SELECT distinct_name, indistinct FROM t"),
        ("SELECT 'a distinct x', \"distinct\", `distinct`, [distinct] FROM t",) * 2,
        ("SELECT 'it''s distinct' FROM t",) * 2,
        ("SELECT 1 -- distinct",) * 2,
        ("SELECT /* distinct */ 1",) * 2,
        ("SELECT :distinct, @distinct, $distinct",) * 2,
        # a quote that nothing closes quotes nothing
        ("SELECT 'a distinct b", "SELECT 'a  b"),
        # a backslash keeps a quote from closing, where another one follows
        ("SELECT 'a\\' distinct b'",) * 2,
        # in brackets behind a word it is an index, and no name
        ("SELECT x[distinct]", "SELECT x[]"),
        # the first statement counts, with a comment behind it
        ("SELECT 1; DROP TABLE t", "SELECT 1; "),
        ("SELECT 1 ;; SELECT 2", "SELECT 1 ;"),
        ("SELECT 1; -- and why\nSELECT 2", "SELECT 1; -- and why\n"),
        ("SELECT ';' ; SELECT 2", "SELECT ';' ; "),
        ("SELECT (1; 2); SELECT 3", "SELECT (1; 2); "),
        ("; SELECT 1", "; "),
        ("", ""),
    ],
)
def test_strip_distinct(sql, expected):
    assert strip_distinct(sql) == expected


@given(st.text(alphabet="distncDISTNC ;()'\"`[]-#/*.$@%1eE\n\\", max_size=60))
@settings(max_examples=200, deadline=None)
def test_strip_distinct_takes_any_text_and_invents_nothing(sql):
    stripped = strip_distinct(sql)
    assert len(stripped) <= len(sql)
    assert not Counter(stripped) - Counter(sql)


def test_strip_distinct_is_quick_on_long_hostile_text():
    # A search for an end that restarts at each of these would take minutes.
    for text in ("'", "/* ", "\\'", "[", "$a$ ", "$_1$ $", "(", "1", "-", "`´"):
        repeated = text * (90_000 // len(text))
        assert len(strip_distinct(repeated + " distinct ")) in (len(repeated) + 2, len(repeated) + 10)
    assert strip_distinct("distinct" * 1_000_000) == "distinct" * 1_000_000


def test_what_is_executed():
    assert gold_as_executed("SELECT a FROM t WHERE b > = 1 AND c ! = 2 AND d < = 3") == (
        "SELECT a FROM t WHERE b >= 1 AND c != 2 AND d <= 3"
    )
    assert gold_as_executed("SELECT DISTINCT a FROM t", keep_distinct=True) == "SELECT DISTINCT a FROM t"
    assert gold_as_executed("SELECT year ( CURDATE( ) )  - a FROM t") == "SELECT 2020- a FROM t"
    # A prediction's placeholder is a 1, even in the middle of a name; gold's is not.
    assert prediction_as_executed("SELECT property_value FROM t WHERE a = value") == (
        "SELECT property_1 FROM t WHERE a = 1"
    )
    assert gold_as_executed("SELECT property_value FROM t") == "SELECT property_value FROM t"
    assert prediction_as_executed("SELECT 1; SELECT 2", keep_distinct=True) == "SELECT 1; SELECT 2"


@pytest.mark.parametrize(
    ("gold", "expected"),
    [
        ("SELECT a FROM t ORDER BY a", True),
        ("SELECT a FROM t ORDER  BY a", False),  # two spaces
        ("SELECT a FROM (SELECT a FROM t ORDER BY a)", True),
        ("SELECT a FROM t WHERE b = 'order by'", True),
        ("SELECT a FROM t", False),
    ],
)
def test_order_matters_where_the_words_are(gold, expected):
    assert order_matters(gold) is expected


@pytest.mark.parametrize(
    ("gold", "predicted", "as_bag", "as_list"),
    [
        ([], [], True, True),
        ([], [(1,)], False, False),
        ([(1,)], [(1,), (1,)], False, False),
        ([(1, 2)], [(1,)], False, False),
        ([(1,), (2,)], [(2,), (1,)], True, False),
        ([(1,), (1,), (2,)], [(1,), (2,), (2,)], False, False),
        ([(1, "a"), (2, "b")], [("a", 1), ("b", 2)], True, True),
        ([(1, "a"), (2, "b")], [("b", 2), ("a", 1)], True, False),
        # each column fits, but not the rows
        ([(1, "a"), (2, "b")], [(1, "b"), (2, "a")], False, False),
        # one order of the columns for all rows
        ([(1, 2), (3, 4)], [(1, 2), (4, 3)], False, False),
        ([(1,)], [(1.0,)], True, True),
        ([("1",)], [(1,)], False, False),
        ([(None, b"x")], [(b"x", None)], True, True),
        ([(b"x",)], [("x",)], False, False),
        # equal numbers, but another order of their texts: the official script's early test tells them apart
        ([(1, 10)], [(1.0, 10)], False, False),
        ([(1, 2)], [(1.0, 2)], True, True),
    ],
)
def test_official_equal(gold, predicted, as_bag, as_list):
    assert official_equal(gold, predicted, order_matters=False) is as_bag
    assert official_equal(gold, predicted, order_matters=True) is as_list


def by_definition(gold, predicted, order_matters):
    """The definition itself: try every order of the columns."""
    if not gold and not predicted:
        return True
    if len(gold) != len(predicted) or len(gold[0]) != len(predicted[0]):
        return False
    for order in itertools.permutations(range(len(gold[0]))):
        permuted = [tuple(row[index] for index in order) for row in predicted]
        if gold == permuted if order_matters else Counter(gold) == Counter(permuted):
            return True
    return False


@st.composite
def two_results(draw):
    """Two results that have a chance to be equal: the second is the first, shuffled, and then maybe changed."""
    values = draw(st.sampled_from([(0, 1), (1, 2, 3), ("a", "b", None), (0, "0", b"0", 0.5)]))
    width = draw(st.integers(1, 5))
    rows = draw(st.lists(st.tuples(*[st.sampled_from(values)] * width), max_size=7))
    order = draw(st.permutations(range(width)))
    other = [tuple(row[index] for index in order) for row in rows]
    if draw(st.booleans()):
        other = draw(st.permutations(other))
    if other and draw(st.booleans()):
        at, column = draw(st.integers(0, len(other) - 1)), draw(st.integers(0, width - 1))
        row = list(other[at])
        row[column] = draw(st.sampled_from(values))
        other[at] = tuple(row)
    return rows, other


@given(two_results(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_official_equal_is_the_search_through_all_orders(results, order_matters):
    gold, predicted = results
    assert official_equal(gold, predicted, order_matters) is by_definition(gold, predicted, order_matters)


def cycle_rows(*lengths):
    """Columns are the edges and rows the nodes of cycles: columns that look all alike, one by one and in pairs."""
    size = sum(lengths)
    rows = [[0] * size for _ in range(size)]
    start = 0
    for length in lengths:
        for edge in range(length):
            rows[start + edge][start + edge] = 1
            rows[start + (edge + 1) % length][start + edge] = 1
        start += length
    return [tuple(row) for row in rows]


def test_wide_results_of_like_columns():
    # 24! orders: none of these may be searched one by one.
    width = 24
    gold = cycle_rows(width)
    shuffled = [tuple(row[index * 7 % width] for index in range(width)) for row in gold[::-1]]
    assert official_equal(gold, shuffled, order_matters=False)
    assert not official_equal(gold, [gold[1], gold[0], *gold[2:]], order_matters=True)
    assert not official_equal(gold, cycle_rows(width // 2, width // 2), order_matters=False)
    # the same value everywhere, and rows apart in one cell only
    flat = [(0,) * 300] * 3 + [(0,) * 299 + (1,)]
    assert official_equal(flat, [row[::-1] for row in flat[::-1]], order_matters=False)
    assert official_equal(flat, [row[::-1] for row in flat], order_matters=True)
    unlike = [(0,) * 300] * 2 + [(0,) * 299 + (1,), (0,) * 298 + (1, 0)]
    assert not official_equal(unlike, flat, order_matters=False)
