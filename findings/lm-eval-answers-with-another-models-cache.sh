#!/usr/bin/env bash
# lm-evaluation-harness (lm_eval) 0.4.13 with transformers 5.17.0 and torch 2.13.0 (CPU): `use_cache`, `--use_cache`.
#
# A good engineer would guess: a cache of a model's answers knows whose they are, so that base and fine-tuned model may
# be scored with one `use_cache`, as the requests of one task are the same.
# Seen: the key is made of the request alone. The second model is never asked: it gets the first one's likelihoods, and
# its accuracy is the first one's, without a word. Two adapters of one base, or one path trained anew, go the same way.
# For who compares models on MMLU: a fine-tuning that forgot nothing at all is what this looks like. One file a model
# and a revision of it; benchmarks/bench_mmlu.py gives none.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.17.0 datasets==4.8.5 lm_eval==0.4.13 accelerate==1.15.0 \
    2>/dev/null
cd "$folder"
cat > task.yaml <<'YAML'
task: tiny
dataset_path: json
dataset_kwargs: {data_files: {test: rows.json}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: [a, b, c, d]
doc_to_target: answer
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
YAML
printf '{"question": "%s", "answer": 0}\n' "a b" "b c" "c d" "d a" > rows.json
cat > look.py <<'PYTHON'
import lm_eval
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

words = {word: place for place, word in enumerate(["<pad>", "</s>", "<unk>", "a", "b", "c", "d"])}
splitter = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
splitter.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=splitter, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def first_likelihood(seed, **options):
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=7, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                         num_attention_heads=2))
    scored = lm_eval.simple_evaluate(HFLM(pretrained=model, tokenizer=tokenizer, device="cpu"), tasks=["tiny"],
                                     task_manager=TaskManager(include_path="."), bootstrap_iters=0, **options)
    return [round(choice[0], 4) for sample in scored["samples"]["tiny"] for choice in sample["filtered_resps"]]


first, second = first_likelihood(1), first_likelihood(2)
assert first_likelihood(1, use_cache="kept") == first != second
after = first_likelihood(2, use_cache="kept")
print("second model, cache of the first:", {True: "the first's answers", False: "its own"}[after == first])
PYTHON
seen=$(HF_HUB_OFFLINE=1 HF_HOME=$folder/home venv/bin/python look.py 2>errors) || { tail -3 errors >&2; exit 1; }
echo "$seen"
# Output seen, 29 November 2026:
#   second model, cache of the first: the first's answers
test "$seen" = "second model, cache of the first: the first's answers" || { echo "changed: keys know the model" >&2; exit 1; }
