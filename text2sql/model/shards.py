"""Weights as safetensors in shards, written a tensor at a time."""

import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from text2sql.core.files import write_json

SHARD_BYTES = 512 * 1024**2
INDEX = "model.safetensors.index.json"
_HEADER_ALIGNMENT = 8  # bytes, as the library safetensors pads its headers
_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


def write_shards(
    folder: Path, shapes: Mapping[str, Sequence[int]], dtype: str, tensor_of: Callable[[str], Any]
) -> None:
    """Write the tensors that `shapes` names to `folder`, in shards of at most SHARD_BYTES (or of one tensor).

    `tensor_of` returns each, contiguous and in `dtype` (bfloat16, float16 or float32), when it is its turn: while one
    is made, the one before is written. Raises OSError where the disk has no room for them.
    """
    import torch

    element_bytes = getattr(torch, dtype).itemsize
    sizes = {name: element_bytes * math.prod(shape) for name, shape in shapes.items()}
    total = sum(sizes.values())
    require_space(folder, total)
    shards = list(_shards(sizes))
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        one = len(shards) == 1
        file = "model.safetensors" if one else f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write_shard(folder / file, {name: shapes[name] for name in sorted(shard)}, sizes, dtype, tensor_of)
        weight_map |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _write_shard(
    path: Path,
    shapes: Mapping[str, Sequence[int]],
    sizes: Mapping[str, int],
    dtype: str,
    tensor_of: Callable[[str], Any],
) -> None:
    """Write one file, to the byte as safetensors' `save_file` does, which wants all of its tensors in memory at once.

    The form: github.com/huggingface/safetensors#format.
    """
    import torch

    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + sizes[name]
        header[name] = {"dtype": _DTYPES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    content += b" " * (-len(content) % _HEADER_ALIGNMENT)
    with path.open("wb") as file, ThreadPoolExecutor(max_workers=1) as writer:
        written = writer.submit(file.write, len(content).to_bytes(8, "little") + content)
        for name in shapes:
            data = tensor_of(name).reshape(-1).view(torch.uint8).numpy()
            written.result()
            written = writer.submit(file.write, data)
        written.result()


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
