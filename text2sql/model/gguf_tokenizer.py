"""A tokenizer of Hugging Face's as the metadata of a GGUF file: what `gguf_model` reads, the other way round."""

import json
from typing import Any

from text2sql.core.errors import UserError

# Kinds of tokens in `tokenizer.ggml.token_type`.
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
# How a text is split before the byte pairs are merged, by llama.cpp's name, and what of a tokenizer shows it: the
# pattern of a `Split`, or which other parts there are. llama.cpp's source: llama-vocab.cpp.
_QWEN_2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA_3 = _QWEN_2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_PATTERNS = {_QWEN_2: "qwen2", _LLAMA_3: "llama-bpe"}


def tokenizer_metadata(tokenizer: Any, embeddings: int, end_id: int) -> dict[str, Any]:
    """Return the keys `tokenizer.…` of a GGUF file of a model with so many `embeddings`.

    Its end token is `end_id`, where the chat template ends an answer, whatever the tokenizer names. Raises UserError
    for a tokenizer that is not of byte pairs, or splits texts in no way that llama.cpp has.
    """
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    if content["model"]["type"] != "BPE" or "Ġ" not in "".join(content["model"]["vocab"]):
        raise UserError("--to gguf: the tokenizer is not of byte pairs (GPT-2's kind), which alone is written")
    added = {token["id"]: token for token in content["added_tokens"]}
    vocabulary = {index: token for token, index in tokenizer.get_vocab().items()}
    tokens, kinds = [], []
    for index in range(max(embeddings, max(vocabulary) + 1)):
        tokens.append(vocabulary.get(index, f"[PAD{index}]"))
        if index not in vocabulary:
            kinds.append(_UNUSED)
        else:
            kinds.append(_NORMAL if index not in added else _CONTROL if added[index]["special"] else _USER_DEFINED)
    bos, pad = tokenizer.bos_token_id, tokenizer.pad_token_id
    before = tokenizer("Answer:")["input_ids"]
    values = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _split(content["pre_tokenizer"]),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [
            merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]
        ],
        "tokenizer.ggml.bos_token_id": bos,
        "tokenizer.ggml.eos_token_id": end_id,
        "tokenizer.ggml.padding_token_id": pad,
        "tokenizer.ggml.add_bos_token": bos is not None and before[:1] == [bos],
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.chat_template": tokenizer.get_chat_template(),
    }
    return {key: value for key, value in values.items() if value is not None}


def _split(found: dict[str, Any] | None) -> str:
    """Return llama.cpp's name for how a tokenizer splits a text."""
    parts = found["pretokenizers"] if found and found["type"] == "Sequence" else [found] if found else []
    kinds = [part["type"] for part in parts]
    by_words = [part.get("use_regex") for part in parts if part["type"] == "ByteLevel"]
    plain = not any(part.get("add_prefix_space") for part in parts)
    if plain and kinds == ["ByteLevel"] and by_words == [True]:
        return "gpt-2"
    if plain and kinds == ["Digits", "ByteLevel"] and by_words == [True] and parts[0].get("individual_digits"):
        return "smollm"
    if plain and kinds == ["Split", "ByteLevel"] and by_words == [False]:
        name = _PATTERNS.get(parts[0]["pattern"].get("Regex"))
        if name and parts[0]["behavior"] == "Isolated" and not parts[0]["invert"]:
            return name
    raise UserError("--to gguf: the tokenizer splits texts in a way that llama.cpp has no name for; takes --to merged")
