"""Write a random base of a named shape: the arithmetic of a real model, where its weights cannot be had.

    python -m benchmarks.random_base FOLDER [--shape llama-3.2-3b]

With SmolLM2's tokenizer and chat template. The embeddings of its special tokens are zero, and the output is tied to
them: no greedy answer ends before its last token, whoever generates it. In bfloat16, 6.4 GB for 3B.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from text2sql.core.files import atomic_directory
from text2sql.model.bases import embedded_base

SHAPES: dict[str, dict[str, Any]] = {
    "llama-3.2-3b": {
        "vocab_size": 128256,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    # For tests.
    "micro": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
    },
}


def write_random_base(folder: str | Path, shape: str = "llama-3.2-3b") -> Path:
    """Write the model to `folder`, in Hugging Face's format, unless it is there; return the folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    folder = Path(folder)
    if (folder / "config.json").is_file():
        return folder
    tokenizer = AutoTokenizer.from_pretrained(embedded_base())
    config = LlamaConfig(
        **{"vocab_size": len(tokenizer), **SHAPES[shape]},
        tie_word_embeddings=True,
        max_position_embeddings=8192,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.all_special_ids] = 0
    with atomic_directory(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    return folder


def main(arguments: list[str]) -> None:
    """Write the base that `arguments` name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="llama-3.2-3b")
    options = parser.parse_args(arguments)
    print(write_random_base(options.folder, options.shape))


if __name__ == "__main__":
    main(sys.argv[1:])
