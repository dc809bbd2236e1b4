"""A verifier's log-odds of real (micro) models, for answers that run on a real database."""

import contextlib
import sqlite3

import pytest

from testkit.tiny_models import write_tiny_model
from testkit.train_once import model_params
from text2sql.core.dependencies import Key
from text2sql.core.errors import UserError
from text2sql.core.journal import Journal
from text2sql.core.processes import Processes
from text2sql.evaluation.batching import JournaledRun
from text2sql.evaluation.verifier import check_other_databases, judge, judgings
from text2sql.execution.executor import Limits
from text2sql.model.language_model import LanguageModel
from text2sql.prompts.verifier import VerifierPrompt

PROMPT = VerifierPrompt({}, "none")
EXAMPLES = [
    {"index": 3, "db_id": "zoo", "question": "Which dogs are there?"},
    {"index": 5, "db_id": "zoo", "question": "How many?"},
]
ANSWERS = {
    3: ["SELECT name FROM dog", "SELECT nothing FROM dog", "SELECT name FROM dog", "SELECT name FROM dog WHERE 0"],
    5: ["SELECT count(*) FROM dog"],
}
ALONE = Processes()


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    path = tmp_path_factory.mktemp("verifier") / "zoo.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE dog (name TEXT)")
        connection.executemany("INSERT INTO dog VALUES (?)", [("Rex",), ("Bo",)])
        connection.commit()
    return judgings(EXAMPLES, ANSWERS, PROMPT, lambda db_id: path, Limits())


@pytest.fixture(scope="module")
def model(micro_model):
    return LanguageModel(model_params(micro_model))


def judged(model, asked, folder, batch_size=2, processes=ALONE, name="judge"):
    run = JournaledRun(Journal(name, Key.of({}), processes.index, folder), name, processes)
    return judge(model, asked, EXAMPLES, batch_size, run)


def test_what_runs_is_asked_about_once_and_with_its_rows(asked):
    assert [(one.place, one.sql) for one in asked] == [
        (0, "SELECT name FROM dog"),
        (0, "SELECT name FROM dog WHERE 0"),
        (1, "SELECT count(*) FROM dog"),
    ]
    assert "Result, 2 rows:\nname\nRex\nBo" in asked[0].messages[0]["content"]
    assert "Result, 0 rows:" in asked[1].messages[0]["content"]


def test_log_odds_are_those_of_the_turns_first_token_in_any_batch(model, asked, tmp_path):
    import torch

    lines = judged(model, asked, tmp_path / "two")
    assert [(line["index"], line["db_id"]) for line in lines] == [(3, "zoo"), (5, "zoo")]
    found = [one for line in lines for one in line["judged"]]
    assert [one["sql"] for one in found] == [one.sql for one in asked]
    tokenizer = model.tokenizer
    yes, no = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("Yes", "No"))
    for one, reference in zip(found, asked, strict=True):
        with torch.inference_mode():
            logits = model.model(torch.tensor([model.chat_ids(reference.messages)])).logits[0, -1]
        assert one["log_odds"] == pytest.approx((logits[yes] - logits[no]).item(), abs=2e-4)
    assert judged(model, asked, tmp_path / "one", batch_size=1) == lines
    assert judged(model, asked, tmp_path / "all", batch_size=64) == lines


def test_what_was_judged_is_not_judged_again_and_processes_share(model, asked, tmp_path, monkeypatch):
    lines = judged(model, asked, tmp_path / "alone", batch_size=1)
    shared = tmp_path / "shared"
    assert judged(model, asked, shared, 1, Processes(1, 2)) is None
    calls = []
    begin = model.begin_answer_log_likelihoods
    monkeypatch.setattr(
        model, "begin_answer_log_likelihoods", lambda prompts, words: calls.append(1) or begin(prompts, words)
    )
    assert judged(model, asked, shared, batch_size=1) == lines
    assert 0 < len(calls) < len(asked)


def test_an_answer_whose_prompt_does_not_fit_has_no_log_odds(asked, tmp_path):
    short = LanguageModel(model_params(write_tiny_model(tmp_path / "m", max_position_embeddings=76)))
    lengths = [len(short.chat_ids(one.messages)) for one in asked]
    assert min(lengths) <= 76 < max(lengths)
    found = [one["log_odds"] for line in judged(short, asked, tmp_path / "j") for one in line["judged"]]
    assert [odds is None for odds in found] == [length > 76 for length in lengths]


def test_a_verifier_is_not_asked_about_databases_that_it_was_trained_on():
    check_other_databases("v1", ["farm", "sea"], ["zoo", "park"])
    with pytest.raises(UserError) as error:
        check_other_databases("v1", ["farm", "zoo"], ["zoo", "park", "zoo"])
    assert "verifier v1: was trained on 1 of the databases that it shall judge answers about: zoo" in str(error.value)
