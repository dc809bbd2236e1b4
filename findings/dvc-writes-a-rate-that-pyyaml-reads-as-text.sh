#!/usr/bin/env bash
# DVC 3.67.1 with PyYAML 6.0.4: `dvc exp run -S` and small numbers.
#
# A good engineer would guess: what DVC writes to params.yaml, any YAML library reads as the number that it is.
# Seen: `-S train.lr=2e-8` writes `2e-08`, without a dot. For DVC, which parses YAML 1.2, that is a number, and so it
# stands in dvc.lock and `dvc exp show`. PyYAML, which many a stage reads params with, follows YAML 1.1 and makes it the
# text "2e-08"; the rate that was in the file by hand, `2.0e-4`, was a number.
# For who searches learning rates: the stage ends in a TypeError in the middle of a queue, or a config that takes text
# goes on with it. Here params are read with ruamel.yaml, and types are checked.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q dvc==3.67.1 PyYAML==6.0.4 2>/dev/null
export DVC_NO_ANALYTICS=true PATH="$folder/venv/bin:$PATH"
mkdir "$folder/one"
cd "$folder/one"
git init -q
git config user.name someone
git config user.email someone@example.com
dvc init -q
cat > dvc.yaml <<'YAML'
stages:
  train:
    cmd: python train.py
    params: [train.lr]
YAML
cat > train.py <<'PYTHON'
import yaml

print("stage read:", repr(yaml.safe_load(open("params.yaml"))["train"]["lr"]))
PYTHON
printf 'train:\n  lr: 2.0e-4\n' > params.yaml
git add .
git commit -qm one
by_hand=$(dvc repro 2>/dev/null | grep "stage read")
by_dvc=$(dvc exp run -S train.lr=2e-8 2>/dev/null | grep "stage read")
printf 'by hand, %s\nby -S,   %s\n' "$by_hand" "$by_dvc"
cat params.yaml
# Output seen, 29 November 2026:
#   by hand, stage read: 0.0002
#   by -S,   stage read: '2e-08'
#   train:
#     lr: 2e-08
test "$by_hand" = "stage read: 0.0002"
test "$by_dvc" = "stage read: '2e-08'" || { echo "changed: the rate is a number for PyYAML" >&2; exit 1; }
