"""Rows that tie at gold's LIMIT, and questions with several gold queries: more than one answer is right."""

import contextlib
import sqlite3

import pytest

from text2sql.core.files import json_line
from text2sql.data.spider import Example, open_spider
from text2sql.execution.executor import Executor, Limits
from text2sql.report.sentences import tie_line
from text2sql.scoring.golds import floors
from text2sql.scoring.official import gold_as_executed
from text2sql.scoring.ties import ranking, tied
from text2sql.scoring.verdicts import score_examples, summarise


@pytest.fixture(scope="module")
def races(tmp_path_factory):
    path = tmp_path_factory.mktemp("races") / "races.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript("""
            CREATE TABLE race (id INTEGER PRIMARY KEY, name TEXT, town TEXT COLLATE NOCASE, laps INT);
            INSERT INTO race VALUES (1, 'Ash', 'Brno', 9), (2, 'Bay', 'brno', 7), (3, 'Cam', 'Oslo', 7),
                (4, 'Dee', 'Oslo', 7), (5, 'Elm', 'Rome', 3), (6, 'Fen', 'Kyiv', NULL), (7, 'Gil', 'Graz', NULL);
        """)
    return path


@pytest.fixture
def score(races):
    def score(*pairs, **options):
        examples = []
        for index, (gold, _) in enumerate(pairs):
            query, *others = [gold] if isinstance(gold, str) else gold
            examples.append(Example(index, "races", "?", query, others=tuple(others)))
        predictions = [sql for _, sql in pairs]
        return score_examples(examples, predictions, lambda _: races, Limits(), workers=1, **options)

    return score


TWO = "SELECT name FROM race ORDER BY laps DESC LIMIT 2"  # Ash, and one of Bay, Cam, Dee
# Gold, prediction, and what becomes of it.
ANSWERS = [
    (TWO, "SELECT name FROM race WHERE id IN (1, 3)", "tie"),
    (TWO, "SELECT name FROM race WHERE id IN (1, 4)", "tie"),
    (TWO, "SELECT name FROM race WHERE id IN (1, 5)", "wrong_rows"),  # fewer laps than the tied
    (TWO, "SELECT name FROM race WHERE id IN (3, 4)", "wrong_rows"),  # without the first, which no tie touches
    (TWO, "SELECT name FROM race WHERE id IN (1, 3) ORDER BY 1 DESC", "wrong_rows"),  # the first is not the first
    (TWO, "SELECT name FROM race WHERE id IN (1, 3, 4)", "wrong_rows"),  # more rows than gold can have
    (TWO, "SELECT 'Ash' UNION ALL SELECT 'Ash'", "wrong_rows"),
    # nothing ties at this limit; the tied rows within it are officially in order
    ("SELECT id FROM race ORDER BY laps DESC LIMIT 4", "SELECT id FROM race WHERE id < 5 ORDER BY id=2", "wrong_order"),
    # all tied rows give the same cells: no other answer
    ("SELECT laps FROM race ORDER BY laps DESC LIMIT 2", "SELECT laps FROM race WHERE id IN (1, 5)", "wrong_rows"),
    # columns in another order; keys by position, by alias and as an expression; with a comment; ordered by two keys
    ("SELECT laps, name FROM race ORDER BY 1 DESC LIMIT 1 OFFSET 1", "SELECT name, laps FROM race WHERE id = 4", "tie"),
    ("SELECT name, laps AS n FROM race ORDER BY n DESC LIMIT 1, 1;", "SELECT name, laps FROM race WHERE id = 3", "tie"),
    ("SELECT name FROM race ORDER BY -laps DESC -- so\nLIMIT 3", "SELECT name FROM race WHERE id >= 5", "wrong_rows"),
    ("SELECT id FROM race ORDER BY laps DESC, name LIMIT 2", "SELECT id FROM race WHERE id IN (1, 3)", "wrong_rows"),
    # NULLs tie; so do texts that are equal by their column's collation
    ("SELECT name FROM race ORDER BY laps LIMIT 1", "SELECT name FROM race WHERE id = 7", "tie"),
    ("SELECT name FROM race ORDER BY town LIMIT 1", "SELECT name FROM race WHERE id = 2", "tie"),
    ("SELECT town FROM race GROUP BY town ORDER BY count(*) DESC LIMIT 1", "SELECT 'Brno'", "tie"),
    ("SELECT town FROM race GROUP BY town ORDER BY count(*) DESC LIMIT 1", "SELECT 'Rome'", "wrong_rows"),
    # not looked for: a tie in a subquery, in a set operation, and without any order
    ("SELECT id FROM race WHERE id = (SELECT id FROM race ORDER BY laps LIMIT 1)", "SELECT 7", "wrong_rows"),
    ("SELECT laps FROM race UNION ALL SELECT 7 ORDER BY 1 DESC LIMIT 2", "SELECT 9 UNION ALL SELECT 8", "wrong_rows"),
    ("SELECT name FROM race LIMIT 1", "SELECT 'Bay'", "wrong_rows"),
]  # fmt: skip


def test_what_gold_might_have_returned_is_a_tie(score):
    verdicts = score(*[(gold, sql) for gold, sql, _ in ANSWERS])
    assert [(verdict.gold, verdict.sql, verdict.outcome) for verdict in verdicts] == ANSWERS
    assert not any(verdict.official_execution_accuracy for verdict in verdicts)


def test_a_lenient_count_stands_beside_the_official_one(score, tmp_path):
    pairs = [(TWO, TWO), (TWO, "SELECT name FROM race WHERE id IN (1, 4)"), (TWO, "SELECT 1")]
    for _ in range(2):  # the second time from what is kept of gold
        metrics = summarise(score(*pairs, cache_dir=tmp_path))
        assert (metrics["official_successes"], metrics["lenient_successes"], metrics["causes"]["tie"]) == (1, 2, 1)
    assert metrics["cause_groups"] == {
        "schema_hallucination": 0, "conversational_answer": 0, "wrong_logic": 1, "other": 1,
    }  # fmt: skip
    (line,) = tie_line(metrics)
    assert (
        line.startswith("1 answer is wrong by a tie") and "leniently 2 of 3 (66.67 %) are right, officially 1" in line
    )
    assert tie_line(summarise(score(*pairs[::2]))) == []


def test_more_tied_rows_than_a_result_may_have(races, tmp_path):
    copy = tmp_path / "many.sqlite"
    copy.write_bytes(races.read_bytes())
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        connection.execute("WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n LIMIT 5000) "
                           "INSERT INTO race SELECT i, 'n' || (i % 40), 'Bern', 99 FROM n")  # fmt: skip
        connection.commit()
    example = Example(0, "many", "?", "SELECT name FROM race ORDER BY laps DESC LIMIT 1")
    limits = Limits(max_rows=100)
    (verdict,) = score_examples([example], ["SELECT 'n17'"], lambda _: copy, limits, workers=1)
    assert verdict.outcome == "tie"


@pytest.mark.parametrize("key", ["laps", "laps + 0.5", "laps || 'é'", "laps, town"])
def test_a_tie_far_behind_the_limit_is_found(key, races, tmp_path):
    copy = tmp_path / "many.sqlite"
    copy.write_bytes(races.read_bytes())
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        connection.execute("UPDATE race SET laps = 0")
        connection.execute("WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n LIMIT 5000) "
                           "INSERT INTO race SELECT i, 'n' || i, 'Bern', 99 FROM n")  # fmt: skip
        connection.commit()
    gold = f"SELECT name FROM race ORDER BY {key} DESC LIMIT 1".replace("laps, town DESC", "laps DESC, town")
    examples = [Example(number, "many", "?", gold) for number in range(3)]
    verdicts = score_examples(examples, ["SELECT 'n5009'", "SELECT 'n10'", "SELECT 'Bay'"], lambda _: copy, Limits())
    outcomes = [verdict.outcome for verdict in verdicts]
    right = next(verdict for verdict in verdicts if verdict.outcome != "wrong_rows").gold_result["rows"][0][0]
    expected = ["correct" if name == right else "tie" for name in ("n5009", "n10")]
    assert outcomes == [*expected, "wrong_rows"]


def test_so_many_of_spiders_golds_tie_at_their_limit(spider_zip, tmp_path):
    with open_spider(spider_zip) as source, Executor(Limits(), workers=1) as executor:
        examples = [example for example in source.iter_examples("dev") if "limit" in example.query.lower()]
        databases = {db_id: tmp_path / f"{db_id}.sqlite" for db_id in {example.db_id for example in examples}}
        for db_id, path in databases.items():
            source.extract_database(db_id, path)
        golds = [(databases[example.db_id], gold_as_executed(example.query)) for example in examples]
        rankings = [ranking(gold) for _, gold in golds]
        widths = [len(result.columns) for result in executor.run_all(golds)]
        asked = [
            (found, (database, found.sql(width)))
            for found, (database, _), width in zip(rankings, golds, widths)
            if found
        ]
        results = executor.run_all([query for _, query in asked])
        rows = []
        for (found, (database, _)), width, result in zip(
            asked, [width for found, width in zip(rankings, widths) if found], results
        ):
            more = () if found.complete(result.rows) else executor.run_all(
                [(database, found.more_sql(result.rows, width))]
            )[0].rows  # fmt: skip
            rows.append(found.joined(result.rows, more, width))
    assert (len(examples), len(asked)) == (189, 183)  # the others' LIMIT stands in a subquery
    assert sum(tied(found, ranked) for (found, _), ranked in zip(asked, rows)) == 48


SEVERAL = ("SELECT name FROM race WHERE laps = 7", "SELECT name FROM race WHERE laps >= 7", "SELECT town FROM race")


def test_any_of_several_golds_is_right(score):
    verdicts = score(*[(SEVERAL, sql) for sql in (*SEVERAL, "SELECT id FROM race")])
    assert [verdict.execution_accuracy for verdict in verdicts] == [True, True, True, False]
    assert [verdict.official_execution_accuracy for verdict in verdicts] == [True, True, True, False]
    line = verdicts[1].to_dict()
    assert line["gold"] == SEVERAL[0] and line["other_golds"] == list(SEVERAL[1:]) and json_line(line)
    assert line["gold_result"]["row_count"] == 3  # the first's, for every model
    assert "other_golds" not in score((SEVERAL[0], SEVERAL[0]))[0].to_dict()


def test_a_tie_with_any_of_several_golds_counts(score):
    (verdict,) = score((("SELECT 5", TWO), "SELECT name FROM race WHERE id IN (1, 4)"))
    assert verdict.outcome == "tie"


def test_a_gold_that_fails_among_several_is_the_datas_fault(score):
    pair = (("SELECT 5", "SELECT nme FROM race"), "SELECT 5")
    (verdict,) = score(pair, failing_gold="wrong")
    assert verdict.error == "its gold query fails: no such column: nme" and not verdict.execution_accuracy


def test_the_floor_counts_any_of_several_golds(score):
    found = []
    score(
        (("SELECT 1", "SELECT 2"), "SELECT 1"),
        ("SELECT 2", "SELECT 1"),
        ("SELECT 3", "SELECT 1"),
        on_golds=found.extend,
    )
    for entry in floors(found).values():
        assert entry == {"successes": 2, "total": 3, "query": "SELECT 2"}
