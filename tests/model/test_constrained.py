"""Constrained decoding: what a model may answer about a schema, and that it changes nothing else."""

import re
import sqlite3

import pytest

from testkit.train_once import model_params
from text2sql.core.errors import UserError
from text2sql.data.schema import Column, Schema, Table, schema_from_sqlite
from text2sql.model.language_model import LanguageModel
from text2sql.model.streams import Sampling, stream
from text2sql.prompts.answers import extract_sql

TABLES = """
    CREATE TABLE student (StuID INTEGER PRIMARY KEY, fname TEXT, age INTEGER);
    CREATE TABLE has_pet (StuID INTEGER, PetID INTEGER);
    CREATE TABLE pets (PetID INTEGER PRIMARY KEY, PetType TEXT, weight REAL);
"""
# What a model has learnt to answer: the first are queries over the tables above.
RIGHT = {
    "How many students are there?": "SELECT count(*) FROM student",
    "What is the average age?": "SELECT avg(age) FROM student WHERE fname != 'Hi' AND age > 10",
    "Who has a dog?": "SELECT T1.fname FROM student AS T1 JOIN has_pet AS T2 ON T1.StuID = T2.StuID",
    "What weighs most?": "```sql\nSELECT PetType FROM pets ORDER BY weight DESC LIMIT 1;\n```",
    "Who has a pet?": 'SELECT fname FROM student WHERE StuID IN (SELECT StuID FROM has_pet) AND fname = "x"',
}
WRONG = {
    "Which pets are there?": "SELECT PetType FROM has_pet",
    "How old are they?": "SELECT T1.age FROM student AS T1 JOIN pets AS T2 ON T1.StuID = T2.StuID",
    "Hi": "Hello! SELECT count(*) FROM student",
    "Count the dogs.": "SELECT count(*) FROM dogs",
}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    path = tmp_path_factory.mktemp("constrained") / "pets.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(TABLES)
    return path


@pytest.fixture(scope="module")
def schema(database):
    return schema_from_sqlite(database, "pets")


def chat(model, questions):
    return [model.chat_ids([{"role": "user", "content": question}]) for question in questions]


@pytest.fixture(scope="module")
def trained(micro_model):
    """The micro model after some hundred steps on the answers above, so that it gives them word for word."""
    import torch

    model = LanguageModel(model_params(micro_model))
    pairs = {**RIGHT, **WRONG}
    prompts = chat(model, pairs)
    answers = [
        [*model.tokenizer.encode(text, add_special_tokens=False), model._tokens.end_id] for text in pairs.values()
    ]
    width = max(map(len, map(list.__add__, prompts, answers)))
    rows = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    labels = ids.clone()
    for label, prompt, row in zip(labels, prompts, rows, strict=True):
        label[: len(prompt)] = label[len(row) :] = -100
    optimizer = torch.optim.AdamW(model.model.parameters(), lr=6e-3)
    for _ in range(400):
        loss = model.model(input_ids=ids, labels=labels).loss
        if loss.item() < 0.01:
            break
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def texts(model, answers):
    assert all(map(model.has_ended, answers))
    return [model.decode(answer) for answer in answers]


def runs(database, query) -> bool:
    with sqlite3.connect(database) as connection:
        try:
            connection.execute(query)
        except sqlite3.OperationalError:
            return False
    return True


def test_an_answer_that_is_accepted_is_the_same_token_by_token(trained, schema):
    prompts = chat(trained, [*RIGHT, *WRONG])
    free = trained.generate(prompts, 64)
    assert texts(trained, free) == [*RIGHT.values(), *WRONG.values()]
    held = trained.generate(prompts, 64, [schema] * len(prompts))
    assert held[: len(RIGHT)] == free[: len(RIGHT)]
    assert all(one != other for one, other in zip(held[len(RIGHT) :], free[len(RIGHT) :], strict=True))
    # Alone, too: the rows of a batch do not disturb one another.
    assert held == [trained.generate([prompt], 64, [schema])[0] for prompt in prompts]


def test_an_answer_that_is_not_becomes_a_query_over_tables_and_columns_that_are_there(trained, schema, database):
    prompts = chat(trained, WRONG)
    assert not any(runs(database, extract_sql(answer)) for answer in WRONG.values() if answer[0] == "S")
    for answer in trained.generate(prompts, 120, [schema] * len(prompts)):
        text = trained.decode(answer)
        assert text.startswith(("SELECT", "```"))
        if trained.has_ended(answer):
            assert runs(database, extract_sql(text)), text


def test_each_row_of_a_batch_is_held_to_its_own_schema(trained, schema):
    other = Schema("other", (Table("crew", (Column("captain", "TEXT"),)),))
    prompts = chat(trained, [*RIGHT, *RIGHT])
    schemas = [schema] * len(RIGHT) + [other] * len(RIGHT)
    held = trained.generate(prompts, 40, schemas)
    assert held[: len(RIGHT)] == trained.generate(prompts[: len(RIGHT)], 40)
    for answer in held[len(RIGHT) :]:
        assert not re.search(
            r"\bfrom\s+(student|has_pet|pets)\b|\.(fname|age|pettype)\b", trained.decode(answer).lower()
        )


def test_the_librarys_own_way_is_held_to_it_as_well(tmp_path, schema):
    """A sliding window's cache is not ours: transformers generates."""
    from testkit.tiny_models import write_tiny_model

    model = LanguageModel(model_params(write_tiny_model(tmp_path / "mistral", "mistral")))
    assert model._prefill is None
    prompts = chat(model, RIGHT)
    for answer in model.generate(prompts, 12, [schema] * len(prompts)):
        assert model.decode(answer).strip().lower().startswith(("select", "```"))


def test_samples_are_held_to_it_and_their_log_likelihoods_are_the_models_own(trained, schema, database):
    """At a temperature at which many a free sample is none."""
    import torch

    sampling = Sampling(temperature=1.5, top_p=1.0, seed=0)
    prompts = [prompt for prompt in chat(trained, [*RIGHT, *WRONG]) for _ in range(2)]
    streams = [stream(0, place, 0) for place in range(len(prompts))]
    free = trained.sample(prompts, streams, sampling, 60)
    held = trained.sample(prompts, streams, sampling, 60, [schema] * len(prompts))
    assert held == trained.sample(prompts, streams, sampling, 60, [schema] * len(prompts)) != free
    ended = 0
    for prompt, answer in zip(prompts, held, strict=True):
        if trained.has_ended(answer.ids):
            ended += 1
            assert runs(database, extract_sql(trained.decode(answer.ids))), trained.decode(answer.ids)
        with torch.inference_mode():
            logits = trained.model(torch.tensor([prompt + answer.ids])).logits[0, len(prompt) - 1 : -1]
        likelihoods = torch.log_softmax(logits.double(), dim=-1)[range(len(answer.ids)), answer.ids]
        assert answer.log_likelihood == pytest.approx(likelihoods.sum().item(), abs=1e-2)
    assert ended


def test_bytes_of_tokens_are_those_of_the_text(trained):
    from text2sql.model.token_bytes import token_bytes

    found, control = token_bytes(trained.tokenizer)
    for text in ("SELECT name FROM  t\nWHERE x = 'a'", "```sql\n", "été 日本語 \U0001f600"):
        ids = trained.tokenizer.encode(text, add_special_tokens=False)
        assert b"".join(found[token] for token in ids) == text.encode()
    assert trained._tokens.end_id in control


def test_a_database_without_tables_is_refused_in_one_line(trained):
    with pytest.raises(UserError, match="no tables to ask about"):
        trained.generate(chat(trained, ["Hi"]), 4, [Schema("empty", ())])
