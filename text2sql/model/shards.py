"""Weights as safetensors in shards, of which one is in memory at a time."""

import errno
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from text2sql.core.files import write_json

SHARD_BYTES = 512 * 1024**2
INDEX = "model.safetensors.index.json"


def write_shards(
    folder: Path, shapes: Mapping[str, Sequence[int]], element_bytes: int, tensor_of: Callable[[str], Any]
) -> None:
    """Write the tensors that `shapes` names to `folder`, in shards of at most SHARD_BYTES (or of one tensor).

    `tensor_of` returns each when its shard is made; `element_bytes` is the size of one of its numbers. Raises OSError
    where the disk has no room for them: the library's own error, in the middle, is of another kind.
    """
    from safetensors.torch import save_file

    sizes = {name: element_bytes * math.prod(shape) for name, shape in shapes.items()}
    total = sum(sizes.values())
    require_space(folder, total)
    shards = list(_shards(sizes))
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        one = len(shards) == 1
        file = "model.safetensors" if one else f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file({name: tensor_of(name) for name in shard}, folder / file, {"format": "pt"})
        (folder / file).chmod(0o644)  # safetensors makes its file readable by its owner only
        weight_map |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def require_space(folder: Path, wanted: int) -> None:
    """Raise OSError unless the disk of `folder` has so many bytes free."""
    if shutil.disk_usage(folder).free < wanted:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _shards(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    shard: list[str] = []
    size = 0
    for name, wanted in sizes.items():
        if shard and size + wanted > SHARD_BYTES:
            yield shard
            shard, size = [], 0
        shard.append(name)
        size += wanted
    yield shard
