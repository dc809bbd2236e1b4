"""Generation and logits by transformers' own `generate` and plain passes, for models whose cache we cannot handle.

`Prefill` and `decode` hold keys and values of plain attention. Sliding windows, convolutions, linear attention and
state spaces keep other things; unsloth has passes of its own.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessor, LogitsProcessorList, StaticCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, StaticLayer

from text2sql.model.attention import GROUPED
from text2sql.model.picking import GREEDY, Pick

# Layers of a cache that a mask keeps padding out of.
MASKED = {DynamicLayer, DynamicSlidingWindowLayer}


def cache_layers(model: Any) -> set[type] | None:
    """Return the types of layers in the cache that `model` makes, or None for a cache of another kind.

    Found by a pass over one token: neither config nor class tells it for all architectures.
    """
    with torch.inference_mode():
        output = model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=True)
    # Mamba calls it otherwise.
    cache = getattr(output, "past_key_values", None) or getattr(output, "cache_params", None)
    return {type(layer) for layer in cache.layers} if type(cache) is DynamicCache else None


def is_plain_attention(model: Any, layers: set[type] | None) -> bool:
    """Whether `Prefill` and `decode` can hold the cache of `model`: keys and values of all positions, nothing else."""
    # `decode` gives a mask of true and false, which eager attention would add to the scores.
    if layers != {DynamicLayer} or model.config._attn_implementation != GROUPED:
        return False
    if not {"position_ids", "logits_to_keep"} <= accepted(model):
        return False
    return {type(layer) for layer in StaticCache(config=model.config, max_cache_len=1).layers} == {StaticLayer}


class LibraryWay:
    """A model's logits and answers by the library's own code.

    `layers` are those of its cache. Attention masks padding out; where a layer keeps a state instead, which padding
    may change, prompts of one length make up a pass. A cache that the architecture has to itself is trusted with one
    prompt at a time: RWKV's mixes up the rows of a batch.
    """

    def __init__(self, model: Any, pad_id: int, layers: set[type] | None) -> None:
        self._model, self._pad_id = model, pad_id
        self._layers = layers
        self._accepted = accepted(model)

    def last_logits(self, prompts: list[list[int]]) -> torch.Tensor:
        """Return the logits (batch, vocabulary) of the last token of each of `prompts`."""
        return torch.stack(self._by_pass(self._last_logits, prompts))

    def generate(
        self, prompts: list[list[int]], max_new_tokens: int, end_ids: Sequence[int], pick: Pick = GREEDY
    ) -> list[list[int]]:
        """Return the continuation of each of `prompts`; what follows an end token is not cut off."""

        def work(ids: torch.Tensor, mask: torch.Tensor, rows: torch.Tensor) -> list[list[int]]:
            picked = [] if pick is GREEDY else [_Picked(pick.select(rows), ids.shape[1])]
            sequences = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=sorted(end_ids),
                pad_token_id=self._pad_id,
                logits_processor=LogitsProcessorList(picked),
            )
            return sequences[:, ids.shape[1] :].tolist()

        # Greedy is greedy: penalties, forced and suppressed tokens of the model's own config would change answers.
        own, self._model.generation_config = self._model.generation_config, GenerationConfig()
        try:
            return self._by_pass(work, prompts)
        finally:
            self._model.generation_config = own

    def _last_logits(self, ids: torch.Tensor, mask: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        options = {
            "attention_mask": mask,
            "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0),
            "logits_to_keep": 1,
            "use_cache": False,
        }
        options = {name: value for name, value in options.items() if name in self._accepted}
        return self._model(input_ids=ids, **options).logits[:, -1]

    def _by_pass(
        self, work: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any], prompts: list[list[int]]
    ) -> list:
        """Return the rows of `work(ids, mask, positions)` for all `prompts`, in their order."""
        passes: dict[int, list[int]] = {}
        for position, prompt in enumerate(prompts):
            passes.setdefault(self._pass_of(position, prompt), []).append(position)
        rows: dict[int, Any] = {}
        for positions in passes.values():
            ids, mask = self._padded([prompts[p] for p in positions])
            rows.update(zip(positions, work(ids, mask, torch.tensor(positions, device=ids.device)), strict=True))
        return [rows[position] for position in range(len(prompts))]

    def _pass_of(self, position: int, prompt: list[int]) -> int:
        if self._layers is None:
            return position
        return 0 if self._layers <= MASKED else len(prompt)

    def _padded(self, prompts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids and mask of `prompts`, padded on the left, each (batch, longest)."""
        width = max(map(len, prompts))
        padding = [width - len(prompt) for prompt in prompts]
        ids = [[self._pad_id] * missing + prompt for missing, prompt in zip(padding, prompts, strict=True)]
        mask = [[0] * missing + [1] * (width - missing) for missing in padding]
        return torch.tensor(ids, device=self._model.device), torch.tensor(mask, device=self._model.device)


class _Picked(LogitsProcessor):
    """Leaves the library no token but the picked one."""

    def __init__(self, pick: Pick, width: int) -> None:
        self._pick, self._width = pick, width  # of the prompts

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        position = torch.tensor([input_ids.shape[1] - self._width], device=scores.device)
        chosen = torch.full_like(scores, -torch.inf)
        return chosen.scatter_(1, self._pick(scores, position), 0.0)  # type: ignore[return-value]


def accepted(model: Any) -> set[str]:
    """Return what the forward pass takes, that of the base under an adapter."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return set(inspect.signature(base.forward).parameters)
