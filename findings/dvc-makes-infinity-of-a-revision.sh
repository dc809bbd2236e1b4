#!/usr/bin/env bash
# DVC 3.67.1: `dvc exp run -S` and params that are text.
#
# A good engineer would guess: `-S model.revision=12e4567`, a commit's short hash for a param that is text in params.yaml,
# stays text, as `abc1234` does.
# Seen: what can be read as a number becomes one, whatever type the param had: 12e4567 turns into
# infinity (`.inf`), 1e5 into 100000.0, 1_000 into 1000. It is written to params.yaml and dvc.lock; nothing is said. About
# one hash of seven characters in twenty is such a number (digits, or digits with one `e` among them). Quotes inside of
# the shell's keep it: -S "model.revision='12e4567'".
# For who pins a base model's revision on the hub or a file's digest in a sweep: another revision, or none, is asked for.
# Here a param's type is checked before any work.
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
printf 'stages:\n  train:\n    cmd: cat params.yaml\n    params: [revision]\n' > dvc.yaml
printf 'revision: abc1234\n' > params.yaml
git add .
git commit -qm one
seen=$(for revision in def5678 12e4567 1e5 1_000 "'12e4567'"; do
    echo "$revision -> $(dvc exp run -f -S "revision=$revision" 2>/dev/null | grep "^revision:")"
done)
echo "$seen"
# Output seen, 29 November 2026:
#   def5678 -> revision: def5678
#   12e4567 -> revision: .inf
#   1e5 -> revision: 100000.0
#   1_000 -> revision: 1000
#   '12e4567' -> revision: '12e4567'
test "$seen" = "def5678 -> revision: def5678
12e4567 -> revision: .inf
1e5 -> revision: 100000.0
1_000 -> revision: 1000
'12e4567' -> revision: '12e4567'" || { echo "changed: text is written otherwise" >&2; exit 1; }
