"""Keys and values of rows that are decoded: each row's tokens lie together from the start of a strip of its own.

There is no padding between tokens, so that a row's length says where its next token goes and what it attends to. In
half precision on a GPU, FlashAttention reads that length and no more; elsewhere a mask covers what lies behind it.
Strips have fixed addresses, as recording needs, and leaving rows out moves the others to the front.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from transformers import AttentionInterface, Cache

from text2sql.model.attention import grouped_attention

ROWS = "decoded_rows"
# PyTorch's masked attention is fastest if the number of positions is a multiple of this.
ALIGNMENT = 8


class RowCache(Cache):
    """The strips of all layers, `rows` of `capacity` tokens each, with the last `token` (rows, 1) of each row.

    `position` (rows, 1) is where that token goes, which is how many tokens the row has without it.
    """

    def __init__(self, like: Any, rows: int, capacity: int, flash: bool) -> None:
        """Make room for `rows` of `capacity` tokens, for heads and dtype of the cache `like`.

        With `flash`, attention is FlashAttention's, which `text2sql.model.packed.can_be_packed` has to allow.
        """
        super().__init__(layers=[])
        self._flash = flash
        self._tokens = rows * capacity
        self._device = like.layers[0].keys.device
        # Zeros: what a mask covers is multiplied by zero, and must be a number.
        self._strips = [
            tuple(_strip(side, self._tokens) for side in (layer.keys, layer.values)) for layer in like.layers
        ]
        self._token = torch.zeros(rows, 1, dtype=torch.long, device=self._device)
        self._position = torch.zeros(rows, 1, dtype=torch.long, device=self._device)
        self._bounds_of: dict[tuple[int, int], torch.Tensor] = {}  # kept: recordings read them
        self._rows = torch.arange(rows, device=self._device)
        self.shape(rows, capacity)

    def has_room(self, rows: int, capacity: int) -> bool:
        """Whether it can be divided into `rows` strips of `capacity` tokens."""
        return rows <= len(self._token) and rows * capacity <= self._tokens

    def shape(self, rows: int, capacity: int) -> None:
        """Divide the room into `rows` strips of `capacity` tokens each."""
        self.rows, self.capacity = rows, capacity
        self.token, self.position = self._token[:rows], self._position[:rows]
        for step in (1, capacity):
            if (rows, step) not in self._bounds_of:
                bounds = torch.arange(0, rows * step + 1, step, dtype=torch.int32, device=self._device)
                self._bounds_of[rows, step] = bounds

    def fill(self, cache: Any, mask: torch.Tensor, sources: torch.Tensor | None = None) -> None:
        """Take over the keys and values of `cache`, and empty it; `mask` (rows, positions) is 1 at tokens.

        `sources` (rows) says which of the cache's rows goes to each row; None: its own.
        """
        row, place = mask.nonzero(as_tuple=True)
        source = row if sources is None else sources[row]
        slot = (mask.cumsum(dim=1) - 1)[row, place]
        for layer, strips in zip(cache.layers, self._strips, strict=True):
            for strip, side in zip(strips, (layer.keys, layer.values), strict=True):
                self._by_row(strip)[row, :, slot] = side[source, :, place]
            layer.keys = layer.values = None  # freed layer by layer, so that memory holds most of them once
        self.position.copy_(mask.sum(dim=1, keepdim=True))

    def keep(self, rows: torch.Tensor, longest: int) -> None:
        """Leave out all but `rows` (positions, ascending), whose longest has at most `longest` tokens."""
        count = len(rows)
        for strips in self._strips:
            for side in map(self._by_row, strips):
                side[:count, :, :longest] = side[rows, :, :longest]
        self._token[:count], self._position[:count] = self.token[rows], self.position[rows]
        self.shape(count, self.capacity)

    def step(self, model: Any, longest: int) -> torch.Tensor:
        """Run `model` on the last token of each row; return the logits (rows, vocabulary) of the next one.

        No row has more than `longest` tokens then, this one included.
        """
        used = self.position.flatten() + 1
        if self._flash:
            self._used = used.int()
        else:
            longest = self.capacity if used.is_cuda else longest  # a recording's shapes are fixed
            self._longest = min(-(-longest // ALIGNMENT) * ALIGNMENT, self.capacity)
            self._seen = (torch.arange(self._longest, device=self._device) < used[:, None])[:, None, None]
        output = model(input_ids=self.token, position_ids=self.position, past_key_values=self, use_cache=True)
        self.position += 1
        return output.logits[:, -1]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append a token (rows, key heads, 1, size) to each row; return all, (rows, key heads, capacity, size)."""
        keys, values = map(self._by_row, self._strips[layer_idx])
        place = self._rows[: self.rows], slice(None), self.position.flatten()
        keys[place], values[place] = key_states[:, :, 0], value_states[:, :, 0]
        return keys, values

    def attend(
        self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """Return the attention (rows, 1, heads, size) of each row's token to its row; key and value as of `update`."""
        if not self._flash:
            key, value = (side[:, :, : self._longest] for side in (key, value))
            return grouped_attention(module, query, key, value, self._seen, scaling=scaling)[0]
        output = flash_to_used(
            query[:, :, 0],
            key.transpose(1, 2).flatten(0, 1),
            value.transpose(1, 2).flatten(0, 1),
            self._bounds_of[self.rows, 1],
            self._bounds_of[self.rows, self.capacity],
            self._used,
            self.capacity,
            scaling,
        )
        return output[:, None]

    def _by_row(self, strip: torch.Tensor) -> torch.Tensor:
        """Return a layer's keys or values as (rows, key heads, capacity, size)."""
        strip = strip[: self.rows * self.capacity]
        # FlashAttention wants a token's heads together; the masked kernel on a CPU is faster with a head's tokens.
        if self._flash:
            return strip.unflatten(0, (self.rows, self.capacity)).transpose(1, 2)
        return strip.view(self.rows, strip.shape[1], self.capacity, strip.shape[2])


def _strip(side: torch.Tensor, tokens: int) -> torch.Tensor:
    return torch.zeros(tokens, side.shape[1], side.shape[3], dtype=side.dtype, device=side.device)


def flash_to_used(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_bounds: torch.Tensor,
    bounds: torch.Tensor,
    used: torch.Tensor,
    capacity: int,
    scale: float | None,
) -> torch.Tensor:
    """Return FlashAttention (rows, heads, size) of one token a row to the first `used` (rows) tokens of its strip.

    `query` is (rows, heads, size), `key` and `value` (rows x capacity, key heads, size), with a strip from each of
    `bounds` to the next; `query_bounds` are 0, 1, 2, …. Bounds and `used` are int32.
    """
    none = 0.0, False, False  # dropout, causality (there is one token), debug mask
    attention = torch.ops.aten._flash_attention_forward
    output, *_ = attention(query, key, value, query_bounds, bounds, 1, capacity, *none, scale=scale, seqused_k=used)
    return output


_cache: ContextVar[RowCache] = ContextVar("cache")


@contextlib.contextmanager
def attending_to(model: Any, cache: RowCache) -> Iterator[None]:
    """Let `model` attend to the rows of `cache`."""
    # No mask function is registered under this name: transformers makes no mask.
    AttentionInterface.register(ROWS, row_attention)
    before, token = model.config._attn_implementation, _cache.set(cache)
    model.set_attn_implementation(ROWS)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        _cache.reset(token)


def row_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend to each row's own tokens: `query` is (rows, heads, 1, size), the others as `RowCache.update` returns."""
    return _cache.get().attend(module, query, key, value, scaling), None
