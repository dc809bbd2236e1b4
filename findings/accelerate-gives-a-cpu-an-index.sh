#!/usr/bin/env bash
# accelerate 1.15.0 with torch 2.13.0 (CPU), started by torchrun with one process.
#
# A good engineer would guess: a process on a CPU has the device `cpu`, with or without a launcher, so that
# `model.to(state.device)` of a model that is on the CPU already leaves its parameters where they are.
# Seen: under torchrun `PartialState(cpu=True).device` is `cpu:0`. PyTorch takes that for another device than `cpu`: `.to` copies
# every parameter, and what was a view of them before (one flat tensor for the optimizer, say) is one no longer; training
# goes on and no step reaches the model. And `torch.load(..., map_location="cpu:0")` refuses what it loads onto `cpu`.
# With ACCELERATE_TORCH_DEVICE=cpu the device is `cpu`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 accelerate==1.15.0 2>/dev/null
cat > "$folder/look.py" <<'PYTHON'
import io

import torch
from accelerate import PartialState

device = PartialState(cpu=True).device
layer = torch.nn.Linear(2, 2)
before = layer.weight.data_ptr()
layer.to(device)
kept = io.BytesIO()
torch.save({"exp_avg": torch.zeros(2)}, kept)
kept.seek(0)
try:
    torch.load(kept, map_location=str(device), weights_only=True)
    loaded = "loads"
except RuntimeError as error:
    loaded = str(error).partition(" of ")[0]
print(device, "moved" if layer.weight.data_ptr() != before else "in place", loaded, sep="; ")
PYTHON
alone=$("$folder/venv/bin/python" "$folder/look.py" 2>/dev/null)
launched=$("$folder/venv/bin/torchrun" --nproc_per_node 1 "$folder/look.py" 2>/dev/null)
told=$(ACCELERATE_TORCH_DEVICE=cpu "$folder/venv/bin/torchrun" --nproc_per_node 1 "$folder/look.py" 2>/dev/null)
printf 'without a launcher: %s\ntorchrun:           %s\ntorchrun, told so:  %s\n' "$alone" "$launched" "$told"
# Output seen:
#   without a launcher: cpu; in place; loads
#   torchrun:           cpu:0; moved; don't know how to restore data location
#   torchrun, told so:  cpu; in place; loads
test "$alone" = "cpu; in place; loads"
test "$launched" = "cpu:0; moved; don't know how to restore data location"
test "$told" = "cpu; in place; loads"
