#!/usr/bin/env bash
# TRL 1.15.0 with transformers 5.17.0 and torch 2.13.0 (CPU): SFTTrainer, rows of prompt and completion, `max_length`.
#
# A good engineer would guess: rows over `max_length` are either cut, as its documentation says, or refused; whichever it
# is, something says how many. And what is cut of a pair is not the completion, the only part that has a loss.
# Seen: the end is cut. Where a part of the completion is left, the row trains an answer without its end, nor an end token;
# where none is left, the row is gone from `train_dataset`. No warning, and no count of either; the bars that pass while
# it cuts and drops show the rows that were looked at, and are the same where none was too long.
# For who trains text-to-SQL: the long schemas are the ones that go, so that the hard databases are missing from training,
# and a model learns to stop nowhere. Here such rows are left out whole and counted (TRL gets `max_length=None`).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.17.0 datasets==4.8.5 accelerate==1.15.0 trl==1.15.0 \
    2>/dev/null
cd "$folder"
cat > look.py <<'PYTHON'
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

words = {word: place for place, word in enumerate(["<pad>", "</s>", "<unk>", "schema", "SELECT", "1"])}
splitter = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
splitter.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=splitter, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
model = LlamaForCausalLM(LlamaConfig(vocab_size=6, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                     num_attention_heads=2))
rows = [{"prompt": "schema " * length, "completion": "SELECT 1"} for length in (2, 5, 7, 8, 20)]
trainer = SFTTrainer(model, SFTConfig("out", use_cpu=True, bf16=False, report_to=[], max_length=8),
                     train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
print(len(rows), "rows given")
for row in trainer.train_dataset:
    print("trained on:", tokenizer.decode([label for label in row["labels"] if label >= 0]))
PYTHON
seen=$(HF_HUB_OFFLINE=1 HF_HOME=$folder/home venv/bin/python look.py 2>said) || { tail -3 said >&2; exit 1; }
echo "$seen"
# Output seen, 29 November 2026:
#   5 rows given
#   trained on: SELECT 1</s>
#   trained on: SELECT 1</s>
#   trained on: SELECT
test "$(echo "$seen" | tr -d ' ')" = "5rowsgiven
trainedon:SELECT1</s>
trainedon:SELECT1</s>
trainedon:SELECT" || { echo "changed: other rows are left" >&2; exit 1; }
! tr '\r' '\n' < said | grep -v '%|' | grep -iE "truncat|drop|too long|max_length" || { echo "changed: it is said" >&2; exit 1; }
