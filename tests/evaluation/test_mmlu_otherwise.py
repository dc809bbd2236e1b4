"""MMLU over the rotations of its options, and in chat: what is asked, kept and counted."""

import json
import random

import pytest

from testkit.tiny_models import write_tiny_model
from testkit.train_once import model_params
from text2sql.core.dependencies import Key
from text2sql.core.errors import UserError
from text2sql.core.journal import Journal
from text2sql.core.processes import Processes
from text2sql.data.mmlu import Question, draw, letter_shares
from text2sql.evaluation.batching import JournaledRun
from text2sql.evaluation.mmlu import answer_questions, summarise
from text2sql.evaluation.mmlu_chat import MAX_NEW_TOKENS, ask_in_chat, judge
from text2sql.model.language_model import LanguageModel
from text2sql.prompts.messages import OPTIONS, mmlu_chat_messages, mmlu_prompt

CATEGORIES = {"philosophy": "humanities", "virology": "other"}
QUESTIONS = [
    Question(subject, index, f"Which is number {index} of {subject}?", ("one", "two", "three", "four"), index % 4)
    for subject in CATEGORIES
    for index in range(5)
]
SHOTS = {subject: [Question(subject, 0, "Which is first?", ("a", "b", "c", "d"), 2)] for subject in CATEGORIES}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return LanguageModel(model_params(write_tiny_model(tmp_path_factory.mktemp("mmlu") / "m")))


ALONE = Processes()


def run_in(folder, processes=ALONE):
    return JournaledRun(Journal("mmlu", Key.of({}), processes.index, folder), "mmlu", processes)


def choose(model, folder, rotations):
    return answer_questions(model, QUESTIONS, SHOTS, CATEGORIES, 3, run_in(folder), rotations)


# ---------------------------------------------------------------- rotations


def test_a_rotated_question_is_the_same_question():
    question = QUESTIONS[1]
    for by in range(4):
        rotated = question.rotated(by)
        assert rotated.choices[rotated.answer] == question.choices[question.answer]
        assert [rotated.choices[place] for place in range(4)] == [
            question.choices[(place + by) % 4] for place in range(4)
        ]
    assert question.rotated(0) == question


def test_the_ordinary_choices_are_the_same_with_rotations(model, tmp_path):
    ordinary, rotated = choose(model, tmp_path / "1", 1), choose(model, tmp_path / "4", 4)
    extra = ("rotation_choices", "rotations_right", "rotation_log_likelihoods")
    assert not any(name in record for record in ordinary.records for name in extra)
    assert [{key: value for key, value in record.items() if key not in extra} for record in rotated.records] == (
        ordinary.records
    )
    metrics = rotated.metrics()
    del metrics["rotated"]
    assert metrics == ordinary.metrics()


def test_each_rotation_is_what_the_model_says_of_that_order_alone(model, tmp_path):
    for question, record in zip(QUESTIONS, choose(model, tmp_path, 4).records, strict=True):
        for by in range(4):
            shown = question.rotated(by)
            (prompt,) = model.text_ids([mmlu_prompt(shown, SHOTS[question.subject])])
            (row,) = model.option_log_likelihoods([prompt], OPTIONS)
            assert record["rotation_log_likelihoods"][by] == pytest.approx(row, abs=1e-4)
            chosen = record["rotation_log_likelihoods"][by]
            assert shown.choices[chosen.index(max(chosen))] == question.choices[record["rotation_choices"][by]]
        assert record["rotation_choices"][0] == record["choice"]
        assert record["rotations_right"] == record["rotation_choices"].count(question.answer)


def test_a_liking_for_a_letter_earns_a_quarter(tmp_path, model, monkeypatch):
    likes_c = lambda prompts, options: lambda: [[-9, -9, -1, -9]] * len(prompts)  # noqa: E731
    monkeypatch.setattr(model, "begin_option_log_likelihoods", likes_c)
    metrics = choose(model, tmp_path, 4).metrics()
    assert metrics["letters"] == metrics["rotated"]["letters"] == {"A": 0, "B": 0, "C": 1, "D": 0}
    assert metrics["rotated"]["accuracy"] == 0.25 and metrics["rotated"]["same_choice"] == 0
    assert metrics["rotated"]["total"] == 40 and metrics["rotated"]["questions"] == metrics["total"] == 10


def test_letters_are_shares_of_all_questions():
    rng = random.Random(0)
    choices = [rng.randrange(4) for _ in range(100)]
    shares = letter_shares(choices)
    assert sum(shares.values()) == pytest.approx(1) and shares["B"] == choices.count(1) / 100
    records = [{"subject": "virology", "category": "other", "choice": choice, "correct": False} for choice in choices]
    assert summarise(records)["letters"] == shares


def test_a_killed_run_over_rotations_goes_on_where_it_was(model, tmp_path, monkeypatch):
    expected = choose(model, tmp_path / "whole", 4).records
    asked = []
    real = model.begin_option_log_likelihoods

    def killed(prompts, options):
        if len(asked) == 6:
            raise KeyboardInterrupt
        asked.append(len(prompts))
        return real(prompts, options)

    monkeypatch.setattr(model, "begin_option_log_likelihoods", killed)
    with pytest.raises(KeyboardInterrupt):
        choose(model, tmp_path / "cut", 4)
    before = sum(asked)
    asked.clear()

    def counted(prompts, options):
        asked.append(len(prompts))
        return real(prompts, options)

    monkeypatch.setattr(model, "begin_option_log_likelihoods", counted)
    assert choose(model, tmp_path / "cut", 4).records == expected
    assert before + sum(asked) == 40


# ---------------------------------------------------------------- chat


def test_a_question_in_chat_has_no_examples_and_names_its_options():
    (message,) = mmlu_chat_messages(QUESTIONS[0])
    assert message["role"] == "user"
    assert message["content"] == (
        "Which is number 0 of philosophy?\nA. one\nB. two\nC. three\nD. four\n"
        "Answer with the letter of the right option."
    )


def test_answers_in_chat_are_greedy_kept_and_those_at_the_limit_counted(model, tmp_path):
    answers = ask_in_chat(model, QUESTIONS, CATEGORIES, 4, run_in(tmp_path))
    one = QUESTIONS[3]
    (alone,) = model.generate([model.chat_ids(mmlu_chat_messages(one))], MAX_NEW_TOKENS)
    record = answers.records[3]
    assert (record["raw"], record["new_tokens"]) == (model.decode(alone), len(alone))
    assert record["at_limit"] == (not model.has_ended(alone))
    assert (record["subject"], record["category"], record["index"]) == ("philosophy", "humanities", 3)
    metrics = answers.metrics()
    assert metrics["at_token_limit"] == sum(record["at_limit"] for record in answers.records) > 0
    assert metrics["letter_answers"] + metrics["sql_answers"] + metrics["other_answers"] == metrics["total"] == 10
    assert "draw_seed" not in metrics and metrics["max_new_tokens"] == 64
    asked = []
    model_generate = model.generate
    model.generate = lambda *arguments: asked.append(arguments) or model_generate(*arguments)
    try:
        assert ask_in_chat(model, QUESTIONS, CATEGORIES, 4, run_in(tmp_path)).records == answers.records
    finally:
        del model.generate
    assert not asked  # all of them were kept


def test_an_answer_that_ends_with_the_last_token_did_not_run_to_the_limit(model, tmp_path, monkeypatch):
    (end,) = model._end_ids
    ids = [model.tokenizer.encode("B", add_special_tokens=False)[0]] * (MAX_NEW_TOKENS - 1)
    outputs = {True: [*ids, end], False: [*ids, ids[0]]}
    for ended, output in outputs.items():
        monkeypatch.setattr(model, "generate", lambda prompts, most, output=output: [output] * len(prompts))
        metrics = ask_in_chat(model, QUESTIONS, CATEGORIES, 4, run_in(tmp_path / str(ended))).metrics()
        assert metrics["at_token_limit"] == (0 if ended else 10)


def test_several_processes_share_the_answers(model, tmp_path):
    expected = ask_in_chat(model, QUESTIONS, CATEGORIES, 2, run_in(tmp_path / "one")).records
    for index in (1, 0):  # one after the other: the main one comes last, and finds what the other left
        processes = Processes(index, 2)
        object.__setattr__(processes, "wait", lambda: None)
        found = ask_in_chat(model, QUESTIONS, CATEGORIES, 2, run_in(tmp_path / "two", processes))
    assert found.records == expected
    assert len(list((tmp_path / "two").glob("*.jsonl"))) == 2


def test_kinds_of_answers():
    answers = {
        "B": ("letter", 1),
        "The answer is two.": ("letter", 1),
        "SELECT count(*) FROM philosophy": ("sql", None),
        "```sql\nSELECT name FROM options WHERE id = 'B'\n```": ("sql", None),
        "SELECT one FROM": ("other", None),
        "C\n\nSELECT name FROM options": ("letter", 2),
        "I cannot say.": ("other", None),
        "A or B": ("other", None),
        "": ("other", None),
    }
    options = [QUESTIONS[0].choices] * len(answers)
    assert dict(zip(answers, judge(list(answers), options))) == answers


def test_a_draw_is_the_same_each_time_and_keeps_the_order():
    drawn = draw(QUESTIONS, 4, seed=0)
    assert drawn == draw(QUESTIONS, 4, seed=0) != draw(QUESTIONS, 4, seed=1)
    assert [QUESTIONS.index(question) for question in drawn] == sorted(QUESTIONS.index(question) for question in drawn)
    assert draw(QUESTIONS, None, 0) == draw(QUESTIONS, 10, 0) == draw(QUESTIONS, 99, 0) == QUESTIONS


def test_a_draw_is_named_in_the_metrics(model, tmp_path):
    metrics = ask_in_chat(model, QUESTIONS[:4], CATEGORIES, 4, run_in(tmp_path), drawn_from=10).metrics()
    assert (metrics["total"], metrics["drawn_from"], metrics["draw_seed"]) == (4, 10, 0)
    assert json.loads(json.dumps(metrics)) == metrics


def test_a_question_that_is_too_long_is_one_line(tmp_path):
    short = LanguageModel(model_params(write_tiny_model(tmp_path / "m", max_position_embeddings=128)))
    long = Question("virology", 5, "a " * 120, ("one", "two", "three", "four"), 0)
    with pytest.raises(UserError, match="do not fit into its context of 128 tokens with 64 for the answer"):
        ask_in_chat(short, [*QUESTIONS, long], CATEGORIES, 4, run_in(tmp_path / "j"))
