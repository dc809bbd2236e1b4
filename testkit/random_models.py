"""Models and adapters with random weights: real parts where trained ones cannot be had, or would take too long."""

from pathlib import Path
from typing import Any

from testkit.short_tokenizer import short_tokenizer
from text2sql.core.files import atomic_directory
from text2sql.core.params import LoraParams, load_params
from text2sql.model.bases import CARRIED, carried_base, embedded_base

REPOSITORY = Path(__file__).parent.parent
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
    "qwen2.5-0.5b": {
        "model_type": "qwen2",
        "vocab_size": 151936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
    "qwen2.5-1.5b": {
        "model_type": "qwen2",
        "vocab_size": 151936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
    },
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
    """Write a base of a named shape to `folder`, in Hugging Face's format, unless it is there; return the folder.

    The embeddings of its special tokens are tiny, and the output is tied to them: no greedy answer ends before its
    last token, whoever generates it. In bfloat16, 6.4 GB for 3B.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    folder = Path(folder)
    if (folder / "config.json").is_file():
        return folder
    tokenizer = AutoTokenizer.from_pretrained(embedded_base())
    config = AutoConfig.for_model(
        **{"model_type": "llama", "vocab_size": len(tokenizer), **SHAPES[shape]},
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
        # Not zero: a token of zeros stays so in all layers, where a norm's gradient is a thousandfold, and overflows.
        model.get_input_embeddings().weight[tokenizer.all_special_ids] *= 0.01
    with atomic_directory(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    return folder


def write_micro_model(folder: Path) -> Path:
    """Write a Llama of two small layers with SmolLM2's chat template and some of its tokens, random but fixed."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(short_tokenizer())
    config = AutoConfig.from_pretrained(embedded_base())
    # Untied and far from uniform: answers then differ from question to question.
    shape = {**SHAPES["micro"], "vocab_size": len(tokenizer), "tie_word_embeddings": False, "initializer_range": 0.2}
    config.update(shape)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def source_folder(base: str) -> str:
    """Return the folder of the base's files."""
    return str(carried_base(CARRIED[base])) if base in CARRIED else str(base)


def save_random_adapter(base: str, folder: str | Path, lora: LoraParams | None = None, seed: int = 0) -> Path:
    """Write a LoRA adapter for `base` whose weights are small random numbers, so that it changes answers.

    A fresh one would change nothing: its second matrices are zero.
    """
    import torch
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    lora = lora or load_params(REPOSITORY / "params.yaml").train.lora
    config = AutoConfig.from_pretrained(source_folder(base))
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # Shapes alone: nothing is allocated on the device "meta".
    with torch.device("meta"):
        model = get_peft_model(
            AutoModelForCausalLM.from_config(config),
            LoraConfig(
                task_type="CAUSAL_LM",
                r=lora.r,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                target_modules=list(lora.target_modules),
            ),
        )
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.randn(value.shape, generator=generator) * 0.02
        for name, value in sorted(get_peft_model_state_dict(model, save_embedding_layers=False).items())
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    save_file(weights, Path(folder) / "adapter_model.safetensors", metadata={"format": "pt"})
    model.peft_config["default"].save_pretrained(folder)
    return Path(folder)
