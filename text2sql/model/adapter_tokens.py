"""The tokens that an adapter adds to its base: its own tokenizer, and embeddings that grow to fit it."""

from pathlib import Path
from typing import Any

from text2sql.core.files import read_object

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")


def fit_tokens(base: Any, tokenizer: Any, adapter: Path, weights: Path, other_base: bool = False) -> Any:
    """Return the tokenizer that the adapter was trained with, and resize the embeddings of `base` to the adapter's.

    Raises ValueError if the adapter's tokenizer gives the base's tokens other ids, unless `other_base`, or if a token
    has an embedding neither in the base nor in the file `weights`, or an embedding there has no token.
    """
    own = adapter_tokenizer(tokenizer, adapter, other_base)
    layers = _embedding_layers(base)
    before = min(layer.weight.shape[0] for layer in layers.values())
    saved, learned = _saved_rows(weights, layers), _trained_tokens(adapter)
    after = max([*saved.values(), *(index + 1 for index in learned)] or [before])
    if after > before and not has_tokenizer(adapter):
        raise ValueError(f"it holds embeddings for {after - before} tokens more than the base, and no tokenizer")
    tied = len({id(layer.weight) for layer in layers.values()}) == 1
    whole = len(saved) == len(layers) or (bool(saved) and tied)
    known = after if whole or (tied and learned.issuperset(range(before, after))) else before
    new = set() if own is tokenizer else set(own.get_vocab().items()) - set(tokenizer.get_vocab().items())
    without = [token for token, index in new if index >= known] or [f"id {known}"] * (after > known)
    if without:
        raise ValueError(f"neither it nor the base holds an embedding for each token that it adds ({min(without)!r})")
    if after > before or (whole and after < before):
        base.resize_token_embeddings(after, mean_resizing=False)
    return own


def has_tokenizer(adapter: Path) -> bool:
    """Whether the folder `adapter` has a tokenizer of its own."""
    return any((adapter / name).is_file() for name in TOKENIZER_FILES)


def adapter_tokenizer(tokenizer: Any, adapter: Path, other_base: bool = False) -> Any:
    """Return the tokenizer in the folder `adapter` where it differs from `tokenizer`, which is returned otherwise.

    Raises ValueError if it gives the base's tokens other ids, unless `other_base`.
    """
    if not has_tokenizer(adapter):
        return tokenizer
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(str(adapter), trust_remote_code=False)
    vocabulary, known = own.get_vocab(), tokenizer.get_vocab()
    if vocabulary == known and own.chat_template in (None, tokenizer.chat_template):
        return tokenizer
    moved = [token for token, index in known.items() if vocabulary.get(token) != index]
    if moved and not other_base:
        raise ValueError(f"its tokenizer is another: {len(moved)} of the base's tokens have other ids ({moved[0]!r})")
    if own.chat_template is None:
        own.chat_template = tokenizer.chat_template
    if own.pad_token_id is None:
        own.pad_token = own.eos_token
    return own


def _embedding_layers(base: Any) -> dict[str, Any]:
    """Return the embedding layers of `base` by their names: the input's, and the output's if there is one."""
    ends = [layer for layer in (base.get_input_embeddings(), base.get_output_embeddings()) if layer is not None]
    return {name: module for name, module in base.named_modules() if any(module is layer for layer in ends)}


def _saved_rows(weights: Path, layers: dict[str, Any]) -> dict[str, int]:
    """Return the number of rows of each embedding layer that the file `weights` holds whole."""
    from safetensors import safe_open

    found = {}
    with safe_open(weights, framework="np") as file:
        names = set(file.keys())
        for layer in layers:
            for name in (f"base_model.model.{layer}.weight", f"base_model.model.{layer}.base_layer.weight"):
                if name in names:
                    found[layer] = file.get_slice(name).get_shape()[0]
    return found


def _trained_tokens(adapter: Path) -> set[int]:
    """Return the ids of the tokens whose embeddings the adapter holds one by one."""
    indices = read_object(adapter / "adapter_config.json", {}).get("trainable_token_indices") or []
    lists = indices.values() if isinstance(indices, dict) else [indices]
    return {index for tokens in lists for index in tokens}
