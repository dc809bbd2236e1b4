#!/usr/bin/env bash
# transformers 5.17.0 with torch 2.13.0 (CPU): `generate`.
#
# A good engineer would guess: with `do_sample=False` each token is the one with the highest logit; all the more so where
# the caller hands over a GenerationConfig of their own, which takes the place of the model's.
# Seen: the model's generation_config.json still counts where the caller's leaves a setting open. Of its sampling settings
# a warning says that they are ignored; `repetition_penalty`, which is not, is not named, and changes the answers. Chat
# models carry one (Qwen2.5-Instruct's is 1.05 to 1.1).
# For who measures text-to-SQL: a query has to repeat names of tables and columns that the prompt has, and each is
# penalised, in base and adapter both. `repetition_penalty=1.0` has to be said;
# text2sql/model/library_way.py puts the model's config aside.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.17.0 2>/dev/null
cd "$folder"
cat > look.py <<'PYTHON'
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
made = LlamaForCausalLM(LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                                    num_attention_heads=2, initializer_range=0.5))
made.generation_config = GenerationConfig(do_sample=True, top_k=20, temperature=0.7, repetition_penalty=1.5)
made.save_pretrained("model")
model = LlamaForCausalLM.from_pretrained("model")
prompt = torch.arange(3, 11)[None]
highest = prompt
for _ in range(6):
    highest = torch.cat([highest, model(highest).logits[:, -1].argmax(-1, keepdim=True)], 1)


def answer(**settings):
    own = GenerationConfig(do_sample=False, max_new_tokens=6, pad_token_id=0, eos_token_id=1, **settings)
    made = model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=own)
    return "the highest logits" if torch.equal(made, highest) else "others"


print("own config:", answer())
print("own config with repetition_penalty=1.0:", answer(repetition_penalty=1.0))
PYTHON
seen=$(venv/bin/python look.py 2>warnings)
echo "$seen"
# Output seen, 29 November 2026:
#   own config: others
#   own config with repetition_penalty=1.0: the highest logits
test "$seen" = "own config: others
own config with repetition_penalty=1.0: the highest logits" || { echo "changed: greedy is greedy" >&2; exit 1; }
grep -q "not valid and may be ignored.*top_k" warnings || { echo "changed: nothing is said of top_k" >&2; exit 1; }
! grep -q repetition_penalty warnings || { echo "changed: the penalty is named" >&2; exit 1; }
