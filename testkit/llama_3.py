"""SmolLM2's tokenizer in Llama 3's manner: Llama's own needs the hub."""

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


def as_llama_3(tokenizer: Any) -> Any:
    """Return `tokenizer` with Llama 3's special tokens and template."""
    tokenizer.add_special_tokens({"additional_special_tokens": LLAMA_3_TOKENS[2:]})
    tokenizer.add_special_tokens({"bos_token": LLAMA_3_TOKENS[0], "eos_token": LLAMA_3_TOKENS[1]})
    tokenizer.pad_token = "<|finetune_right_pad_id|>"
    tokenizer.chat_template = LLAMA_3_TEMPLATE
    return tokenizer
