"""Greedy answers to chat prompts, as text, with what the template opened."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from text2sql.core.errors import UserError
from text2sql.data.schema import Schema
from text2sql.model.language_model import LanguageModel
from text2sql.prompts.answers import reasoning_opened_by

_LAST_TOKENS = 32  # of a prompt, which hold what opens a reasoning


@dataclass(frozen=True)
class Generated:
    """A model's answer: its text, its number of tokens (the end token included), and whether it came to its end.

    The text begins with what the template opened: `<think>` where the prompt ends with it.
    """

    raw: str
    new_tokens: int
    ended: bool


def generate_answers(
    model: LanguageModel, prompts: list[list[int]], max_new_tokens: int, schemas: Sequence[Schema] | None = None
) -> list[Generated]:
    """Return the answer to each of `prompts` (token ids), asked as one batch; with `schemas`, a query over each."""
    held = {} if schemas is None else {"schemas": schemas}
    outputs = model.generate(prompts, max_new_tokens, **held)
    return [
        Generated(opened_by(model.tokenizer, prompt) + model.decode(output), len(output), model.has_ended(output))
        for prompt, output in zip(prompts, outputs, strict=True)
    ]


def check_no_reasoning(model: LanguageModel, prompts: Sequence[Sequence[int]]) -> None:
    """Raise UserError where the chat template opens a reasoning: a query in it would not be read as the answer."""
    for prompt in prompts[:1]:
        if opened := opened_by(model.tokenizer, prompt):
            raise UserError(
                f"generation.grammar: this base's chat template begins the answer with {opened.strip()}, amid which no "
                "query may stand; turn that off in prompt.template, or set generation.grammar to false"
            )


def opened_by(tokenizer: Any, prompt: Sequence[int]) -> str:
    """Return the reasoning that the template opened, so that a kept answer tells it from what follows."""
    return reasoning_opened_by(tokenizer.decode(prompt[-_LAST_TOKENS:]))
