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

    def __init__(self, like: Cache, rows: int, capacity: int, flash: bool) -> None:
        """Make room for `rows` of `capacity` tokens, for heads and dtype of the cache `like`.

        With `flash`, attention is FlashAttention's, which `text2sql.model.packed.can_be_packed` has to allow.
        """
        super().__init__(layers=[])
        self._flash = flash
        self._tokens = rows * capacity
        # Zeros: what a mask covers is multiplied by zero, and must be a number.
        self._strips = [
            tuple(_strip(side, self._tokens) for side in (layer.keys, layer.values)) for layer in like.layers
        ]
        device = self._strips[0][0].device
        self._token = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self._position = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self._bounds_of: dict[tuple[int, int], tuple[torch.Tensor, ...]] = {}  # kept: recordings read them
        self.shape(rows, capacity)

    def has_room(self, rows: int, capacity: int) -> bool:
        """Whether it can be divided into `rows` strips of `capacity` tokens."""
        return rows <= len(self._token) and rows * capacity <= self._tokens

    def shape(self, rows: int, capacity: int) -> None:
        """Divide the room into `rows` strips of `capacity` tokens each."""
        self.rows, self.capacity = rows, capacity
        self.token, self.position = self._token[:rows], self._position[:rows]
        if (rows, capacity) not in self._bounds_of:
            bounds = torch.arange(rows + 1, dtype=torch.int32, device=self.token.device)
            self._bounds_of[rows, capacity] = bounds, bounds * capacity, (bounds * capacity)[:-1].long()
        self._query_bounds, self._bounds, self._starts = self._bounds_of[rows, capacity]

    def fill(self, cache: Cache, mask: torch.Tensor) -> None:
        """Take over the keys and values of `cache`, and empty it; `mask` (rows, positions) is 1 at tokens."""
        row, place = mask.nonzero(as_tuple=True)
        slots = self._starts[row] + (mask.cumsum(dim=1) - 1)[row, place]
        for layer, strips in zip(cache.layers, self._strips, strict=True):
            for strip, side in zip(strips, (layer.keys, layer.values), strict=True):
                strip.index_copy_(0, slots, side.transpose(1, 2)[row, place])
            layer.keys = layer.values = None  # freed layer by layer, so that memory holds most of them once
        self.position.copy_(mask.sum(dim=1, keepdim=True))

    def keep(self, rows: torch.Tensor, longest: int) -> None:
        """Leave out all but `rows` (positions, ascending), whose longest has at most `longest` tokens."""
        count = len(rows)
        for strips in self._strips:
            for side in map(self._by_row, strips):
                side[:count, :longest] = side[rows, :longest]
        self._token[:count], self._position[:count] = self.token[rows], self.position[rows]
        self.shape(count, self.capacity)

    def step(self, model: Any, longest: int) -> torch.Tensor:
        """Run `model` on the last token of each row; return the logits (rows, vocabulary) of the next one.

        No row has more than `longest` tokens then, this one included.
        """
        self._slots = self._starts + self.position.flatten()
        used = self.position.flatten() + 1
        if self._flash:
            self._used = used.int()
        else:
            longest = self.capacity if used.is_cuda else longest  # a recording's shapes are fixed
            self._longest = min(-(-longest // ALIGNMENT) * ALIGNMENT, self.capacity)
            self._seen = (torch.arange(self._longest, device=used.device) < used[:, None])[:, None, None]
        output = model(input_ids=self.token, position_ids=self.position, past_key_values=self, use_cache=True)
        self.position += 1
        return output.logits[:, -1]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append a token (rows, key heads, 1, size) to each row; return all, (rows, capacity, key heads, size)."""
        keys, values = self._strips[layer_idx]
        keys.index_copy_(0, self._slots, key_states[:, :, 0])
        values.index_copy_(0, self._slots, value_states[:, :, 0])
        return self._by_row(keys), self._by_row(values)

    def attend(
        self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """Return the attention (rows, 1, heads, size) of each row's token to its row; key and value as of `update`."""
        if not self._flash:
            key, value = (side[:, : self._longest].transpose(1, 2) for side in (key, value))
            return grouped_attention(module, query, key, value, self._seen, scaling=scaling)[0]
        output, *_ = torch.ops.aten._flash_attention_forward(
            query[:, :, 0],
            key.flatten(0, 1),
            value.flatten(0, 1),
            self._query_bounds,
            self._bounds,
            1,
            self.capacity,
            0.0,
            False,
            False,
            scale=scaling,
            seqused_k=self._used,
        )
        return output[:, None]

    def _by_row(self, strip: torch.Tensor) -> torch.Tensor:
        return strip[: self.rows * self.capacity].unflatten(0, (self.rows, self.capacity))


def _strip(side: torch.Tensor, tokens: int) -> torch.Tensor:
    return torch.zeros(tokens, side.shape[1], side.shape[3], dtype=side.dtype, device=side.device)


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
    """Attend to each row's own tokens: `query` is (rows, heads, 1, size), `key` and `value` are of `RowCache.update`."""
    return _cache.get().attend(module, query, key, value, scaling), None
