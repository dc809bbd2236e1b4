"""What judged answers become: answers beside gold, or pairs, and a count of all that is left out."""

import pytest

from text2sql.core.errors import UserError
from text2sql.scoring.judged import JudgedAnswer, JudgedQuestion
from text2sql.training.judged_answers import beside_gold, plain, preferences

GOLD = "SELECT name FROM pet WHERE kind = 'Dog'"


def answer(sql, right=True, official=None):
    official = right if official is None else official
    return JudgedAnswer(sql, 1, -1.0, right, official, "correct" if official else "content", None, None)


def question(index, *answers, gold=GOLD, gold_rows=1, gold_error=None):
    return JudgedQuestion(index, "pets", f"Question {index}?", gold, gold_rows, gold_error, answers)


def conversations(count):
    return [
        {
            "db_id": "pets",
            "evidence": f"evidence {index}",
            "conversations": [{"from": "human", "value": f"Question {index}?"}, {"from": "gpt", "value": GOLD}],
        }
        for index in range(count)
    ]


def sql_of(records):
    return [record["conversations"][1]["value"] for record in records]


def test_texts_are_one_where_only_space_case_or_a_semicolon_differ():
    assert plain(" select  Name\nFROM pet where kind='Dog' ;") == plain("SELECT name FROM pet WHERE kind='Dog'")
    assert plain("SELECT 'Dog'") != plain("SELECT 'dog'")
    assert plain("SELECT 'a  b'") != plain("SELECT 'a b'")
    assert plain('SELECT "Dog"') != plain('SELECT "dog"')
    assert plain("SELECT it's") == "select it's"
    assert plain("") == plain(";") == ""


def test_right_answers_of_other_texts_stand_behind_gold():
    asked = [
        question(0, answer("SELECT 1"), answer("select  1;"), answer(GOLD.lower().replace("'dog'", "'Dog'"))),
        question(1, answer("SELECT 2"), answer("SELECT 3"), answer("SELECT 4"), answer("SELECT 5", right=False)),
        question(2, answer("SELECT 6", right=False)),
        question(3, answer("SELECT 7", right=True, official=False)),
        question(4, answer("SELECT 8"), gold_rows=0),
        question(5, gold_error="no such table"),
    ]
    learnt = beside_gold(conversations(7), asked, most=2)
    assert sql_of(learnt.conversations) == [GOLD] * 7 + ["SELECT 1", "SELECT 2", "SELECT 3"]
    assert learnt.conversations[-1]["evidence"] == "evidence 1" and learnt.rejected == []
    assert learnt.counts == {
        "questions": 6, "gold_fails": 1, "gold_without_rows": 1, "none_right": 2, "all_right": 1, "equal_texts": 2,
        "beyond_per_question": 1, "added": 3,
    }  # fmt: skip


def test_pairs_are_of_right_and_wrong_answers_in_turn():
    asked = [
        question(0, answer("R1"), answer("W1", False), answer("R2"), answer("W2", False), answer("W3", False)),
        question(1, answer("R3")),
        question(2, answer("W4", False)),
        question(3, answer("R4"), answer("SELECT 9", right=True, official=False)),
        question(4, answer("R5"), answer("", False)),
        question(5, answer('SELECT "a"'), answer('SELECT  "a"', False)),
        question(6, answer("R6"), answer("W6", False), gold_rows=0),
    ]
    learnt = preferences(conversations(7), asked, most=4)
    assert sql_of(learnt.conversations) == ["R1", "R2", "R1"] and sql_of(learnt.rejected) == ["W1", "W2", "W3"]
    assert [record["evidence"] for record in learnt.rejected] == ["evidence 0"] * 3
    assert learnt.counts == {
        "questions": 7, "gold_fails": 0, "gold_without_rows": 1, "none_right": 1, "all_right": 1,
        "none_wrong_but_disputed": 2, "answers_without_sql": 1, "equal_pairs": 1, "pairs": 3,
    }  # fmt: skip
    assert len(preferences(conversations(7), asked, most=2).rejected) == 2


def test_nothing_to_learn_is_one_line():
    with pytest.raises(UserError, match="rejection: none of 1 questions has a right answer of another text than gold"):
        beside_gold(conversations(1), [question(0, answer(GOLD))], 4)
    with pytest.raises(UserError, match="dpo: none of 2 questions has a right and a wrong answer"):
        preferences(conversations(2), [question(0, answer("R")), question(1, answer("W", False))], 4)


def test_answers_to_other_questions_are_one_line():
    other = [{**conversations(1)[0], "db_id": "zoo"}]
    for make in (beside_gold, preferences):
        with pytest.raises(UserError, match="training question 0: is another one in qa_sharegpt.jsonl"):
            make(other, [question(0, answer("R"), answer("W", False))], 4)
