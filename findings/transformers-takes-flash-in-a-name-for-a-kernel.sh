#!/usr/bin/env bash
# transformers 5.17.0 (torch 2.13.0, CPU build), an attention function of one's own under a name of one's own.
#
# A good engineer would guess: `AttentionInterface.register(name, function)` makes `name` an attention like the built-in
# ones, whatever it is called, and `set_attn_implementation(name)` uses it.
# Seen: under the name "packed_rows" it does; under "packed_flash" the same function is not used: because of "flash" in the
# name, transformers looks for a package or a kernel of the hub that is called so, although the name is registered, and
# `set_attn_implementation` raises ValueError. So text2sql/model/packed.py keeps "flash" out of its name. 30 November 2026.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.17.0 numpy 2>/dev/null
cat > "$folder/look.py" <<'PYTHON'
import torch
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

config = LlamaConfig(
    hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, vocab_size=50
)
model = LlamaForCausalLM(config).eval()
for name in ("packed_rows", "packed_flash"):
    calls = []

    def attend(*args, **options):
        calls.append(1)
        return sdpa_attention_forward(*args, **options)

    AttentionInterface.register(name, attend)
    try:
        model.set_attn_implementation(name)
        model(torch.tensor([[1, 2, 3]]))
        print(f"{name}: called {len(calls)} time")
    except Exception as error:
        print(f"{name}: {type(error).__name__}, called {len(calls)} times")
PYTHON
seen=$(HF_HUB_OFFLINE=1 "$folder/venv/bin/python" "$folder/look.py" 2>/dev/null | grep packed)
printf '%s\n' "$seen"
# Output seen:
#   packed_rows: called 1 time
#   packed_flash: ValueError, called 0 times
test "$seen" = "packed_rows: called 1 time
packed_flash: ValueError, called 0 times"
