#!/usr/bin/env bash
# DVC 3.67.1: the run cache and outputs with `cache: false`.
#
# A good engineer would guess: `cache: false` leaves one output's content to git, and the run cache, which keeps what a
# stage made of which inputs, serves the stage all the same, as it does where a metric has `cache: false`.
# Seen: one plain output (not under `metrics:` or `plots:`) with `cache: false` keeps the whole stage out of the run
# cache, its cached outputs too, without a word: a copy of the project that shares the cache, or `dvc repro` after a param
# came back, runs it again. The same file under `metrics:` or `plots:` changes nothing.
# Here that stage would be the training: its loss curve, a small CSV that git shall hold.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q dvc==3.67.1 2>/dev/null
export DVC_NO_ANALYTICS=true
dvc() { "$folder/venv/bin/python" -m dvc "$@"; }
mkdir "$folder/one"
cd "$folder/one"
git init -q
dvc init -q
dvc cache dir "$folder/cache"
echo input > input
cat > dvc.yaml <<'YAML'
stages:
  out:
    cmd: echo weights > a.bin; echo 0.1 > a.csv
    deps: [input]
    outs:
      - a.bin
      - a.csv:
          cache: false
  plot:
    cmd: echo weights > b.bin; echo 0.1 > b.csv
    deps: [input]
    outs:
      - b.bin
    plots:
      - b.csv:
          cache: false
YAML
cp -r "$folder/one" "$folder/two"
dvc repro -q 2>/dev/null
cd "$folder/two"
seen=$(dvc repro 2>/dev/null | grep -E "^(Running stage|Stage )" | sort)
echo "$seen"
# Output seen, of the second copy of the project:
#   Running stage 'out':
#   Stage 'plot' is cached - skipping run, checking out outputs
test "$seen" = "Running stage 'out':
Stage 'plot' is cached - skipping run, checking out outputs"
