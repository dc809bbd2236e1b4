"""The bytes that each token of a tokenizer stands for.

Read from the tokenizer's own parts: llguidance takes the tokens of one whose decoder is a sequence that ends in
ByteLevel, as SmolLM2's is when it comes from a GGUF file, for text as they are written (`Ġname`).
"""

import json
import re
from collections.abc import Callable
from typing import Any

from text2sql.core.errors import UserError

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Vocabulary:
    """A tokenizer as llguidance takes one: by duck typing, under these names.

    A model's surplus logits, of no token, are control tokens: never allowed.
    """

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(
        self, tokens: list[bytes], control: list[int], end_id: int, size: int, encode: Callable[[str], list[int]]
    ) -> None:
        """`tokens` are bytes by id, `size` is the number of logits, `end_id` the token that ends an answer."""
        surplus = range(len(tokens), size)
        self.eos_token_id = end_id
        self.tokens = tokens + [f"<|surplus_{number}|>".encode() for number in surplus]
        self.special_token_ids = sorted({*control, end_id, *surplus})
        self._encode = encode

    @classmethod
    def of(cls, tokenizer: Any, size: int, end_id: int) -> "Vocabulary":
        """Return the vocabulary of a tokenizer. Raises UserError for one that has no fast form."""
        tokens, control = token_bytes(tokenizer)
        return cls(tokens, control, end_id, size, lambda text: tokenizer.encode(text, add_special_tokens=False))

    def __call__(self, text: str) -> list[int]:
        return self._encode(text)


def token_bytes(tokenizer: Any) -> tuple[list[bytes], list[int]]:
    """Return the bytes of each token, by its id, and the ids of control tokens, which are no text.

    Raises UserError for a tokenizer that has no fast form.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError("generation.grammar: takes a base with a fast tokenizer (tokenizer.json), this has none")
    decoder = json.loads(backend.decoder.__getstate__()) if backend.decoder else None
    is_byte_level = "ByteLevel" in {part["type"] for part in _decoders(decoder)}
    found = [b""] * len(tokenizer)
    for text, number in tokenizer.get_vocab().items():
        found[number] = _of_byte_level(text) if is_byte_level else _of_pieces(text)
    control = []
    for number, token in tokenizer.added_tokens_decoder.items():
        found[number] = token.content.encode()
        if token.special:
            control.append(number)
    return found, control


def _decoders(decoder: dict | None) -> list[dict]:
    return (decoder or {}).get("decoders", [decoder] if decoder else [])


def _byte_of_char() -> dict[int, int]:
    """Return GPT-2's alphabet: printable bytes stand for themselves, the others for characters from 256 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: byte for byte in plain} | {256 + place: byte for place, byte in enumerate(others)}


_BYTES = _byte_of_char()


def _of_byte_level(text: str) -> bytes:
    try:
        return text.translate(_BYTES).encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def _of_pieces(text: str) -> bytes:
    """Return the bytes of one of SentencePiece's tokens: a space is written as U+2581, a lone byte as `<0x0A>`."""
    byte = _BYTE.fullmatch(text)
    return bytes([int(byte[1], 16)]) if byte else text.replace("\u2581", " ").encode()
