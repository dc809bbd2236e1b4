"""What the loss counts: prompt and completion as token ids with labels."""

import pytest

from testkit.train_once import PAIRS, model_params
from tests.training.comparing import counted
from text2sql.core.errors import UserError
from text2sql.core.params import load_params
from text2sql.data.schema import Column, Schema, Table
from text2sql.evaluation.spider import SpiderPrompt
from text2sql.model.language_model import LanguageModel
from text2sql.prompts.chat import assistant_turn, chat_text
from text2sql.prompts.messages import load_few_shot, spider_messages
from text2sql.training.examples import IGNORED, encode, training_pairs

SCHEMA = Schema("music", (Table("singer", (Column("id", "int"), Column("name", "text")), ("id",)),), ())


def test_the_loss_counts_the_answer_and_its_end_token_in_smollm2s_template(smollm2):
    messages = spider_messages("How many singers are there?", SCHEMA, "tables")
    (example,), left_out = encode(smollm2, [(messages, "SELECT count(*) FROM singer")], 512)
    assert left_out == 0
    assert smollm2.decode(counted(example)) == "SELECT count(*) FROM singer<|im_end|>"
    text = smollm2.decode(example.input_ids)
    assert text.startswith("<|im_start|>system\n") and text.count("<|im_start|>system") == 1
    assert "singer(id, name)\nHow many singers are there?<|im_end|>\n<|im_start|>assistant\nSELECT" in text
    assert text.endswith("singer<|im_end|>")  # without the template's newline after it


def test_the_loss_counts_the_answer_and_its_end_token_in_llama_3s_template(llama3):
    (example,), _ = encode(llama3, [(spider_messages("Who?", SCHEMA, "name"), "SELECT name FROM singer")], 512)
    # The turn's end, not the tokenizer's end of text.
    assert llama3.decode(counted(example)) == "SELECT name FROM singer<|eot_id|>"
    text = llama3.decode(example.input_ids)
    assert example.input_ids.count(llama3.bos_token_id) == 1 and example.input_ids[0] == llama3.bos_token_id
    assert "Today Date: 26 Jul 2024" in text  # the same on any day
    assert text.endswith("<|start_header_id|>assistant<|end_header_id|>\n\nSELECT name FROM singer<|eot_id|>")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (
            "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}"
            "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}",
            " SELECT 1 <|im_end|>",
        ),
        (
            "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] + '\n' }}{% else %}"
            "{{ '### Response:\n' + m['content'] + '\n<|endoftext|>\n' }}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}{{ '### Response:' }}{% endif %}",
            "\nSELECT 1\n<|endoftext|>",
        ),
    ],
    ids=["space", "line-end"],
)
def test_white_space_that_a_template_puts_around_the_answer_is_learnt(smollm2, template, text):
    smollm2.chat_template = template
    asked = [{"role": "user", "content": "Who?"}]
    (example,), _ = encode(smollm2, [(asked, "SELECT 1")], 512)
    prompt = smollm2(chat_text(smollm2, asked, True), add_special_tokens=False)["input_ids"]
    assert example.input_ids == prompt + counted(example)  # the prompt is that of generation
    assert smollm2.decode(counted(example)) == text


def test_variables_of_the_template_are_those_of_generation(micro_model, smollm2):
    smollm2.chat_template = smollm2.chat_template.replace("{%", "{{ greeting if greeting is defined }}{%", 1)
    asked = [{"role": "user", "content": "Who?"}]
    (example,), _ = encode(smollm2, [(asked, "SELECT 1")], 512, {"greeting": "Good day."})
    assert smollm2.decode(example.input_ids).startswith("Good day.<|im_start|>")
    with pytest.raises(
        UserError, match="prompt.template.greetin: the chat template of model.base has no such variable"
    ):
        encode(smollm2, [(asked, "SELECT 1")], 512, {"greetin": "Good day."})


def test_the_prompt_in_training_is_that_of_evaluation(micro_model, smollm2, repository):
    params = load_params(repository / "params.yaml")
    few_shot = load_few_shot(repository / "data/few_shot.json", 1)
    record = {
        "db_id": "music",
        "conversations": [{"from": "human", "value": "How many?"}, {"from": "gpt", "value": " SELECT 1 "}],
    }
    messages, answer = training_pairs([record], {"music": SCHEMA}, params.prompt, few_shot)[0]
    assert answer == "SELECT 1"
    (example,), _ = encode(smollm2, [(messages, answer)], 2048)
    model = LanguageModel(model_params(micro_model))
    asked = model.chat_ids(spider_messages("How many?", SCHEMA, params.prompt.schema_, few_shot))
    assert example.input_ids[: len(asked)] == asked
    assert example.labels[: len(asked)] == [IGNORED] * len(asked)
    bare = params.prompt.model_copy(update={"training": "bare"})
    assert training_pairs([record], {}, bare, few_shot)[0][0] == [{"role": "user", "content": "How many?"}]
    zero_shot = params.prompt.model_copy(update={"training": "zero_shot"})
    messages = training_pairs([record], {"music": SCHEMA}, zero_shot, few_shot)[0][0]
    assert messages == spider_messages("How many?", SCHEMA, params.prompt.schema_, [])
    two = Schema("music", (*SCHEMA.tables, Table("song", (Column("id", "int"),))))
    turned = params.prompt.model_copy(update={"table_order": "reversed"})
    messages = training_pairs([record], {"music": two}, turned, few_shot)[0][0]
    assert messages == SpiderPrompt({"music": two}, turned.schema_, few_shot, order="reversed").messages(
        "How many?", "music"
    )
    assert "\nsong(id)\nsinger(id, name)\n" in messages[0]["content"]


def test_evidence_is_trained_with_only_where_it_is_asked_for(repository):
    params = load_params(repository / "params.yaml")
    record = {"db_id": "music", "evidence": "a is b", "conversations": TURNS}
    plain = {key: value for key, value in record.items() if key != "evidence"}
    for training in ("evaluation", "zero_shot", "bare"):
        prompt = params.prompt.model_copy(update={"training": training})
        shown = prompt.model_copy(update={"evidence": True})
        pairs = [
            training_pairs([line], {"music": SCHEMA}, chosen, [])[0][0][0]["content"]
            for line, chosen in ((plain, prompt), (record, prompt), (plain, shown), (record, shown))
        ]
        assert pairs[0] == pairs[1] == pairs[2] and pairs[3] == f"{pairs[0]}\nHint: a is b"


def test_examples_that_are_too_long_are_left_out_and_counted(smollm2):
    lengths = sorted(len(example.input_ids) for example in encode(smollm2, PAIRS, 512)[0])
    kept, left_out = encode(smollm2, PAIRS, lengths[2])
    assert (len(kept), left_out) == (3, 4)
    message = f"none of 7 training examples fits into 8 tokens; the shortest takes {lengths[0]}"
    with pytest.raises(UserError, match=message):
        encode(smollm2, PAIRS, 8)
    with pytest.raises(UserError, match="the train split is empty"):
        encode(smollm2, [], 512)


def test_a_template_without_an_end_token_is_refused(smollm2):
    smollm2.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    with pytest.raises(UserError, match="ends an assistant's turn without a special token"):
        assistant_turn(smollm2)


TURNS = [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "SELECT 1"}]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"db_id": "music"}, "training example 2: found None as 'conversations', wanted two turns"),
        ({"db_id": "music", "conversations": ["Who?"]}, "wanted two turns"),
        ({"db_id": "music", "conversations": TURNS[::-1]}, r"found turns from \['gpt', 'human'\]"),
        ({"db_id": "music", "conversations": TURNS[:1]}, r"found turns from \['human'\]"),
        ({"db_id": "music", "conversations": [TURNS[0], {"from": "gpt", "value": " "}]}, "found an empty turn"),
        ({"db_id": "music", "conversations": [TURNS[0], {"from": "gpt", "value": 1}]}, "found an empty turn"),
        ({"db_id": "opera", "conversations": TURNS}, "database 'opera' has no schema"),
    ],
)
def test_a_record_that_is_not_right_is_named(record, message, repository):
    prompt = load_params(repository / "params.yaml").prompt
    good = {"db_id": "music", "conversations": TURNS}
    with pytest.raises(UserError, match=message):
        training_pairs([good, record], {"music": SCHEMA}, prompt, [])
