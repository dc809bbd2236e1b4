#!/usr/bin/env bash
# DVC 3.67.1: a param that changes its type.
#
# A good engineer would guess: a param that was `1.0` and is `true` now has changed, as one that was `1.0` and is `0.5` has;
# the stage runs again, all the more so as an experiment whose only change it is.
# Seen: params are compared as Python compares numbers, in which 1.0, 1 and true are one (and 0.0, 0 and false). `dvc
# status` and `dvc params diff` show no change, `dvc repro` skips the stage, and dvc.lock keeps the old value. `dvc exp run
# -S limit=true` ends well without running anything, and `dvc exp show` has the new value beside the metric that the old one
# made. A queue that tries 1.0 (all of the questions) and 1 (a single one) measures one of them, and lists both.
# `dvc exp run -f` runs it. Here 1 and 1.0 mean the same, and true is no number (text2sql/core/params.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q dvc==3.67.1 2>/dev/null
export DVC_NO_ANALYTICS=true PATH="$folder/venv/bin:$PATH"
mkdir "$folder/one"
cd "$folder/one"
git init -q
git config user.name someone
git config user.email someone@example.com
dvc init -q
cat > dvc.yaml <<'YAML'
stages:
  measure:
    cmd: "sed 's/limit/measured with/' params.yaml > m.yaml"
    params: [limit]
    metrics:
      - m.yaml:
          cache: false
YAML
echo 'limit: 1.0' > params.yaml
dvc repro -q 2>/dev/null
git add .
git commit -qm one
seen=$(for limit in 0.5 1 true; do
    echo "limit: $limit" > params.yaml
    echo "$limit: $(dvc status 2>/dev/null | grep -cw limit) change in status, $(dvc params diff | grep -cw limit) in diff"
    git checkout -q params.yaml
done
dvc exp run -q -n one -S limit=1 2>/dev/null
dvc exp run -q -n two -S limit=true 2>/dev/null
dvc exp run -q -n half -S limit=0.5 2>/dev/null
dvc exp show --csv --drop 'Created|rev|typ|parent' 2>/dev/null | tr -d '\r' | grep -E '^(one|two|half),' | sort)
echo "$seen"
# Output seen, 30 November 2026 (an experiment's last two columns: the metric, which is the value that the stage read, and
# the param's value):
#   0.5: 1 change in status, 1 in diff
#   1: 0 change in status, 0 in diff
#   true: 0 change in status, 0 in diff
#   half,0.5,0.5
#   one,1.0,1
#   two,1.0,True
test "$seen" = "0.5: 1 change in status, 1 in diff
1: 0 change in status, 0 in diff
true: 0 change in status, 0 in diff
half,0.5,0.5
one,1.0,1
two,1.0,True" || { echo "changed: another type is another value" >&2; exit 1; }
