"""Verdicts, causes of failure, intervals and summaries, on real databases made here."""

import contextlib
import json
import sqlite3
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from text2sql.core.errors import UserError
from text2sql.core.files import json_line
from text2sql.core.intervals import wilson_interval
from text2sql.data.spider import Example
from text2sql.execution.executor import Limits
from text2sql.scoring.failures import CAUSE_GROUPS, CAUSES
from text2sql.scoring.verdicts import CORRECT, same_rows, score_examples, summarise

SCRIPT = """
CREATE TABLE poker_player (Poker_Player_ID INTEGER PRIMARY KEY, People_ID INT, Earnings REAL);
CREATE TABLE people (People_ID INTEGER PRIMARY KEY, Nationality TEXT, Name TEXT, Photo BLOB);
CREATE TABLE country (Name TEXT, Continent TEXT, Region TEXT);
INSERT INTO poker_player VALUES (1, 1, 476090.0), (2, 4, 189233.0);
INSERT INTO people VALUES (1, 'Russia', 'Aleksey', x'00ff'), (2, 'Bulgaria', 'Teodor', NULL),
    (3, 'Russia', 'Roman', NULL), (4, 'Russia', 'Sergey', NULL), (5, 'Italy', 'Nobody', NULL);
INSERT INTO country VALUES ('China', 'Asia', 'Eastern Asia'), ('Iran', 'Asia', 'Southern and Central Asia'),
    ('Chile', 'South America', 'South America');
"""
LIMITS = Limits(max_steps=200_000, timeout_s=20, max_rows=1_000, max_megabytes=1)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    path = tmp_path_factory.mktemp("databases") / "poker_player.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCRIPT)
        connection.execute("INSERT INTO country VALUES (CAST(x'41ff42' AS TEXT), 'Nowhere', NULL)")
        connection.commit()
    return path


@pytest.fixture(scope="module")
def score(database):
    """Score (gold, prediction) pairs on that database."""

    def score(*pairs, limits=LIMITS, **options):
        examples = [Example(index, "poker_player", f"question {index}", gold) for index, (gold, _) in enumerate(pairs)]
        return score_examples(examples, [sql for _, sql in pairs], lambda _: database, limits, workers=1, **options)

    return score


NAMES = "SELECT Name FROM people"
# Gold, prediction, outcome. The paper's own examples are those of its sections II.A and II.B.
OUTCOMES = [
    # right
    (NAMES, NAMES, CORRECT),
    (NAMES, "select people.name from people;", CORRECT),
    (NAMES + " ORDER BY Name", "SELECT name FROM people ORDER BY name ASC", CORRECT),
    ("SELECT Name, Nationality FROM people", "SELECT Nationality, Name FROM people", CORRECT),
    ("SELECT Name FROM people WHERE 0", "SELECT Nationality, Name FROM people WHERE Name = 'x'", CORRECT),
    ("SELECT DISTINCT Nationality FROM people", "SELECT Nationality FROM people", CORRECT),
    # the paper: schema hallucination
    (
        "SELECT count(*) FROM poker_player",
        "SELECT COUNT(*) FROM player WHERE game = 'poker'",
        "unknown_table",
    ),
    (NAMES, "SELECT title FROM people", "unknown_column"),
    (NAMES, "SELECT T2.animal FROM people AS T1", "unknown_column"),
    (NAMES, "SELECT Name FROM people JOIN country USING (Nationality)", "unknown_column"),
    # the paper: a conversational answer
    (NAMES, "To translate the natural language question into SQL, SELECT Name FROM people is used.", "not_sql"),
    (NAMES, "Here is the query: SELECT Name FROM people", "not_sql"),
    (NAMES, "With this question we need the names", "not_sql"),
    (NAMES, "Values are in the table people", "not_sql"),
    (NAMES, "```sql\nSELECT Name FROM people\n```", "not_sql"),
    (NAMES, "", "not_sql"),
    (NAMES, " ; ", "not_sql"),
    (NAMES, "-- SELECT Name FROM people", "not_sql"),
    (NAMES, "SELECT\0 Name FROM people", "not_sql"),
    (NAMES, "SELECT '\ud800'", "not_sql"),
    # the paper: wrong logic
    (
        "SELECT count(*) FROM country WHERE Continent = 'Asia'",
        "SELECT COUNT(*) FROM country WHERE region = 'Asia'",
        "wrong_rows",
    ),
    (
        "SELECT Nationality FROM people GROUP BY Nationality ORDER BY COUNT(*) DESC LIMIT 1",
        "SELECT nationality, COUNT(*) AS num_people FROM people GROUP BY nationality ORDER BY num_people DESC",
        "wrong_columns",
    ),
    (NAMES + " ORDER BY Name", NAMES + " ORDER BY Name DESC", "wrong_order"),
    ("SELECT Nationality FROM people", "SELECT Nationality FROM people GROUP BY 1", "wrong_duplicates"),
    (NAMES, NAMES + " UNION ALL SELECT Name FROM people", "wrong_duplicates"),
    (NAMES, "SELECT Name, Nationality FROM people", "wrong_columns"),
    (NAMES, "SELECT Nationality FROM people", "wrong_rows"),
    (NAMES, NAMES + " WHERE People_ID = 7", "empty_result"),
    (NAMES + " WHERE 0", NAMES, "wrong_rows"),
    # as right as gold: two of three nationalities are named once
    (
        "SELECT Nationality FROM people GROUP BY Nationality ORDER BY count(*) LIMIT 1",
        "SELECT max(Nationality) FROM people WHERE Nationality != 'Russia'",
        "tie",
    ),
    # the rest
    (NAMES, "SELECT Name FROM", "syntax_error"),
    (NAMES, "SELECT Name people WHERE", "syntax_error"),
    (NAMES, "SELECT 'Name FROM people", "syntax_error"),
    (NAMES, "(SELECT Name FROM people)", "syntax_error"),
    (NAMES, "SELECT Name FROM people ORDER BY 1 UNION SELECT 1", "syntax_error"),
    (NAMES, "SELECT People_ID FROM people JOIN poker_player", "other_error"),  # ambiguous: the column exists, twice
    (NAMES, "SELECT year(Name) FROM people", "other_error"),
    (NAMES, "SELECT sum(count(*)) FROM people", "other_error"),
    (NAMES, "DROP TABLE people", "forbidden_operation"),
    (NAMES, "PRAGMA table_info(people)", "forbidden_operation"),
    (NAMES, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n", "limit_reached"),
    (
        NAMES,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1001) SELECT i FROM n",
        "result_too_large",
    ),
]


def test_outcomes(score):
    verdicts = score(*[(gold, sql) for gold, sql, _ in OUTCOMES])
    assert [(verdict.sql, verdict.outcome) for verdict in verdicts] == [(sql, outcome) for _, sql, outcome in OUTCOMES]
    assert {outcome for _, _, outcome in OUTCOMES} == {CORRECT, *CAUSES}
    for verdict in verdicts:
        assert verdict.official_execution_accuracy is (verdict.outcome == CORRECT)
        assert (verdict.error is None) is (verdict.result is not None)
        assert verdict.stopped is (verdict.outcome in ("limit_reached", "result_too_large", "forbidden_operation"))


def test_the_two_definitions_differ_where_they_should(score):
    pairs = [
        (NAMES + " ORDER BY Name", NAMES),  # order: only official
        ("SELECT Nationality FROM people", "SELECT Nationality FROM people GROUP BY 1"),  # bag: only official
        ("SELECT Name, Nationality FROM people", "SELECT Nationality, Name FROM people"),  # columns: only paper
        ("SELECT 1 WHERE 0", "SELECT 1, 2 WHERE 0"),
        (NAMES, "SELECT Name FROM people WHERE People_ID > = 1"),  # mended by official
        ("SELECT 1", "SELECT value"),  # placeholder
        ("SELECT 1", "SELECT 1; SELECT 2"),  # official looks at the first statement
        (NAMES, "SELECT Name FROM people WHERE People_ID > 1"),
    ]
    verdicts = score(*pairs)
    assert [verdict.execution_accuracy for verdict in verdicts] == [
        True, True, False, True, False, False, False, False,
    ]  # fmt: skip
    assert [verdict.official_execution_accuracy for verdict in verdicts] == [
        False, False, True, True, True, True, True, False,
    ]  # fmt: skip
    assert verdicts[4].error == 'near "=": syntax error'  # why the paper's definition calls it wrong


def test_keep_distinct(score):
    pairs = [
        ("SELECT DISTINCT Nationality FROM people", "SELECT Nationality FROM people"),
        ("SELECT Nationality FROM people", "SELECT DISTINCT Nationality FROM people"),
        ("SELECT 1", "SELECT 1; SELECT 2"),
    ]
    assert [verdict.official_execution_accuracy for verdict in score(*pairs)] == [True, True, True]
    kept = score(*pairs, keep_distinct=True)
    assert [verdict.official_execution_accuracy for verdict in kept] == [False, False, False]
    assert [verdict.outcome for verdict in kept] == ["wrong_duplicates", "wrong_duplicates", "other_error"]
    assert [verdict.execution_accuracy for verdict in kept] == [True, True, False]


def test_an_answer_without_a_statement(score):
    gold = NAMES + " WHERE 0"
    empty, semicolon, comment = score((gold, ""), (gold, ";"), (gold, "-- nothing"))
    # The official script reads no rows where there is no statement, and gold has none either.
    assert semicolon.official_execution_accuracy and comment.official_execution_accuracy
    assert not empty.official_execution_accuracy and empty.outcome == "not_sql"
    assert not (empty.execution_accuracy or semicolon.execution_accuracy or comment.execution_accuracy)


def test_text_that_is_not_utf8_is_compared_without_what_cannot_be_read(score):
    (verdict,) = score(("SELECT Name FROM country WHERE Continent = 'Nowhere'", "SELECT 'AB'"))
    assert verdict.execution_accuracy and verdict.official_execution_accuracy
    assert verdict.gold_result["rows"] == [["AB"]]


def test_results_are_shown_in_a_form_that_json_can_hold(score):
    big, blob, many, wide = score(
        ("SELECT 1", "SELECT 9e999, -9e999, 9007199254740993, NULL, 0.5"),
        ("SELECT Photo FROM people", "SELECT Photo, printf('%.1000c', 'x') AS long FROM people"),
        (NAMES, NAMES + " UNION ALL SELECT Name FROM people"),
        ("SELECT 1", "SELECT 1 AS " + "x" * 500),
    )
    assert big.result["rows"] == [["Inf", "-Inf", 9007199254740993, None, 0.5]]
    assert blob.gold_result == {"columns": ["Photo"], "rows": [["x'00ff'"]] + [[None]] * 4, "row_count": 5}
    assert blob.result["rows"][0] == ["x'00ff'", "x" * 200]
    assert (len(many.result["rows"]), many.result["row_count"]) == (5, 10)
    assert wide.result["columns"] == ["x" * 200]
    for verdict in (big, blob, many, wide):
        assert json.loads(json_line(verdict.to_dict())) == json.loads(json.dumps(verdict.to_dict()))


def test_a_verdict_line_says_nothing_that_differs_from_run_to_run(score):
    pairs = [(gold, sql) for gold, sql, _ in OUTCOMES if "\ud800" not in sql]
    first, second = score(*pairs), score(*pairs)
    assert [verdict.to_dict() for verdict in first] == [verdict.to_dict() for verdict in second]
    assert list(first[0].to_dict()) == [
        "index", "db_id", "hardness", "question", "gold", "sql", "execution_accuracy", "official_execution_accuracy",
        "outcome", "error", "gold_result", "result",
    ]  # fmt: skip


def test_several_databases_keep_the_order_of_the_examples(tmp_path):
    for number in range(3):
        with contextlib.closing(sqlite3.connect(tmp_path / f"db{number}.sqlite")) as connection:
            connection.executescript(f"CREATE TABLE t (a); INSERT INTO t VALUES ({number});")
    examples = [Example(100 - index, f"db{index % 3}", "?", "SELECT a FROM t") for index in range(12)]
    seen = []
    verdicts = score_examples(
        examples,
        ["SELECT 1"] * 12,
        lambda db_id: tmp_path / f"{db_id}.sqlite",
        LIMITS,
        workers=2,
        on_verdict=lambda: seen.append(1),
    )
    assert [verdict.index for verdict in verdicts] == [100 - index for index in range(12)]
    assert [verdict.execution_accuracy for verdict in verdicts] == [index % 3 == 1 for index in range(12)]
    assert len(seen) == 12


LONG = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) SELECT {} FROM n"
ENDLESS = LONG.replace(" LIMIT 100000", "")


def test_a_long_query_with_another_number_of_columns_is_wrong_without_its_end(score):
    prediction = ENDLESS.format("count(*), 2")
    cut, run = score((NAMES, prediction), (NAMES + " WHERE 0", prediction), limits=Limits())
    assert (cut.outcome, cut.stopped, cut.result) == ("wrong_columns", False, None)
    assert not cut.execution_accuracy and not cut.official_execution_accuracy
    assert (run.outcome, run.stopped) == ("limit_reached", True)  # where gold has no rows, none would be right


def test_a_long_query_with_gold_s_program_has_gold_s_rows_and_its_own_names(score):
    gold, prediction = LONG.format("count(*) AS a, sum(i)"), LONG.format("COUNT( * )  AS b , SUM(i) AS c")
    (verdict,) = score((gold, prediction), limits=Limits())
    assert verdict.outcome == CORRECT and verdict.execution_accuracy
    assert verdict.result == {"columns": ["b", "c"], "rows": [[100_000, 5_000_050_000]], "row_count": 1}


def test_gold_that_fails_stops_with_a_message(score):
    for gold, why in [("SELECT shoe_size FROM people", "no such column"), ("DROP TABLE people", "not allowed")]:
        with pytest.raises(UserError, match=rf"example 1 \(database poker_player\): its gold query fails: .*{why}"):
            score((NAMES, NAMES), (gold, NAMES))


def test_as_many_predictions_as_examples(score, database):
    with pytest.raises(ValueError):
        score_examples([Example(0, "x", "?", NAMES)], [], lambda _: database, LIMITS)


def test_hardness_is_read_from_the_parse_or_from_the_text(database):
    damaged = Example(7, "x", "?", NAMES, {"select": 1})
    with pytest.raises(UserError, match=r"example 7 \(database x\): 'sql' is not a query parsed"):
        score_examples([damaged], [NAMES], lambda _: database, LIMITS)
    (verdict,) = score_examples([replace(damaged, sql=None)], [NAMES], lambda _: database, LIMITS, workers=1)
    assert verdict.hardness == "easy"


WORDS = (
    "SELECT DISTINCT * , name FROM people country JOIN ON WHERE = 'x' \" ` [ ] ( ) ; -- /* */ \n UNION ALL EXCEPT "
    "GROUP BY ORDER LIMIT 3 value count( sum( NULL 1.5 DROP TABLE INSERT INTO ATTACH PRAGMA WITH RECURSIVE VALUES AS "
    "CASE END GO"
).split(" ")


@given(
    st.lists(
        st.text(max_size=40) | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), min_size=20, max_size=20
    ),
    st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_any_text_gets_a_verdict_and_changes_nothing(score, database, texts, keep_distinct):
    before = database.read_bytes()
    verdicts = score(*[(NAMES, text) for text in texts], keep_distinct=keep_distinct)
    assert [verdict.sql for verdict in verdicts] == texts
    assert {verdict.outcome for verdict in verdicts} <= {CORRECT, *CAUSES}
    for verdict in verdicts:
        json_line(verdict.to_dict())
    assert database.read_bytes() == before
    assert sorted(path.name for path in database.parent.iterdir()) == [database.name]


def test_long_and_deep_texts_get_a_verdict(score):
    texts = ["SELECT 1;" * 1_000_000, "(" * 90_000, "SELECT " + "1+" * 40_000 + "1", "SELECT distinct '" * 5_000]
    verdicts = score(*[(NAMES, text) for text in texts])
    assert not any(verdict.official_execution_accuracy or verdict.execution_accuracy for verdict in verdicts)
    assert verdicts[0].outcome == "limit_reached" and verdicts[0].stopped


# The cache of gold results.

CELLS = "SELECT 1, 1.0, 0.1, -9e999, 'é\n\"', x'00ff', NULL, 9007199254740993, '{\"blob\": 1}'"


def test_gold_results_are_kept_and_give_the_same_verdicts(score, tmp_path):
    pairs = [(CELLS, CELLS.replace("0.1", "0.10")), (CELLS, CELLS.replace("1.0", "'1.0'")), (NAMES, NAMES)]
    without = [verdict.to_dict() for verdict in score(*pairs)]
    first = [verdict.to_dict() for verdict in score(*pairs, cache_dir=tmp_path)]
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    second = [verdict.to_dict() for verdict in score(*pairs, cache_dir=tmp_path)]
    assert without == first == second
    assert [line["execution_accuracy"] for line in second] == [True, False, True]
    assert file.read_bytes() == content


def test_kept_results_are_used(score, tmp_path):
    score((NAMES, NAMES), cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    stored = json.loads(file.read_text())
    for result in stored.values():
        result["rows"] = [["somebody else"]]
    file.write_text(json.dumps(stored))
    (verdict,) = score((NAMES, "SELECT 'somebody else'"), cache_dir=tmp_path)
    assert verdict.execution_accuracy


@pytest.mark.parametrize("content", ["", "{", "[]", '{"x": 1}', '{"x": {"rows": [1]}}', "\0", "[" * 100_000])
def test_a_damaged_cache_is_rebuilt(score, tmp_path, content):
    score((NAMES, NAMES), cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = set(json.loads(file.read_text()))
    file.write_text(content)
    (verdict,) = score((NAMES, NAMES), cache_dir=tmp_path)
    assert verdict.execution_accuracy
    assert set(json.loads(file.read_text())) == whole


def test_kept_results_belong_to_database_and_limits(score, database, tmp_path):
    score((NAMES, NAMES), cache_dir=tmp_path)
    score((NAMES, NAMES), cache_dir=tmp_path, limits=replace(LIMITS, max_rows=7))
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(UserError, match="more than 3 rows"):
        score((NAMES, NAMES), cache_dir=tmp_path, limits=replace(LIMITS, max_rows=3))
    other = tmp_path / "other.sqlite"
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.executescript("CREATE TABLE people (Name); INSERT INTO people VALUES ('x');")
    example = Example(0, "poker_player", "?", NAMES)
    (verdict,) = score_examples([example], ["SELECT 'x'"], lambda _: other, LIMITS, workers=1, cache_dir=tmp_path)
    assert verdict.execution_accuracy


def test_a_cache_that_cannot_be_written_does_no_harm(score, tmp_path):
    (tmp_path / "file").write_text("")
    (verdict,) = score((NAMES, NAMES), cache_dir=tmp_path / "file")
    assert verdict.execution_accuracy


def test_runs_at_the_same_time_share_a_cache(score, tmp_path):
    found = []

    def run(number):
        pairs = [(f"SELECT {number} + {index}", f"SELECT {number + index}") for index in range(20)]
        found.extend(verdict.execution_accuracy for verdict in score(*pairs, cache_dir=tmp_path))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80
    (file,) = tmp_path.iterdir()
    assert len(json.loads(file.read_text())) >= 20


# Comparison and summary.


def test_same_rows_is_the_papers_comparison():
    assert same_rows([(1,), (1,), (2,)], [(2,), (1,)])
    assert same_rows([], [])
    assert same_rows([(1,)], [(1.0,)])
    assert not same_rows([(1, 2)], [(2, 1)])
    assert not same_rows([(1,)], [("1",)])
    assert not same_rows([], [(None,)])


@pytest.mark.parametrize("total", [1, 2, 7, 80, 1034, 10**6])
def test_wilson_interval(total):
    from statsmodels.stats.proportion import proportion_confint

    for successes in {0, 1, total // 3, total // 2, total - 1, total}:
        low, high = wilson_interval(successes, total)
        assert 0 <= low <= successes / total <= high <= 1
        assert (low, high) == pytest.approx(proportion_confint(successes, total, method="wilson"), abs=1e-12)


def test_wilson_interval_of_the_papers_figures():
    # 75 of 1,034 (its Model 1): 7.25 %
    assert wilson_interval(75, 1034) == pytest.approx((0.058257, 0.089975), abs=1e-6)
    assert wilson_interval(0, 0) == (0, 1)
    for successes, total in [(-1, 3), (4, 3)]:
        with pytest.raises(ValueError):
            wilson_interval(successes, total)


def test_summarise(score):
    verdicts = score(
        (NAMES, NAMES),
        (NAMES, "SELECT Name FROM persons"),
        (NAMES, "I do not know."),
        ("SELECT Name, Nationality FROM people", "SELECT Nationality, Name FROM people"),
        (NAMES + " ORDER BY Name LIMIT 3", NAMES + " ORDER BY Name DESC LIMIT 3"),
        (NAMES, "DROP TABLE people"),
    )
    metrics = summarise(verdicts)
    assert (metrics["successes"], metrics["failures"], metrics["total"]) == (1, 5, 6)
    assert metrics["execution_accuracy"] == round(1 / 6, 6)
    assert (metrics["official_successes"], metrics["official_execution_accuracy"]) == (2, round(2 / 6, 6))
    low, high = wilson_interval(2, 6)
    assert metrics["official_execution_accuracy_low"] == round(low, 6)
    assert metrics["official_execution_accuracy_high"] == round(high, 6)
    assert list(metrics["by_hardness"]) == ["easy", "medium", "hard", "extra"]
    assert {level: entry["total"] for level, entry in metrics["by_hardness"].items()} == {
        "easy": 4, "medium": 2, "hard": 0, "extra": 0,
    }  # fmt: skip
    assert metrics["by_hardness"]["hard"]["execution_accuracy"] == 0
    assert metrics["by_hardness"]["hard"]["execution_accuracy_high"] == 1
    assert list(metrics["causes"]) == list(CAUSES)
    found = {cause: count for cause, count in metrics["causes"].items() if count}
    assert found == {"unknown_table": 1, "not_sql": 1, "forbidden_operation": 1, "wrong_rows": 1}
    assert metrics["causes_by_hardness"]["medium"]["wrong_rows"] == 1
    assert metrics["cause_groups"] == {
        "schema_hallucination": 1, "conversational_answer": 1, "wrong_logic": 1, "other": 1,
    }  # fmt: skip
    assert sum(metrics["cause_groups"].values()) == metrics["total"] - metrics["official_successes"]
    assert metrics["sqlite_version"] == sqlite3.sqlite_version
    assert json.loads(json.dumps(metrics)) == metrics


def test_summarise_counts_each_database(score):
    right, both = score((NAMES, NAMES), (NAMES, NAMES))
    counts = summarise([right, replace(both, db_id="a_first", official_execution_accuracy=False)])["by_database"]
    assert counts == {
        "a_first": {"total": 1, "successes": 1, "official_successes": 0},
        right.db_id: {"total": 1, "successes": 1, "official_successes": 1},
    }
    assert list(counts)[0] == "a_first"


def test_groups_cover_each_cause_once():
    assert sorted(cause for causes in CAUSE_GROUPS.values() for cause in causes) == sorted(CAUSES)
