#!/usr/bin/env bash
# torch 2.13.0 (CPU build), four processes over gloo: `all_reduce` with ReduceOp.MAX.
#
# A good engineer would guess: the maximum of four processes' values of which one is NaN is NaN, as `torch.maximum` and
# `Tensor.max` have it; or, if gloo ignores NaN, it is the largest of the other three.
# Seen: it depends on which process has the NaN. From rank 0 it reaches all of them. From any other it is lost, and the
# values of the ranks after it with it: of 0, NaN, 2, 3 the maximum is 0, on every process; nothing is said. In a tensor
# of more elements it depends on the element too: of 1000 that are NaN on one rank, 250 come out as NaN. SUM keeps NaN.
# For who trains on several processes: a loss or a gradient norm that is joined by MAX, so that all of them stop when one
# has a NaN, stops nothing, and what is logged as the worst rank's value is another's. Joined by SUM, or as an integer
# flag by MAX, it is safe: text2sql/training/callbacks.py joins whole numbers only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy 2>/dev/null
cat > "$folder/look.py" <<'PYTHON'
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()


def joined(values, operation):
    loss = torch.tensor([values[rank]])
    dist.all_reduce(loss, op=operation)
    return loss.item()


for place in range(world):
    values = [float("nan") if other == place else float(other) for other in range(world)]
    seen = [joined(values, operation) for operation in (dist.ReduceOp.MAX, dist.ReduceOp.SUM)]
    everyone = [None] * world
    dist.all_gather_object(everyone, repr(seen))
    if rank == 0:
        one = torch.tensor(values).max().item()
        print(f"{values}: Tensor.max {one}, MAX {seen[0]}, SUM {seen[1]}, {len(set(everyone))} result for all")
many = torch.full((1000,), float("nan") if rank == 1 else float(rank))
dist.all_reduce(many, op=dist.ReduceOp.MAX)
if rank == 0:
    print(f"1000 elements, each NaN on rank 1: {int(many.isnan().sum())} are NaN")
dist.destroy_process_group()
PYTHON
seen=$("$folder/venv/bin/torchrun" --nproc_per_node 4 "$folder/look.py" 2>/dev/null)
echo "$seen"
# Output seen, 30 November 2026:
#   [nan, 1.0, 2.0, 3.0]: Tensor.max nan, MAX nan, SUM nan, 1 result for all
#   [0.0, nan, 2.0, 3.0]: Tensor.max nan, MAX 0.0, SUM nan, 1 result for all
#   [0.0, 1.0, nan, 3.0]: Tensor.max nan, MAX 1.0, SUM nan, 1 result for all
#   [0.0, 1.0, 2.0, nan]: Tensor.max nan, MAX 2.0, SUM nan, 1 result for all
#   1000 elements, each NaN on rank 1: 250 are NaN
test "$seen" = "[nan, 1.0, 2.0, 3.0]: Tensor.max nan, MAX nan, SUM nan, 1 result for all
[0.0, nan, 2.0, 3.0]: Tensor.max nan, MAX 0.0, SUM nan, 1 result for all
[0.0, 1.0, nan, 3.0]: Tensor.max nan, MAX 1.0, SUM nan, 1 result for all
[0.0, 1.0, 2.0, nan]: Tensor.max nan, MAX 2.0, SUM nan, 1 result for all
1000 elements, each NaN on rank 1: 250 are NaN" || { echo "changed: another maximum beside a NaN" >&2; exit 1; }
