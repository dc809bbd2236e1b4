"""Untrained models of two small layers as users bring them: other architectures, templates, tokens, files."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from testkit.random_models import SHAPES
from testkit.short_tokenizer import short_tokenizer

END, START = "<|im_end|>", "<|im_start|>"
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "pad_token_id": 2,
}
LINEAR_ATTENTION = {
    "head_dim": 16,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"],
}
STATE_SPACE = {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 16}
# Architectures by their name in transformers, each with what makes it small. We handle the caches of Llama and GPT-2
# ourselves; GPT-J's attention takes no mask of true and false, and the other caches hold more than keys and values.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {**SHAPES["micro"], "bos_token_id": 1, "pad_token_id": 2},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512, "bos_token_id": 1, "pad_token_id": 2},
    "gptj": {"n_embd": 64, "n_layer": 2, "n_head": 4, "rotary_dim": 8, "n_positions": 512, "bos_token_id": 1},
    "mistral": {**SMALL, "sliding_window": 32},
    "lfm2": {**SMALL, "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    "qwen3_next": {
        **SMALL,
        **LINEAR_ATTENTION,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
    },
    "falcon_h1": {**SMALL, **STATE_SPACE},
    "zamba2": {
        **SMALL,
        "num_hidden_layers": 3,
        "num_key_value_heads": 4,
        "attention_head_dim": 32,
        "layers_block_type": ["mamba", "mamba", "hybrid"],
        "hybrid_layer_ids": [2],
        "num_mem_blocks": 1,
        "mamba_d_state": 16,
        "mamba_ngroups": 1,
        "n_mamba_heads": 4,
        "adapter_rank": 8,
        "chunk_size": 32,
    },
    "mamba": {"hidden_size": 64, "num_hidden_layers": 2, "bos_token_id": 1, "pad_token_id": 2},
    "xlstm": {"hidden_size": 64, "num_blocks": 2, "num_hidden_layers": 2, "num_heads": 4, "qk_dim_factor": 1.0},
    "rwkv": {"hidden_size": 64, "num_hidden_layers": 2, "attention_hidden_size": 64},
}


def write_tiny_model(
    folder: Path,
    architecture: str = "llama",
    change: Callable[[Any], None] | None = None,
    resize: bool = True,
    generation: Mapping[str, Any] | None = None,
    **config: Any,
) -> Path:
    """Write an untrained model with SmolLM2's tokenizer to `folder`; return the folder.

    `change` changes the tokenizer first; the model then has an embedding for each token, unless `resize` is false.
    `generation` is what its generation_config.json holds, `config` what else its config does.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(short_tokenizer())
    size = len(tokenizer)
    if change:
        change(tokenizer)
    options = {
        "vocab_size": len(tokenizer) if resize else size,
        "eos_token_id": tokenizer.eos_token_id,
        "tie_word_embeddings": False,
        "initializer_range": 0.2,
        **ARCHITECTURES[architecture],
        **config,
    }
    torch.manual_seed(0)
    made = AutoConfig.for_model(architecture, **options)
    model = AutoModelForCausalLM.from_config(made, dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if generation is not None:
        GenerationConfig(**generation).save_pretrained(folder)
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    """Set keys of the JSON object in `path`; those set to None are removed."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
