"""`prompt.json`: what a client sends is what was evaluated."""

import contextlib
import json
import sqlite3
from dataclasses import replace

import pytest

from testkit.train_once import model_params
from text2sql.core.errors import UserError
from text2sql.data.schema import Column, Schema, Table, schema_from_sqlite
from text2sql.model.chat_tokens import ChatTokens
from text2sql.prompts.chat import default_system
from text2sql.prompts.messages import load_few_shot, spider_messages
from text2sql.prompts.prompt_file import PromptFile, read_prompt_file
from text2sql.prompts.rich import RichSchemas

SCHEMA = Schema("shop", (Table("order", (Column("id", "INTEGER"), Column("total", "REAL")), ("id",)),))


@pytest.fixture(scope="module")
def tokens(micro_model):
    return ChatTokens.of(model_params(micro_model), None)


def prompt_file(tokens, form="ddl", few_shot=()):
    end = tokens.tokenizer.convert_ids_to_tokens(tokens.end_id)
    return PromptFile(default_system(tokens.tokenizer), form, few_shot, {}, "standard", 64, end, tokens.end_id)


@pytest.mark.parametrize("form", ["none", "name", "tables", "ddl"])
@pytest.mark.parametrize("shots", [0, 2])
def test_its_messages_are_the_evaluated_tokens_once_written_and_read(tokens, repository, tmp_path, form, shots):
    few_shot = load_few_shot(repository / "data/few_shot.json", shots)
    made = prompt_file(tokens, form, few_shot)
    made.write(tmp_path, tokens.chat_text(made.example), tokens.chat_ids(made.example))
    read = read_prompt_file(tmp_path)
    assert read == PromptFile(**{**made.__dict__, "few_shot": list(few_shot)})
    evaluated = tokens.chat_ids(spider_messages("How many?", SCHEMA, form, few_shot))
    assert tokens.chat_ids(read.messages("How many?", SCHEMA)) == evaluated
    system, user = read.messages("How many?", SCHEMA)
    assert system["role"] == "system" and "SmolLM" in system["content"]
    # A program without this project's code puts question and schema into the template.
    content = json.loads((tmp_path / "prompt.json").read_text())
    shown = content["example"]
    filled = content["user"]["template"].replace("{schema}", shown["schema"]).replace("{question}", shown["question"])
    assert filled == shown["messages"][-1]["content"]
    assert tokens.tokenizer(shown["text"], add_special_tokens=False)["input_ids"] == shown["ids"]


@pytest.mark.parametrize("shots", [0, 2])
def test_with_rich_schemas_a_client_that_has_the_database_sends_what_was_evaluated(tokens, repository, tmp_path, shots):
    database = tmp_path / "shop.sqlite"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.executescript(
            "CREATE TABLE 'order' (id INTEGER PRIMARY KEY, place TEXT); INSERT INTO 'order' VALUES (1, 'Leeds');"
        )
    schema = schema_from_sqlite(database, "shop")
    few_shot = load_few_shot(repository / "data/few_shot.json", shots)
    made = replace(prompt_file(tokens, "rich", few_shot), schema_tokens=60)
    assert _written(made, tokens, tmp_path)["user"]["schema_tokens"] == 60
    read = read_prompt_file(tmp_path)
    evaluated = spider_messages("Who is in Leeds?", schema, "rich", few_shot, rich=RichSchemas(lambda _: database, 60))
    sent = read.messages("Who is in Leeds?", schema, read.rich(lambda _: database))
    assert sent[-1] == evaluated[0] and "Values: \"order\".place = 'Leeds'" in sent[-1]["content"]
    assert "schema_tokens" not in _written(prompt_file(tokens), tokens, tmp_path)["user"]


def _written(prompt, tokens, folder):
    prompt.write(folder, tokens.chat_text(prompt.example), tokens.chat_ids(prompt.example))
    return json.loads((folder / "prompt.json").read_text())


def test_a_request_is_greedy_and_ends_where_the_answers_did(tokens):
    request = prompt_file(tokens).request("How many?", SCHEMA)
    assert (request["temperature"], request["stop"], request["max_tokens"]) == (0, ["<|im_end|>"], 64)
    assert "chat_template_kwargs" not in request


def test_a_template_that_adds_no_system_text_gets_none(tokens):
    plain = ChatTokens.of(model_params(tokens.tokenizer.name_or_path), None)
    plain.tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['content'] + '<|im_end|>' }}{% endfor %}"
    )
    assert default_system(plain.tokenizer) is None
    plain.tokenizer.chat_template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}x"
    assert default_system(plain.tokenizer) is None
    trimmed = (
        "{% if messages[0]['role'] == 'system' %}S{{ messages[0]['content'] | upper }}{% else %}Sbe kind{% endif %}|"
    )
    plain.tokenizer.chat_template = trimmed  # a message of its own would come out otherwise
    assert default_system(plain.tokenizer) is None


def test_a_folder_without_it_and_a_damaged_one_are_one_line(tokens, tmp_path):
    with pytest.raises(UserError, match="has no prompt.json; wanted a folder that `text2sql export` wrote"):
        read_prompt_file(tmp_path)
    prompt_file(tokens).write(tmp_path, "", [])
    content = json.loads((tmp_path / "prompt.json").read_text())
    del content["end_token"]["id"]
    (tmp_path / "prompt.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"prompt.json: damaged: 'id'; export again"):
        read_prompt_file(tmp_path)
