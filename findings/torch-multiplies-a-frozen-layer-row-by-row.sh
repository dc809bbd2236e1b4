#!/usr/bin/env bash
# torch 2.13.0 (CPU build), a linear layer on the last position of each row of a batch, as a language model's output layer.
#
# A good engineer would guess: without gradients (`torch.inference_mode()`) a weight's `requires_grad` has no effect on how
# it is multiplied, and a batch of single positions is one matrix product.
# Seen: it is one product (mm) where the weight takes a gradient, and a batched product of one row each (bmm) where it is
# frozen and the positions do not lie together. So a model under a PEFT adapter, whose base is frozen, has its output layer
# multiplied row by row (in bfloat16 with a copy of the whole weight first), where the same base alone has it done at once.
# A contiguous copy of the few positions gives one product again: text2sql/model/output_layer.py makes it. 30 November 2026.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy 2>/dev/null
cat > "$folder/look.py" <<'PYTHON'
import torch
from torch.profiler import ProfilerActivity, profile

torch.manual_seed(0)
layer = torch.nn.Linear(64, 5000, bias=False)
hidden = torch.randn(8, 12, 64)
last = hidden[:, -1:]
together = last.clone(memory_format=torch.contiguous_format)
for takes_gradient in (True, False):
    layer.weight.requires_grad_(takes_gradient)
    for name, rows in (("last positions", last), ("their copy", together)):
        with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as seen:
            layer(rows)
        operations = {event.key for event in seen.key_averages()}
        print(f"requires_grad {takes_gradient}, {name}:", "bmm" if "aten::bmm" in operations else "mm")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/look.py" 2>/dev/null | grep requires_grad)
printf '%s\n' "$seen"
# Output seen:
#   requires_grad True, last positions: mm
#   requires_grad True, their copy: mm
#   requires_grad False, last positions: bmm
#   requires_grad False, their copy: mm
test "$seen" = "requires_grad True, last positions: mm
requires_grad True, their copy: mm
requires_grad False, last positions: bmm
requires_grad False, their copy: mm"
