"""A model's answer in, the SQL in it out."""

import re

# Control tokens of the chat templates of Llama 3, SmolLM2 and Qwen (ChatML), Llama 2 and Mistral, and Gemma.
_CONTROL = re.compile(r"<\|[a-z0-9_]{1,40}\|>|</?s>|<(?:start|end)_of_turn>")
_BEGINNING = re.compile(r"\s*(?:<\|(?:begin_of_text|start_header_id|im_start)\|>|<s>|<start_of_turn>)")
_ASSISTANT = re.compile(
    r"<\|start_header_id\|>assistant<\|end_header_id\|>|<\|im_start\|>assistant\b|<start_of_turn>model\b"
)
# A language's name after the opening fence is no part of the code. The closing fence may be missing.
_FENCE = re.compile(
    r"```(?:[ \t]*(?:sqlite3?|[a-z]*sql|text|plaintext)\b)?(?P<code>.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE
)


def extract_sql(raw: str) -> str:
    """Return the SQL in a model's answer: the assistant's turn, without code fences and final semicolons.

    Where the turn holds a fenced block, the first one is taken, closed or not; else all of the turn. A
    conversational answer stays one: no SQL is searched for in it.
    """
    turn = _assistant_turn(raw)
    fence = _FENCE.search(turn)
    if fence:
        turn = fence.group("code")
    return turn.strip().rstrip(";\t\n\r ")


def _assistant_turn(raw: str) -> str:
    """Return what the assistant says first: up to its end token, after the header where `raw` holds it."""
    header = _ASSISTANT.search(raw) if _BEGINNING.match(raw) else None
    if header:
        raw = raw[header.end() :]
    end = _CONTROL.search(raw)
    return raw[: end.start()] if end else raw
