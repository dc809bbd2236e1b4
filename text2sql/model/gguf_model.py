"""A GGUF file as a model in Hugging Face's format: bfloat16 weights, and the file's own tokenizer and template.

Each weight is what the library `gguf` dequantises, rounded to bfloat16, in the order of rows that transformers' model
of the architecture has. Two tensors are in memory at a time: the one that is made, and the one that is written. What
the file holds and this does not understand is refused: nothing is left out in silence.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.startup import quick_imports
from text2sql.model.gguf_file import GgufHeader, Tensor, read_header
from text2sql.model.shards import write_shards

# By llama.cpp's names, which are transformers' as well.
ARCHITECTURES = ("llama", "qwen2", "qwen3")
# So many elements of a tensor are dequantised at a time: their temporaries stay in a processor's cache.
CHUNK_ELEMENTS = 128 * 1024
# Kinds of tokens in `tokenizer.ggml.token_type`.
_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5
# How a text is split before the byte pairs are merged (`tokenizer.ggml.pre`), by the architectures whose converter in
# transformers splits so. Files of Llama's that name none, or SmolLM's, are read by GPT-2's rule, as the results in git
# were made: SmolLM's own would also split numbers into digits.
_LLAMA_3 = ("llama-bpe", "llama3", "llama-v3")
_PRE_TOKENIZERS = {
    "llama": ("smollm", "gpt-2", "default", *_LLAMA_3),
    "qwen2": ("qwen2", "deepseek-r1-qwen"),
    "qwen3": ("qwen2",),
}
# The rule of Llama 3's own tokenizer.json.
_LLAMA_3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# What an architecture's own keys may say besides what transformers' table reads of them.
_KEY_LENGTH, _VALUE_LENGTH, _ROTARY = "attention.key_length", "attention.value_length", "rope.dimension_count"


def write_model(gguf: Path, folder: Path) -> None:
    """Write the model in the file `gguf` to the empty folder `folder`, in Hugging Face's format.

    Raises UserError for a file that `read_header` refuses, and for an architecture, a quantisation, a vocabulary or any
    tensor or setting that is not understood.
    """
    header = read_header(gguf)
    check_supported(header)
    with quick_imports("transformers"):
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    try:
        settings = _config(header)
        config = AutoConfig.for_model(**settings)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        names = _names(header, model)
        tokenizer = _tokenizer(header, config)
    except UserError:
        raise
    except Exception as error:  # of a file whose settings contradict each other, transformers raises anything
        raise _not_understood(gguf, f"{type(error).__name__}: {' '.join(str(error).split()):.200}") from error
    shapes = {name: tensor.shape for name, tensor in names.items()}
    write_shards(folder, shapes, "bfloat16", lambda name: weights(header, names[name], settings))
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    generation = GenerationConfig.from_model_config(config)
    # A padding token of its own ends a text too, as in Qwen's own generation_config.json.
    ends = list(dict.fromkeys(end for end in (config.eos_token_id, config.pad_token_id) if end is not None))
    generation.eos_token_id = ends[0] if len(ends) == 1 else ends or None
    generation.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def check_supported(header: GgufHeader) -> None:
    """Raise UserError for an architecture, a quantisation or a vocabulary that is not read."""
    from gguf.quants import _type_traits

    path, architecture = header.path, header.architecture
    if architecture not in ARCHITECTURES:
        raise UserError(
            f"{path}: its architecture {architecture or '(none)'} is not read; takes {', '.join(ARCHITECTURES)}"
        )
    known = {"F32", "F16", *(kind.name for kind in _type_traits)}
    for tensor in header.tensors.values():
        if tensor.quantisation not in known:
            raise UserError(
                f"{path}: {tensor.name} has the quantisation {tensor.quantisation}, which is not read; takes "
                f"{', '.join(sorted(known))}"
            )
    vocabulary = header.metadata.get("tokenizer.ggml.model")
    if vocabulary != "gpt2":
        raise UserError(f"{path}: its vocabulary is of the kind {vocabulary!r}, takes 'gpt2' (byte pairs)")
    split = header.metadata.get("tokenizer.ggml.pre", _PRE_TOKENIZERS[architecture][0])
    if split not in _PRE_TOKENIZERS[architecture]:
        takes = ", ".join(map(repr, _PRE_TOKENIZERS[architecture]))
        raise UserError(f"{path}: its vocabulary splits texts by {split!r}, takes {takes}")


def _not_understood(path: Path, what: str) -> UserError:
    return UserError(f"{path}: is GGUF, but not understood: {what}; takes another conversion of the same model")


def _config(header: GgufHeader) -> dict[str, Any]:
    """Return the settings of transformers' config, by the names in its own table."""
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    architecture, metadata = header.architecture, header.metadata
    tables: Mapping[str, Any] = GGUF_CONFIG_MAPPING
    table = {**tables[architecture], _KEY_LENGTH: "head_dim", _VALUE_LENGTH: None}
    settings: dict[str, Any] = {"model_type": architecture, "_model_name_or_path": metadata.get("general.name", "")}
    for key, value in metadata.items():
        section, _, name = key.partition(".")
        if section != architecture:
            continue
        if name not in table:
            raise _not_understood(header.path, f"{key}: {value!r:.60}")
        if table[name] is not None:
            settings[table[name]] = value
    heads = {f"{architecture}.{key}" for key in (_KEY_LENGTH, _VALUE_LENGTH, _ROTARY)} & metadata.keys()
    if len({metadata[key] for key in heads}) > 1:
        raise _not_understood(header.path, f"{', '.join(sorted(heads))} are not the same")
    embedding, layers = _shape(header, "token_embd.weight"), settings.get("num_hidden_layers")
    found = {int(match[1]) for name in header.tensors if (match := re.match(r"blk\.(\d+)\.", name))}
    if found != set(range(len(found))) or layers != len(found):
        raise _not_understood(header.path, f"it names {layers} layers and holds {len(found)}")
    for key, name in tables["tokenizer"].items():
        if f"tokenizer.{key}" in metadata:
            settings[name] = metadata[f"tokenizer.{key}"]
    # llama.cpp writes the output's weights only where they are not the embedding's.
    return {**settings, "vocab_size": embedding[0], "tie_word_embeddings": "output.weight" not in header.tensors}


def _shape(header: GgufHeader, name: str) -> tuple[int, ...]:
    if name not in header.tensors:
        raise _not_understood(header.path, f"it has no {name}")
    return header.tensors[name].shape


def _names(header: GgufHeader, model: Any) -> dict[str, Tensor]:
    """Return {name in transformers: tensor of the file}, in the model's order; shapes agree, and nothing is left."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    (architecture,) = (key for key, name in MODEL_ARCH_NAMES.items() if name == header.architecture)
    names = get_tensor_name_map(architecture, model.config.num_hidden_layers)
    found = {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        module, _, kind = name.rpartition(".")
        tensor = header.tensors.get(f"{names.get_name(module)}.{kind}")
        if tensor is None or tensor.shape != tuple(weight.shape):
            has = "nothing" if tensor is None else list(tensor.shape)
            raise _not_understood(header.path, f"{name} has the shape {list(weight.shape)}, the file {has}")
        found[name] = tensor
    rest = sorted(header.tensors.keys() - {tensor.name for tensor in found.values()})
    if rest:
        raise _not_understood(header.path, f"the tensor {rest[0]}")
    return found


def weights(header: GgufHeader, tensor: Tensor, config: dict) -> Any:
    """Return a tensor of the file in bfloat16, its rows in the order of transformers' model with these settings."""
    import numpy as np
    import torch
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor

    result = torch.empty(math.prod(tensor.shape), dtype=torch.bfloat16)
    kind = GGMLQuantizationType[tensor.quantisation]
    block, block_bytes = GGML_QUANT_SIZES[kind]
    step = CHUNK_ELEMENTS // block
    with header.path.open("rb") as file:
        file.seek(tensor.start)
        for start in range(0, result.numel() // block, step):
            # As one row: `dequantize` would go through many rows in small groups, in Python.
            part = np.fromfile(file, np.uint8, min(step * block_bytes, tensor.size - start * block_bytes))
            values = torch.from_numpy(np.array(dequantize(part.reshape(1, -1), kind)))
            result[start * block : (start + step) * block] = values.flatten()
    processor = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)(config=config)
    # It moves rows alone, which it does for any elements: numpy has no bfloat16.
    moved = processor.process(weights=result.reshape(tensor.shape).view(torch.int16).numpy(), name=tensor.name)
    return torch.from_numpy(np.ascontiguousarray(moved.weights)).view(torch.bfloat16)


def _tokenizer(header: GgufHeader, config: Any) -> Any:
    """Return the tokenizer of the file: its vocabulary, special tokens, end token and template."""
    from tokenizers import AddedToken, Regex, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from transformers.integrations.ggml import GGUF_TOKENIZER_MAPPING, convert_gguf_tokenizer

    table = GGUF_TOKENIZER_MAPPING["tokenizer"]
    parts = {name: header.metadata[f"tokenizer.{key}"] for key, name in table.items() if _has(header, key)}
    tokens, kinds = parts.get("tokens"), parts.get("token_type")
    if not isinstance(tokens, list) or not isinstance(kinds, list) or len(tokens) != len(kinds):
        raise _not_understood(header.path, "its vocabulary has no list of tokens with the kind of each")
    if len(tokens) > config.vocab_size:
        raise _not_understood(header.path, f"{len(tokens)} tokens, and {config.vocab_size} embeddings")
    used = max((index for index, kind in enumerate(kinds) if kind != _UNUSED), default=-1) + 1
    parts |= {"tokens": tokens[:used], "token_type": kinds[:used]}
    backend, _ = convert_gguf_tokenizer(config.model_type, parts)
    special = [index for index in range(used) if kinds[index] == _CONTROL]
    backend.add_special_tokens([AddedToken(tokens[index], normalized=False, special=True) for index in special])
    own = [index for index in range(used) if kinds[index] == _USER_DEFINED]
    backend.add_tokens([AddedToken(tokens[index], normalized=False, special=False) for index in own])
    if header.metadata.get("tokenizer.ggml.pre") in _LLAMA_3:
        split = pre_tokenizers.Split(Regex(_LLAMA_3_SPLIT), behavior="isolated")
        bytes_alone = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_alone])
    named = {"bos": config.bos_token_id, "eos": config.eos_token_id, "pad": config.pad_token_id}
    named["unk"] = getattr(config, "unk_token_id", None)
    for name, index in named.items():
        if index is not None and not (isinstance(index, int) and 0 <= index < used):
            raise _not_understood(header.path, f"its {name} token is number {index!r} of {used}")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{f"{name}_token": None if index is None else tokens[index] for name, index in named.items()},
        chat_template=header.metadata.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
        model_max_length=config.max_position_embeddings,
    )


def _has(header: GgufHeader, key: str) -> bool:
    return f"tokenizer.{key}" in header.metadata
