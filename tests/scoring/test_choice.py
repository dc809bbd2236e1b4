"""A choice among answers by what they return, on real SQLite."""

import contextlib
import sqlite3

import pytest

from text2sql.data.spider import Example
from text2sql.execution.executor import Limits
from text2sql.scoring.choice import Answer, Question, choose, failing, run_answers
from text2sql.scoring.chosen import numbers_up_to, score_answers

LIMITS = Limits(timeout_s=5)
FAILS = "SELECT name FROM nowhere"
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
EMPTY = "SELECT name FROM singer WHERE age > 99"
ALL = "SELECT name FROM singer"
SORTED = "SELECT name FROM singer ORDER BY name DESC"
OLD = "SELECT name FROM singer WHERE age > 25"
OLD_TOO = "SELECT singer.name FROM singer WHERE NOT age <= 25"


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    path = tmp_path_factory.mktemp("choice") / "concert.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE singer (name TEXT, age INTEGER, height REAL)")
        connection.executemany(
            "INSERT INTO singer VALUES (?, ?, ?)", [("Ana", 30, 2.0), ("Joe", 40, 1.5), ("Bo", 20, 2)]
        )
        connection.commit()
    return path


@pytest.fixture(scope="module")
def picked(database):
    """Choose among samples, each its SQL or (SQL, log-likelihood) or (SQL, log-likelihood, a verifier's log-odds)."""

    def choice(*samples, greedy=FAILS, rule="majority", when="always"):
        answers = [Answer(*sample) if isinstance(sample, tuple) else Answer(sample, -1.0) for sample in samples]
        question = Question(0, "concert", greedy, tuple(answers))
        outcomes = run_answers([question], lambda db_id: database, LIMITS, workers=1)
        return choose(question, outcomes, rule, when)

    return choice


def test_the_result_that_most_agree_on_wins_however_it_is_written(picked):
    found = picked(ALL, OLD, FAILS, OLD_TOO, greedy=ALL)
    assert (found.sample, found.agreeing, found.samples, found.runs) == (1, 2, 4, True)


def test_rows_count_as_a_set_and_whole_floats_as_integers(picked):
    assert picked(OLD, SORTED, ALL).agreeing == 2
    assert picked(OLD, "SELECT 2", "SELECT DISTINCT max(height) FROM singer").agreeing == 2
    assert picked("SELECT -1", ("SELECT -2", -9)).agreeing == 1  # whose hashes are equal in Python
    assert picked("SELECT '1'", ("SELECT 1", -9)).agreeing == 1
    assert picked("SELECT 1, 2", ("SELECT 2, 1", -9)).agreeing == 1


def test_of_those_that_agree_the_likeliest_is_taken(picked):
    assert picked((ALL, -0.5), (OLD, -7.0), (OLD_TOO, -6.0)).sample == 2


def test_a_tie_goes_to_the_likeliest_answer(picked):
    assert picked((ALL, -3.0), (OLD, -2.0)).sample == 1
    assert picked((ALL, -2.0), (OLD, -3.0)).sample == 0
    assert picked((ALL, -5.0), (SORTED, -1.0), (OLD, -2.0), (OLD_TOO, -2.0)).sample == 1
    assert picked((ALL, -2.0), (OLD, -2.0)).sample == 0


def test_failures_and_queries_that_never_end_have_no_vote(picked):
    found = picked(FAILS, FAILS, FAILS, ENDLESS, ENDLESS, OLD)
    assert found.sample == 5 and found.agreeing == 1


def test_an_empty_result_counts_only_where_nothing_else_runs(picked):
    assert picked(EMPTY, EMPTY, EMPTY, OLD).sample == 3
    found = picked(FAILS, EMPTY, EMPTY)
    assert found.sample == 1 and found.agreeing == 2


def test_where_no_sample_runs_the_greedy_answer_stands(picked):
    found = picked(FAILS, "Sing!", "", greedy="Hello")
    assert (found.sql, found.sample, found.runs, found.agreeing) == ("Hello", None, False, 0)
    assert picked(FAILS, greedy=OLD).sql == OLD
    assert picked(greedy=OLD).sql == OLD


def test_the_first_that_runs(picked):
    assert picked(OLD, ALL, ALL, greedy=EMPTY, rule="first_executable").sql == EMPTY
    found = picked(FAILS, ENDLESS, OLD, ALL, ALL, rule="first_executable")
    assert (found.sample, found.sql) == (2, OLD)
    assert picked(FAILS, rule="first_executable").sample is None


def test_the_verifier_chooses_of_what_runs(picked):
    found = picked((ALL, -1, 0.5), (FAILS, -1, 9.0), (OLD, -9, 2.5), (OLD_TOO, -1, -3.0), rule="verifier")
    assert (found.sample, found.sql, found.agreeing, found.samples) == (2, OLD, 2, 4)
    assert picked((EMPTY, -1, 0.1), (OLD, -1, 0.0), rule="verifier").sql == EMPTY  # it sees that there are no rows
    assert picked((ALL, -1, -0.5), (OLD, -1, -0.4), rule="verifier").sample == 1  # the best of two that it doubts


def test_a_verifiers_tie_goes_to_the_likeliest_answer_then_to_the_first(picked):
    assert picked((ALL, -3.0, 1.0), (OLD, -2.0, 1.0), (OLD_TOO, -2.0, 1.0), rule="verifier").sample == 1


def test_where_the_verifier_judged_nothing_that_runs_the_greedy_answer_stands(picked):
    assert picked((FAILS, -1, 5.0), greedy=OLD, rule="verifier").sample is None
    assert picked((ALL, -1, None), (FAILS, -1, 1.0), greedy=OLD, rule="verifier").sql == OLD
    assert picked((ALL, -1, None), (OLD, -1, -8.0), rule="verifier").sample == 1
    assert picked((ALL, -1, 9.0), greedy=OLD, rule="verifier", when="failed").sql == OLD
    assert picked((ALL, -1, 9.0), greedy=FAILS, rule="verifier", when="failed").sql == ALL


def test_the_result_with_the_most_probability_wins_and_of_its_answers_the_likeliest_right(picked):
    right, even, doubted = 3.0, 0.0, -3.0  # 0.95, 0.5, 0.05
    found = picked((ALL, -1, right), (OLD, -1, even), (OLD_TOO, -9, 0.1), (OLD, -1, even), rule="weighted_majority")
    assert (found.sample, found.agreeing) == (2, 3)
    # Three that it doubts have less weight than one that it trusts; drawn more often, more.
    assert picked((OLD, -1, doubted), (OLD, -1, doubted), (ALL, -1, even), rule="weighted_majority").sql == ALL
    assert picked((ALL, -1, even), *[(OLD, -1, -2.0)] * 5, rule="weighted_majority").sql == OLD  # 5 of 0.12
    # What fails or was not judged has no vote.
    found = picked((FAILS, -1, 9.0), (ALL, -1, None), (ALL, -1, None), (OLD, -1, -900.0), rule="weighted_majority")
    assert found.sql == OLD
    assert picked((ALL, -5, even), (OLD, -2, even), rule="weighted_majority").sample == 1  # the likelier of a tie


def test_a_result_without_rows_has_the_weight_that_majority_gives_it(picked):
    assert picked((EMPTY, -1, 9.0), (EMPTY, -1, 9.0), (OLD, -1, -9.0), rule="weighted_majority").sql == OLD
    assert picked((EMPTY, -1, -9.0), (OLD, -1, None), rule="weighted_majority").sql == EMPTY
    assert picked((OLD, -1, None), (FAILS, -1, 9.0), greedy=ALL, rule="weighted_majority").sql == ALL
    assert picked((OLD, -1, 9.0), greedy=ALL, rule="weighted_majority", when="failed").sql == ALL


def test_a_greedy_answer_that_runs_stands_where_only_failed_ones_are_chosen_anew(picked):
    assert picked(ALL, ALL, greedy=OLD, when="failed").sql == OLD
    assert picked(OLD, ALL, ALL, greedy=FAILS, when="failed").sample == 1


def test_which_answers_fail(database):
    answers = [("concert", sql) for sql in (ALL, FAILS, EMPTY, ENDLESS, ALL)]
    assert failing(answers, lambda db_id: database, LIMITS) == {("concert", FAILS), ("concert", ENDLESS)}


@pytest.fixture(scope="module")
def scored(database):
    """Three questions: one that a choice mends, one that it spoils, one that nothing answers."""
    examples = [Example(index, "concert", "Who?", OLD) for index in range(3)]
    samples = [(OLD, ALL, OLD_TOO), (ALL, SORTED, OLD), (FAILS, FAILS, FAILS)]
    questions = [
        Question(index, "concert", greedy, tuple(Answer(sql, -1.0 - place) for place, sql in enumerate(of_one)))
        for index, (greedy, of_one) in enumerate(zip((FAILS, OLD, FAILS), samples, strict=True))
    ]
    outcomes = run_answers(questions, lambda db_id: database, LIMITS)
    return score_answers(examples, questions, outcomes, lambda db_id: database, LIMITS)


def test_what_a_choice_mends_and_spoils_is_counted(scored):
    chosen = scored.chosen(3, "majority", "always")
    assert [one.sample for one in chosen] == [0, 0, None]
    assert scored.effect(chosen) == {"changed": 2, "rescued": 1, "lost": 1, "none_ran": 1}
    assert [verdict.official_execution_accuracy for verdict in scored.chosen_verdicts(chosen)] == [True, False, False]


def test_accuracy_by_number_of_samples_is_cut_from_one_draw(scored):
    table = scored.by_samples()
    assert list(table) == ["1", "2", "3"]
    assert table["3"]["majority"]["official_successes"] == 1
    assert table["3"]["first_executable"]["official_successes"] == 2
    assert table["1"]["oracle"]["official_successes"] == 2
    assert table["3"]["one_sample"]["official_execution_accuracy"] == round(3 / 9, 6)
    assert numbers_up_to(16) == [1, 2, 4, 8, 16] and numbers_up_to(10) == [1, 2, 4, 8, 10] and numbers_up_to(0) == []


def test_the_choice_does_not_depend_on_gold(database, scored):
    questions, outcomes = scored.questions, scored.outcomes
    examples = [Example(index, "concert", "Who?", "SELECT 'nobody'") for index in range(3)]
    other = score_answers(examples, questions, outcomes, lambda db_id: database, LIMITS)
    for number in (1, 2, 3):
        for rule in ("majority", "first_executable"):
            assert other.chosen(number, rule, "always") == scored.chosen(number, rule, "always")
    assert other.by_samples()["3"]["oracle"]["successes"] == 0


def test_how_well_a_verifier_tells_right_from_wrong_is_counted(database):
    """Of two questions, whose answers are OLD's rows: one answer fails, one was too long to be judged."""
    examples = [Example(0, "concert", "Who?", OLD), Example(1, "concert", "Who?", OLD)]
    samples = [
        ((OLD, 2.0), (OLD_TOO, -1.0), (ALL, 1.0), (SORTED, -1.0), (FAILS, None), (OLD, 2.0)),
        ((OLD, 3.0), (EMPTY, None), (OLD_TOO, 1.0), (OLD, 3.0), (OLD, 3.0), (OLD, 3.0)),
    ]
    questions = [
        Question(index, "concert", FAILS, tuple(Answer(sql, -1.0, odds) for sql, odds in of_one))
        for index, of_one in enumerate(samples)
    ]
    outcomes = run_answers(questions, lambda db_id: database, LIMITS)
    scored = score_answers(examples, questions, outcomes, lambda db_id: database, LIMITS)
    assert scored.judged
    assert scored.verifier() == {
        "answers": 7, "unjudged": 1, "right": round(4 / 6, 6), "accuracy": round(4 / 6, 6), "pairs": 4,
        "ordered": 0.625,
    }  # fmt: skip
    by = scored.by_samples()["6"]
    assert by["verifier"]["official_successes"] == by["oracle"]["official_successes"] == 2
    assert by["verifier_where_greedy_fails"] == by["verifier"]
    assert by["weighted_majority"]["official_successes"] == 2
    without = [Question(one.index, one.db_id, one.greedy, (Answer(ALL, -1.0),)) for one in questions]
    assert (
        "verifier"
        not in score_answers(
            examples, without, run_answers(without, lambda db_id: database, LIMITS), lambda db_id: database, LIMITS
        ).by_samples()["1"]
    )
