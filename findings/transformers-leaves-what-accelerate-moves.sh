#!/usr/bin/env bash
# transformers 5.17.0 with accelerate 1.15.0 and torch 2.13.0 (CPU; the device `meta` stands for a GPU).
#
# A good engineer would guess: Trainer's `_prepare_inputs`, which puts a batch on the model's device, does what the data
# loader did that accelerate prepared for that Trainer. A batch that a training step makes anew (in smaller pieces after
# it ran out of memory, say) needs no more than that call.
# Seen: of a batch with a tensor, a list of objects that have a method `to`, and transformers' own BatchFeature in it,
# accelerate's `send_to_device` moves all three. `_prepare_inputs` moves the tensors in mappings (a BatchFeature is one),
# lists and tuples; an object with `to` stays where it is, without a word. As the loader has moved each batch before, that
# shows in no training until a step makes a batch of its own, and then on a GPU alone. This project moves its pieces itself
# (text2sql/training/parts.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.17.0 accelerate==1.15.0 2>/dev/null
cat > "$folder/look.py" <<'PYTHON'
import sys

import torch
from accelerate.utils import send_to_device
from transformers import BatchFeature, Trainer, TrainingArguments


class Piece:
    def __init__(self, ids):
        self.ids = ids

    def to(self, device, non_blocking=False):
        return Piece(self.ids.to(device))


class OnMeta(TrainingArguments):
    device = torch.device("meta")


def batch():
    feature = BatchFeature({"pixels": torch.ones(2)})
    return {"ids": torch.ones(2), "pieces": [Piece(torch.ones(2))], "feature": feature}


def places(found):
    return " ".join(str(one.device) for one in (found["ids"], found["pieces"][0].ids, found["feature"]["pixels"]))


trainer = Trainer(torch.nn.Linear(2, 2), TrainingArguments(output_dir=sys.argv[1], use_cpu=True, report_to=[]))
trainer.args.__class__ = OnMeta
print("accelerate:", places(send_to_device(batch(), "meta")))
print("Trainer:", places(trainer._prepare_inputs(batch())))
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" "$folder/out" 2>/dev/null)
echo "$said"
# Output seen, 2026-11-30 (where the tensor, the object's and the feature's lie):
#   accelerate: meta meta meta
#   Trainer: meta cpu meta
test "$said" = $'accelerate: meta meta meta\nTrainer: meta cpu meta'
