"""Which answers a verifier is trained on: as many right as wrong ones of a question, the rest counted."""

from text2sql.scoring.contrasts import contrasts
from text2sql.scoring.judged import JudgedAnswer, JudgedQuestion


def answer(sql, right, official=None, error=None):
    official = right if official is None else official
    return JudgedAnswer(sql, 1, -1.0, right, official, "", error, None)


def question(index, *answers, gold_rows=1, gold_error=None):
    return JudgedQuestion(index, "zoo", "Who?", "SELECT 1", gold_rows, gold_error, answers)


R1, R2, R3 = (answer(f"right {number}", True) for number in range(3))
W1, W2 = (answer(f"wrong {number}", False) for number in range(2))
FAILS = answer("fails", False, error="no such table")
DISPUTED = answer("disputed", True, official=False)


def picked(*questions, per_question=4):
    return [[one.sql for one in answers] for _, answers in contrasts(questions, per_question).picked]


def test_a_question_gives_as_many_right_as_wrong_answers_the_first_that_were_drawn():
    assert picked(question(0, R1, W1, R2, R3)) == [["right 0", "wrong 0"]]
    assert picked(question(0, R1, W1, R2, W2, DISPUTED)) == [["right 0", "wrong 0", "right 1", "wrong 1"]]
    assert picked(question(0, R1, W1, R2, W2), per_question=1) == [["right 0", "wrong 0"]]


def test_what_fails_is_not_trained_on():
    assert picked(question(0, FAILS, R1, W1, R2)) == [["right 0", "wrong 0"]]
    assert picked(question(0, R1, FAILS)) == []


def test_what_is_left_out_is_counted():
    asked = [
        question(0, R1, W1, FAILS, DISPUTED),
        question(1, R1, R2),
        question(2, W1, FAILS),
        question(3, R1, W1, gold_rows=0),
        question(4, gold_error="no such column"),
        question(5, DISPUTED),
        question(6, R1, FAILS),
    ]
    counts = contrasts(asked, 4).counts
    assert counts == {
        "questions": 7, "questions_used": 1, "questions_not_telling": 2, "questions_none_right": 2,
        "questions_none_wrong_runs": 2, "failing_answers": 3, "disputed_answers": 2, "right_answers": 1,
        "wrong_answers": 1,
    }  # fmt: skip
    left_out = sum(counts[f"questions_{why}"] for why in ("not_telling", "none_right", "none_wrong_runs"))
    assert counts["questions"] == counts["questions_used"] + left_out
