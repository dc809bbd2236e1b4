"""A merged model as a GGUF file, as llama.cpp's own converter writes it: a tensor in memory at a time.

What `gguf_model` reads, the other way round: names by the library `gguf`, a Llama's queries and keys in llama.cpp's
order of rows, norms and biases in float32. K-quants are made of an f16 file by llama.cpp itself.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.model.gguf_tokenizer import tokenizer_metadata
from text2sql.model.merged_model import MergedModel
from text2sql.model.shards import require_space

ARCHITECTURES = ("llama", "qwen2")
# gguf's names of what each is written in; q4_k_m is made of f16 by llama.cpp.
WRITTEN = {"f16": "F16", "q8_0": "Q8_0", "q4_0": "Q4_0"}
_FILE_TYPES = {"f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0", "q4_0": "MOSTLY_Q4_0"}
_CHUNK_ELEMENTS = 16 * 1024**2  # of a tensor that are in float32 at a time
_ROPES = ("default", "llama3")


def check_writable(config: Any) -> None:
    """Raise UserError for an architecture or a setting of it that is not written as GGUF."""
    if config.model_type not in ARCHITECTURES:
        raise UserError(
            f"--to gguf: the architecture {config.model_type} is not written; takes {', '.join(ARCHITECTURES)}"
        )
    rope = config.rope_parameters.get("rope_type", "default")
    if rope not in _ROPES:
        raise UserError(f"--to gguf: rotary embeddings of the type {rope!r} are not written; takes {', '.join(_ROPES)}")
    if getattr(config, "use_sliding_window", False):
        raise UserError("--to gguf: a sliding window is not written; takes a model with plain attention")
    if config.model_type == "llama" and (config.attention_bias or config.mlp_bias):
        raise UserError("--to gguf: a Llama with biases is not written; takes one without")


def write_gguf(merged: MergedModel, path: Path, quantisation: str, end_id: int, name: str) -> None:
    """Write `merged` to the GGUF file `path`; `end_id` is the token that ends an answer, `name` the model's name in it.

    Matrices are in `quantisation`, one of WRITTEN. Raises UserError for what is not written, or does not fit in its
    blocks, and OSError on a full disk.
    """
    import gguf

    config = merged.config
    check_writable(config)
    kind = gguf.GGMLQuantizationType[WRITTEN[quantisation]]
    names = _names(merged)
    kinds = {name: kind if len(shape) > 1 else gguf.GGMLQuantizationType.F32 for name, shape in merged.shapes.items()}
    sizes = {name: _stored_shape(merged.shapes[name], kinds[name], quantisation) for name in names}
    require_space(path.parent, sum(math.prod(shape) for shape in sizes.values()))
    writer = gguf.GGUFWriter(path, config.model_type)
    try:
        writer.add_name(name)
        writer.add_file_type(gguf.LlamaFileType[_FILE_TYPES[quantisation]])
        _add_settings(writer, config)
        for key, value in tokenizer_metadata(merged.tokenizer, merged.shapes[_embeddings(names)][0], end_id).items():
            _add(writer, key, value)
        factors = _rope_factors(config)
        if factors is not None:
            writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
        for one, written in names.items():
            shape = sizes[one]
            if kinds[one] in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
                _add_plain(writer, written, merged.shapes[one], kinds[one])
            else:
                writer.add_tensor_info(written, shape, _uint8(), math.prod(shape), raw_dtype=kinds[one])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            writer.write_tensor_data(factors)
        for one in names:
            writer.write_tensor_data(_data(merged, one, kinds[one], sizes[one]))
    finally:
        writer.close()


def _uint8() -> Any:
    import numpy as np

    return np.dtype(np.uint8)


def _add_plain(writer: Any, name: str, shape: tuple[int, ...], kind: Any) -> None:
    import numpy as np

    dtype = np.dtype(np.float32 if kind.name == "F32" else np.float16)
    writer.add_tensor_info(name, shape, dtype, math.prod(shape) * dtype.itemsize)


def _stored_shape(shape: tuple[int, ...], kind: Any, quantisation: str) -> tuple[int, ...]:
    """Return the shape of a tensor in bytes."""
    import gguf

    block, size = gguf.GGML_QUANT_SIZES[kind]
    if shape[-1] % block:
        raise UserError(f"--quantization {quantisation}: rows of {shape[-1]} numbers do not fit its blocks; takes f16")
    return (*shape[:-1], shape[-1] // block * size)


def _names(merged: MergedModel) -> dict[str, str]:
    """Return {name in transformers: name in GGUF}, in the model's order. Raises UserError where one has none."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    (architecture,) = (key for key, name in MODEL_ARCH_NAMES.items() if name == merged.config.model_type)
    table = get_tensor_name_map(architecture, merged.config.num_hidden_layers)
    found = {}
    for name in merged.shapes:
        module, _, kind = name.rpartition(".")
        written = table.get_name(module)
        if written is None:
            raise UserError(f"--to gguf: {name} has no name in GGUF; takes --to merged")
        found[name] = f"{written}.{kind}"
    return found


def _embeddings(names: Mapping[str, str]) -> str:
    return next(name for name, written in names.items() if written == "token_embd.weight")


def _add_settings(writer: Any, config: Any) -> None:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(head)
    if head * config.num_attention_heads != config.hidden_size:
        writer.add_key_length(head)
        writer.add_value_length(head)


def _rope_factors(config: Any) -> Any:
    """Return what Llama 3's rotary frequencies are divided by, one a pair of dimensions; None where they are plain."""
    if config.rope_parameters.get("rope_type", "default") != "llama3":
        return None
    import numpy as np
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    changed, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    plain = 1 / config.rope_parameters["rope_theta"] ** (torch.arange(0, head, 2, dtype=torch.float32) / head)
    return (plain / changed).numpy().astype(np.float32)


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _data(merged: MergedModel, name: str, kind: Any, stored: tuple[int, ...]) -> Any:
    """Return a tensor as the file holds it: its rows in llama.cpp's order, quantised a part at a time."""
    import gguf
    import numpy as np

    weight = merged.tensor(name)
    if merged.config.model_type == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
        config = merged.config
        heads = config.num_attention_heads if name.endswith("q_proj.weight") else config.num_key_value_heads
        weight = _interleaved(weight, heads)
    if kind.name in ("F32", "F16"):
        return weight.float().numpy().astype(np.float32 if kind.name == "F32" else np.float16, copy=False)
    rows = weight.reshape(-1, weight.shape[-1])
    result = np.empty((rows.shape[0], stored[-1]), np.uint8)
    step = max(1, _CHUNK_ELEMENTS // rows.shape[1])
    for start in range(0, len(rows), step):
        result[start : start + step] = gguf.quantize(rows[start : start + step].float().numpy(), kind)
    return result.reshape(stored)


def _interleaved(weight: Any, heads: int) -> Any:
    """Return the rows of a query's or key's matrix in llama.cpp's order: each head's two halves are interleaved.

    `permute` of llama.cpp's convert_hf_to_gguf.py.
    """
    return weight.reshape(heads, 2, -1, weight.shape[-1]).transpose(1, 2).reshape(weight.shape).contiguous()
