"""Gold queries that fail, that read the clock, and what one answer to every question scores."""

import contextlib
import sqlite3
import time
from pathlib import Path

import pytest

from text2sql.core.errors import UserError
from text2sql.data.spider import Example
from text2sql.execution.executor import Limits
from text2sql.scoring.golds import floors
from text2sql.scoring.verdicts import score_examples, summarise

LIMITS = Limits()


@pytest.fixture
def shop(tmp_path):
    path = tmp_path / "shop.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE item (name TEXT, price INT, due TEXT); "
            "INSERT INTO item VALUES ('a', 1, NULL), ('b', 3, NULL);"
        )
    return path


def score(database, golds, predictions, **options):
    examples = [Example(index, "shop", "?", gold) for index, gold in enumerate(golds)]
    return score_examples(examples, predictions, lambda db_id: database, LIMITS, **options)


GOLDS = ["SELECT count(*) FROM item", "SELECT nme FROM item", "SELECT name FROM item", "SELECT name FORM item"]
PREDICTIONS = [*GOLDS[:1], "SELECT name FROM item", *GOLDS[2:3], "SELECT 1"]


def test_all_golds_that_fail_are_named_at_once(shop):
    with pytest.raises(UserError) as error:
        score(shop, GOLDS, PREDICTIONS)
    message = str(error.value)
    assert "\n" not in message
    for part in (
        "example 1 (database shop): its gold query fails: no such column: nme",
        "2 gold queries fail in all: example 3 (database shop): near",
        "--failing-gold skip or wrong",
    ):
        assert part in message


def test_examples_whose_gold_fails_are_left_out_or_wrong(shop):
    seen, golds = [], []
    left = score(
        shop, GOLDS, PREDICTIONS, failing_gold="skip", on_verdict=lambda: seen.append(1), on_golds=golds.extend
    )
    assert [(verdict.index, verdict.outcome) for verdict in left] == [(0, "correct"), (2, "correct")]
    assert len(seen) == 4 and [gold.index for gold in golds if gold.error] == [1, 3]
    wrong = score(shop, GOLDS, PREDICTIONS, failing_gold="wrong")
    assert [verdict.official_execution_accuracy for verdict in wrong] == [True, False, True, False]
    assert wrong[1].to_dict()["error"].startswith("its gold query fails: no such column")
    assert summarise(wrong)["execution_accuracy"] == 0.5


def test_a_gold_that_reads_the_clock_is_run_each_time(tmp_path, shop):
    with contextlib.closing(sqlite3.connect(shop)) as connection:
        connection.execute("UPDATE item SET due = datetime('now', iif(name = 'a', '-1 day', '+3 seconds'))")
        connection.execute("CREATE VIEW late AS SELECT name FROM item WHERE datetime('now') > due")
        connection.execute("CREATE VIEW overdue AS SELECT name FROM late")
        connection.commit()
    golds = [
        "SELECT name FROM item WHERE due < datetime('now')",
        "SELECT name FROM item WHERE due < CURRENT_TIMESTAMP",
        "SELECT name FROM item WHERE due < datetime()",
        "SELECT name FROM overdue",
    ]
    prediction = "SELECT name FROM item WHERE datetime('now') > due"
    for wait in (0, 5):
        time.sleep(wait)
        verdicts = score(shop, golds, [prediction] * len(golds), cache_dir=tmp_path / "cache")
        assert [verdict.execution_accuracy for verdict in verdicts] == [True] * len(golds)
    assert [verdict.gold_result["row_count"] for verdict in verdicts] == [2] * len(golds)
    score(shop, ["SELECT name FROM item"], ["SELECT 1"], cache_dir=tmp_path / "cache")
    assert sum(path.read_text().count("seconds") for path in Path(tmp_path / "cache").iterdir()) == 1


def test_the_floor_is_what_its_query_scores(shop):
    golds = [
        "SELECT name FROM item WHERE price > 5",
        "SELECT count(*) FROM item",
        "SELECT max(price) - 1 FROM item",
        "SELECT name FROM item",
        "SELECT name FROM item ORDER BY price DESC",
        "SELECT name FROM item ORDER BY price",
    ]
    found = []
    score(shop, golds, golds, on_golds=found.extend)
    floor = floors(found)
    assert floor["execution_accuracy"]["successes"] == 3 and floor["execution_accuracy"]["total"] == 6
    assert floor["official_execution_accuracy"]["successes"] == 2
    for name, entry in floor.items():
        verdicts = score(shop, golds, [entry["query"]] * len(golds))
        assert sum(getattr(verdict, name) for verdict in verdicts) == entry["successes"]


def test_the_floor_stands_in_the_metrics_over_the_examples_that_are_scored(shop):
    golds = ["SELECT name FROM item WHERE 0", "SELECT nme FROM item", "SELECT 1"]
    shares = {}
    for failing in ("skip", "wrong"):
        found = []
        verdicts = score(shop, golds, golds, failing_gold=failing, on_golds=found.extend)
        floor = summarise(verdicts, found)["floor"]["execution_accuracy"]
        shares[failing] = (floor["successes"], floor["total"])
    assert shares == {"skip": (1, 2), "wrong": (1, 3)}
    assert "floor" not in summarise(verdicts)


def test_a_floors_query_is_the_same_in_every_run(shop):
    """Metrics that are kept hold it: a set's order would differ from process to process."""
    found = []
    names = ", ".join(f"('{letter}')" for letter in "zyxwvutsrq")
    score(shop, [f"VALUES {names}"], ["SELECT 1"], on_golds=found.extend)
    assert floors(found)["execution_accuracy"]["query"] == f"VALUES {names}"


def test_a_floor_whose_query_would_be_very_long_is_cut(shop):
    found = []
    gold = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT i FROM n"
    score(shop, [gold], [gold], on_golds=found.extend)
    query = floors(found)["execution_accuracy"]["query"]
    assert query.startswith("VALUES (") and query.endswith("…") and len(query) == 1000


def test_where_most_golds_return_nothing_the_floor_is_the_empty_result(shop):
    found = []
    golds = ["SELECT name FROM item WHERE 0", "SELECT price, name FROM item WHERE 0", "SELECT 1"]
    score(shop, golds, golds, on_golds=found.extend)
    for entry in floors(found).values():
        assert entry == {"successes": 2, "total": 3, "query": "SELECT 1 WHERE 0"}
