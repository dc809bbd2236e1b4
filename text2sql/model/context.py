"""How many tokens a model reads at once, and what is said of prompts that are longer."""

from collections.abc import Sequence
from typing import Any

from text2sql.core.errors import UserError


def context_of(model: Any) -> int | None:
    """Return how many tokens `model` was made to read, or None if its architecture sets no limit."""
    return context_of_config(model.config)


def context_of_config(config: Any) -> int | None:
    """Return what `context_of` does, from a model's config."""
    config = config.get_text_config()
    context = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)
    rope = getattr(config, "rope_parameters", None)
    if context and isinstance(rope, dict) and rope.get("rope_type") == "yarn":
        # Qwen's way to a longer context leaves `max_position_embeddings` as it was.
        original = rope.get("original_max_position_embeddings") or context
        context = max(context, int(original * (rope.get("factor") or 1)))
    return context


def check_prompts(
    model: Any, prompts: Sequence[list[int]], new_tokens: int, change: str, what: str = "prompts"
) -> None:
    """Raise UserError unless all `prompts` (token ids) and as many `new_tokens` after each fit into the context.

    Likewise for a token without an embedding. `change` says what the user can change, `what` what the prompts are.
    """
    context = context_of(model)
    lengths = [len(prompt) for prompt in prompts]
    long = [length for length in lengths if context is not None and length + new_tokens > context]
    if long:
        raise UserError(
            f"model.base: {len(long):,} of {len(prompts):,} {what} do not fit into its context of {context:,} tokens"
            + (f" with {new_tokens:,} for the answer" if new_tokens else "")
            + f": the longest has {max(long):,}; change {change}"
        )
    check_embeddings(model, prompts)


def check_embeddings(model: Any, prompts: Sequence[list[int]]) -> None:
    """Raise UserError if a token of `prompts` has no embedding: a tokenizer that grew, without its model."""
    embeddings = model.get_input_embeddings().weight.shape[0]
    highest = max((max(prompt, default=0) for prompt in prompts), default=0)
    if highest >= embeddings:
        raise UserError(
            f"model.base: its tokenizer makes token {highest:,}, and it has embeddings for {embeddings:,}; wanted a "
            "tokenizer and weights that belong together"
        )
