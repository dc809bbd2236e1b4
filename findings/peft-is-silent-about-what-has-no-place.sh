#!/usr/bin/env bash
# PEFT 0.21.2 with transformers 5.17.0 and torch 2.13.0 (CPU): names that match nothing.
#
# A good engineer would guess: a name that matches nothing is told, as PEFT tells of entries of `rank_pattern` and
# `exclude_modules` without a match, and of weights that an adapter lacks.
# Seen: a misspelt entry of `target_modules` beside one that matches, and any of `modules_to_save`, are left out in
# silence: half of the projections are trained, or no head is. Loading an adapter of a deeper base of the same width drops
# the weights of the layers that are not there, in silence too; the other way round there is a warning.
# For who fine-tunes: an adapter trains less than its config says, or is measured on a base it was not made for, and every
# table looks right. Here text2sql/model/adapters.py looks for both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.17.0 accelerate==1.15.0 peft==0.21.2 2>/dev/null
cd "$folder"
cat > look.py <<'PYTHON'
import warnings

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM


def base(layers):
    return LlamaForCausalLM(LlamaConfig(vocab_size=9, hidden_size=16, intermediate_size=16, num_hidden_layers=layers,
                                        num_attention_heads=2))


def told(what, make):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make()
    print(f"{what}: {len(caught)} warning(s)")


def adapted(layers=2, **settings):
    return get_peft_model(base(layers), LoraConfig(**{"target_modules": ["q_proj"], **settings}))


told("rank_pattern", lambda: adapted(rank_pattern={"v_porj": 4}))
told("target_modules", lambda: adapted(target_modules=["q_proj", "v_porj"]))
told("modules_to_save", lambda: adapted(modules_to_save=["lm_haed"]))
adapted(4).save_pretrained("deep")
adapted(2).save_pretrained("shallow")
told("adapter of 2 layers on 4", lambda: PeftModel.from_pretrained(base(4), "shallow"))
told("adapter of 4 layers on 2", lambda: PeftModel.from_pretrained(base(2), "deep"))
PYTHON
seen=$(HF_HUB_OFFLINE=1 venv/bin/python look.py 2>/dev/null)
echo "$seen"
# Output seen, 29 November 2026:
#   rank_pattern: 1 warning(s)
#   target_modules: 0 warning(s)
#   modules_to_save: 0 warning(s)
#   adapter of 2 layers on 4: 1 warning(s)
#   adapter of 4 layers on 2: 0 warning(s)
test "$(echo "$seen" | sed 's/.*: //; s/ .*//' | tr '\n' ' ')" = "1 0 0 1 0 " || { echo "changed: told otherwise" >&2; exit 1; }
