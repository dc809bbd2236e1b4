#!/usr/bin/env bash
# datasets 4.8.5: `map` and its cache.
#
# A good engineer would guess: `map` runs again where the function has changed, as its documentation says that the
# fingerprint is a hash of the function; and a function is the same, wherever it is defined.
# Seen: of a function in the script that runs, the code is hashed; of one in a module that is imported, its name alone.
# Changing a prompt's text in `prompts.py` changes nothing in the next run: rows of the old text come from the cache.
# For who trains on text-to-SQL prompts: the model learns the prompt of yesterday and is asked today's. Here rows are
# made in memory, and the prompt's code is a dependency of the stage; `load_from_cache_file=False` does it too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q datasets==4.8.5 2>/dev/null
export HF_HUB_OFFLINE=1 HF_HOME="$folder/home"
cd "$folder"
echo '{"question": "How many singers?"}' > rows.json
cat > prompts.py <<'PYTHON'
def prompt(row):
    return {"text": "Write SQL: " + row["question"]}
PYTHON
(cat prompts.py; cat <<'PYTHON'
import datasets
import prompts

rows = datasets.load_dataset("json", data_files="rows.json", split="train")
print("own:", rows.map(prompt)["text"][0], "| imported:", rows.map(prompts.prompt)["text"][0])
PYTHON
) > train.py
first=$(venv/bin/python train.py 2>/dev/null)
sed -i 's/Write SQL/Answer in SQLite/' prompts.py train.py
second=$(venv/bin/python train.py 2>/dev/null)
printf '%s\n' "$first" "$second"
# Output seen, 29 November 2026:
#   own: Write SQL: How many singers? | imported: Write SQL: How many singers?
#   own: Answer in SQLite: How many singers? | imported: Write SQL: How many singers?
test "$second" = "own: Answer in SQLite: How many singers? | imported: Write SQL: How many singers?" ||
    { echo "changed: the code of an imported function counts" >&2; exit 1; }
