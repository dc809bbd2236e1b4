"""The chat template: one text on any day, and what it puts around an answer."""

import pytest

from text2sql.core.errors import UserError
from text2sql.prompts.chat import assistant_turn, chat_text, check_variables

HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def tokenizer(micro_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(micro_model)


def test_a_date_in_the_template_is_pinned(tokenizer):
    tokenizer.chat_template = (
        "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "Today Date: {{ date_string }}\n{{ messages[0]['content'] }}"
    )
    assert chat_text(tokenizer, HI, False) == "Today Date: 26 Jul 2024\nHi"
    assert chat_text(tokenizer, HI, False, {"date_string": "1 May 2026"}) == "Today Date: 1 May 2026\nHi"


def test_the_clock_that_a_template_sees_stands_still(tokenizer):
    tokenizer.chat_template = "Today is {{ strftime_now('%d %B %Y, %H:%M') }}.{{ messages[0]['content'] }}"
    assert chat_text(tokenizer, HI, True) == "Today is 26 July 2024, 00:00.Hi"


# As Qwen3's: thinking is left out by an empty block, which the template writes where it is told to.
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)


def test_variables_reach_the_template_and_one_that_it_does_not_have_is_named(tokenizer):
    tokenizer.chat_template = THINKING
    without = {"enable_thinking": False}
    assert chat_text(tokenizer, HI, True).endswith("assistant\n")
    assert chat_text(tokenizer, HI, True, without).endswith("assistant\n<think>\n\n</think>\n\n")
    check_variables(tokenizer, without)
    with pytest.raises(UserError, match="prompt.template.enable_thinkin: the chat template of model.base has no such"):
        check_variables(tokenizer, {"enable_thinkin": False})
    for variables in ({}, without):
        turn = assistant_turn(tokenizer, variables)
        assert (turn.before, turn.after, turn.end) == ("", "", "<|im_end|>")


@pytest.mark.parametrize(
    ("template", "turn"),
    [
        # Llama 2 Chat's way, and DeepSeek Coder's.
        (
            "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}"
            "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}",
            (" ", " ", "<|im_end|>"),
        ),
        (
            "{% for m in messages %}"
            "{% if m['role'] == 'user' %}{{ '### Instruction:\n' + m['content'] + '\n' }}{% else %}"
            "{{ '### Response:\n' + m['content'] + '\n<|endoftext|>\n' }}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}{{ '### Response:' }}{% endif %}",
            ("\n", "\n", "<|endoftext|>"),
        ),
    ],
    ids=["space", "line-end"],
)
def test_white_space_around_an_answer_belongs_to_the_turn(tokenizer, template, turn):
    tokenizer.chat_template = template
    found = assistant_turn(tokenizer)
    assert (found.before, found.after, found.end) == turn
    assert tokenizer.convert_tokens_to_ids(found.end) == found.end_id
    asked = chat_text(tokenizer, HI, True) + found.completion("SELECT 1")
    assert chat_text(tokenizer, [*HI, {"role": "assistant", "content": "SELECT 1"}], False).startswith(asked)


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m['content'] }}\n{% endfor %}",
        # GLM's way: the next turn's start ends a turn.
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}{% endfor %}",
        "{% for m in messages %}{{ m['content'] + '</s>' }}{% endfor %}",
        "{% for m in messages %}{{ m['role'] }}<|im_end|>{% endfor %}",
    ],
    ids=["line", "next-turn", "no-special-token", "no-answer"],
)
def test_a_turn_without_an_end_token_is_refused(tokenizer, template):
    tokenizer.chat_template = template
    with pytest.raises(UserError, match="ends an assistant's turn without a special token"):
        assistant_turn(tokenizer)


def test_a_template_that_refuses_the_messages_is_one_line(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('wanted a system prompt') }}"
    with pytest.raises(UserError, match="model.base: its chat template fails: wanted a system prompt"):
        chat_text(tokenizer, HI, True)
