"""Llama 3's chat template, and a model of exactly Llama 3.2 3B's shape: its own weights need the hub.

    python -m tests.llama_3 FOLDER      write the model with random weights, 6.4 GB in bfloat16

For mechanics, memory and speed, never for an accuracy.
"""

import sys
from pathlib import Path
from typing import Any

# Llama 3's chat template, shortened to what text-to-SQL uses of it: BOS, the system turn with a date, trimmed turns.
LLAMA_3_TEMPLATE = (
    "{{ bos_token }}"
    "{{ '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: ' }}"
    "{{ date_string if date_string is defined else strftime_now('%d %b %Y') }}{{ '\n\n<|eot_id|>' }}"
    "{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{ message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA_3_TOKENS = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|finetune_right_pad_id|>",
]
# https://huggingface.co/meta-llama/Llama-3.2-3B-Instruct: config.json
SHAPE = {
    "vocab_size": 128_256,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": True,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}


def as_llama_3(tokenizer: Any) -> Any:
    """Return `tokenizer` with Llama 3's special tokens and template."""
    tokenizer.add_special_tokens({"additional_special_tokens": LLAMA_3_TOKENS[2:]})
    tokenizer.add_special_tokens({"bos_token": LLAMA_3_TOKENS[0], "eos_token": LLAMA_3_TOKENS[1]})
    tokenizer.pad_token = "<|finetune_right_pad_id|>"
    tokenizer.chat_template = LLAMA_3_TEMPLATE
    return tokenizer


def save_llama_shape(folder: str | Path) -> Path:
    """Write a model of Llama 3.2 3B's shape with random weights, and SmolLM2's tokenizer in Llama 3's manner."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from text2sql.embedded import embedded_base

    tokenizer = as_llama_3(AutoTokenizer.from_pretrained(embedded_base()))
    config = LlamaConfig(
        **SHAPE,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|eot_id|>")],
        pad_token_id=tokenizer.pad_token_id,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM._from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


if __name__ == "__main__":
    save_llama_shape(sys.argv[1])
