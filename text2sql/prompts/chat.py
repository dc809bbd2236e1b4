"""Chat messages in the base's own chat template: one text for training and for evaluation."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from jinja2 import TemplateError

from text2sql.core.errors import UserError

# What templates that write today's date get instead, or training and evaluation on two days would have two prompts:
# Llama 3.2's takes `date_string` and has this date itself, others call the clock `strftime_now`.
TEMPLATE_CLOCK = datetime(2024, 7, 26)
NO_VARIABLES: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Turn:
    """What a chat template puts around an assistant's answer, after the prompt that asks for one.

    `before` and `after` are white space, mostly none; the special token `end` (with the id `end_id`) ends the turn.
    """

    before: str
    after: str
    end: str
    end_id: int

    def completion(self, answer: str) -> str:
        """Return the text that a model shall write after the prompt to answer `answer`."""
        return f"{self.before}{answer}{self.after}{self.end}"


def chat_text(
    tokenizer: Any, messages: list[dict], add_generation_prompt: bool, variables: Mapping[str, Any] = NO_VARIABLES
) -> str:
    """Return `messages` in the tokenizer's chat template, given its `variables` and a clock that stands still.

    The text holds all special tokens: tokenise it with `add_special_tokens=False`, or BOS comes twice. Raises UserError
    if the template refuses the messages.
    """
    clock = {"date_string": TEMPLATE_CLOCK.strftime("%d %b %Y"), "strftime_now": TEMPLATE_CLOCK.strftime}
    try:
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt, **{**clock, **variables}
        )
    except TemplateError as error:
        raise UserError(f"model.base: its chat template fails: {error}") from None


def check_variables(tokenizer: Any, variables: Mapping[str, Any]) -> None:
    """Raise UserError for one of `variables` that the chat template does not name: it would have no effect."""
    template = tokenizer.get_chat_template()
    for name in variables:
        if not re.search(rf"\b{re.escape(name)}\b", template):
            raise UserError(f"prompt.template.{name}: the chat template of model.base has no such variable")


def assistant_turn(tokenizer: Any, variables: Mapping[str, Any] = NO_VARIABLES) -> Turn:
    """Return what the chat template puts around an assistant's answer.

    The end is the first special token after the answer: `<|im_end|>` for SmolLM2 and `<|eot_id|>` for Llama 3, whatever
    the tokenizer names as its EOS token. Raises UserError if no special token follows the answer.
    """
    answer = "SELECT count(*) FROM singer"
    asked = [{"role": "user", "content": "How many?"}]
    prompt = chat_text(tokenizer, asked, True, variables)
    text = chat_text(tokenizer, [*asked, {"role": "assistant", "content": answer}], False, variables)
    start = text.rfind(answer)
    tail = text[start + len(answer) :] if start >= 0 else ""
    after = tail[: len(tail) - len(tail.lstrip())]
    end_id = _special_token_at_start(tokenizer, tail[len(after) :])
    if end_id is None:
        raise UserError("model.base: its chat template ends an assistant's turn without a special token")
    before = text[len(prompt) : start] if text.startswith(prompt) else ""
    # More than white space is no part of the answer: Qwen3's template puts an empty `<think>` before it.
    return Turn(before if not before.strip() else "", after, tokenizer.convert_ids_to_tokens(end_id), end_id)


def _special_token_at_start(tokenizer: Any, text: str) -> int | None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
    # By its text, since some tokenizers put a space before the first token.
    for token in ids[:2]:
        is_special = token in tokenizer.all_special_ids or token in tokenizer.added_tokens_decoder
        if is_special and text.startswith(tokenizer.convert_ids_to_tokens(token)):
            return token
    return None


def default_system(tokenizer: Any, variables: Mapping[str, Any] = NO_VARIABLES) -> str | None:
    """Return the system text that the chat template adds where the messages have none, or None where it adds none.

    With it as a message of its own the prompt is the same, whatever a server would put in its place.
    """
    mark, asked = "SYSTEM TEXT", [{"role": "user", "content": "How many?"}]
    without = chat_text(tokenizer, asked, True, variables)
    try:
        before, found, after = chat_text(tokenizer, [_system(mark), *asked], True, variables).partition(mark)
    except UserError:
        return None  # it refuses that role
    text = without[len(before) : len(without) - len(after)]
    if not found or not text or chat_text(tokenizer, [_system(text), *asked], True, variables) != without:
        return None
    return text


def _system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}
