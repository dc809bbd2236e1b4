"""Prompts that are tokenised while the weights load: the same ids, and the same errors."""

import pytest

from testkit.train_once import model_params
from tests.model.conftest import OPTIONS, QUESTIONS
from text2sql.core.errors import UserError
from text2sql.model.language_model import LanguageModel

MESSAGES = [[{"role": "user", "content": question}] for question in QUESTIONS]


def test_ids_are_those_of_one_text_after_the_other(micro_model, model):
    ahead = LanguageModel(
        model_params(micro_model), texts=lambda tokens: [*map(tokens.chat_text, MESSAGES), *QUESTIONS]
    )
    assert [ahead.chat_ids(messages) for messages in MESSAGES] == [model.chat_ids(messages) for messages in MESSAGES]
    assert ahead.text_ids([*QUESTIONS, "Another"]) == model.text_ids([*QUESTIONS, "Another"])
    assert ahead.text_ids(QUESTIONS) == [ids for question in QUESTIONS for ids in model.text_ids([question])]
    prompts = [ahead.chat_ids(messages) for messages in MESSAGES]
    assert ahead.option_log_likelihoods(prompts, OPTIONS) == model.option_log_likelihoods(prompts, OPTIONS)


def test_what_is_done_to_ids_changes_no_later_ones(micro_model, model):
    ahead = LanguageModel(model_params(micro_model), texts=lambda tokens: list(map(tokens.chat_text, MESSAGES)))
    ahead.chat_ids(MESSAGES[0]).clear()
    assert ahead.chat_ids(MESSAGES[0]) == model.chat_ids(MESSAGES[0])


def test_an_error_in_the_texts_comes_where_ids_are_asked_for(micro_model):
    def texts(tokens):
        raise UserError("prompt.schema: ddl needs a schema, and the database has none")

    ahead = LanguageModel(model_params(micro_model), texts=texts)
    with pytest.raises(UserError, match="needs a schema"):
        ahead.chat_ids(MESSAGES[0])


def test_a_base_that_does_not_load_says_so_with_texts_as_without(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    said = []
    for texts in (None, lambda tokens: []):
        with pytest.raises(UserError) as found:
            LanguageModel(model_params(tmp_path), texts=texts)
        said.append(str(found.value))
    assert said[0] == said[1]
