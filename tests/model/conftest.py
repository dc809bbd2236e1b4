"""The micro model loaded, and prompts for it."""

import pytest

from testkit.train_once import model_params
from text2sql.model.language_model import LanguageModel

QUESTIONS = [
    "How many singers are there?",
    "List the names of all ferries built after 2010, newest first.",
    "Which departments have more than ten employees and a budget above the average of all departments?",
    "Hi",
    "What is the average age?",
    "Show the title of every film that no cinema has shown.",
    "Count the dogs.",
]
OPTIONS = (" A", " B", " C", " D")


@pytest.fixture(scope="module")
def model(micro_model):
    return LanguageModel(model_params(micro_model))


@pytest.fixture(scope="module")
def prompts(model):
    instruction = "Translate the question into one SQL query for SQLite. Answer with the query alone.\n\n"
    return [model.chat_ids([{"role": "user", "content": instruction + question}]) for question in QUESTIONS]
