#!/bin/bash
# Model 1 on two machines of eight GPUs, under Slurm: `sbatch launch/slurm.sh` in the repository, on a disk that both
# share, after `make install` and `dvc repro prepare`. Never run on a real cluster (docs/growth.md).
#SBATCH --job-name=text2sql
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=02:00:00
#SBATCH --output=slurm-%j.log
#SBATCH --signal=TERM@120
set -euo pipefail

STAGE=${1:-stages.train}
MODEL=${2:-m1}
HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# One torchrun a machine; `--signal` gives a training two minutes to write its checkpoint, and the same command goes on.
srun --kill-on-bad-exit=1 .venv/bin/torchrun \
  --nnodes "$SLURM_NNODES" \
  --nproc_per_node "$SLURM_GPUS_ON_NODE" \
  --rdzv-id "$SLURM_JOB_ID" \
  --rdzv-backend c10d \
  --rdzv-endpoint "$HEAD:29500" \
  -m "$STAGE" "$MODEL"
