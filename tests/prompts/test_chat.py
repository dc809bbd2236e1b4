"""The chat template: one text on any day."""

from text2sql.prompts.chat import chat_text


def test_a_date_in_the_template_is_pinned(micro_model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(micro_model)
    tokenizer.chat_template = (
        "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "Today Date: {{ date_string }}\n{{ messages[0]['content'] }}"
    )
    assert chat_text(tokenizer, [{"role": "user", "content": "Hi"}], False) == "Today Date: 26 Jul 2024\nHi"
