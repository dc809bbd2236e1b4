"""Chat messages in the base's own chat template: one text for training and for evaluation."""

from typing import Any

# Llama 3.2's chat template writes today's date into the prompt unless it is given one; this is the template's own.
TEMPLATE_DATE = "26 Jul 2024"


def chat_text(tokenizer: Any, messages: list[dict], add_generation_prompt: bool) -> str:
    """Return `messages` in the tokenizer's chat template, with any date in it pinned.

    The text holds all special tokens: tokenise it with `add_special_tokens=False`, or BOS comes twice.
    """
    return tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=add_generation_prompt, date_string=TEMPLATE_DATE
    )
