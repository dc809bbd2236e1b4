#!/usr/bin/env bash
# datasets 4.8.5: JSON lines.
#
# A good engineer would guess: a JSON string is read as a string, since JSON has no other kind; a dataset that is written
# with `to_json` comes back as it was.
# Seen: a column whose strings all look like days or times becomes a timestamp, and each row holds a datetime. Rows built
# in memory keep the text, so that the same data train differently from a file. One text among them that is no date, in
# the same file, and the column is text.
# For who trains on text-to-SQL: the literals of a query, an answer's cells or the chosen values shown with a schema turn
# into `2013-01-05 00:00:00` in the prompt, which the database's text column does not hold. `features=` settles it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q datasets==4.8.5 2>/dev/null
export HF_HUB_OFFLINE=1 HF_HOME="$folder/home"
cd "$folder"
cat > look.py <<'PYTHON'
from datasets import Dataset, load_dataset


def there_and_back(name, cells):
    rows = Dataset.from_list([{"cell": cell} for cell in cells])
    rows.to_json(name)
    back = load_dataset("json", data_files=name, split="train")
    print(f"{rows[0]['cell']!s} -> {back[0]['cell']!s} ({type(back[0]['cell']).__name__})")


there_and_back("days.json", ["2013-01-05", "2014-02-03"])
there_and_back("mixed.json", ["2013-01-05", "unknown"])
PYTHON
seen=$(venv/bin/python look.py 2>/dev/null)
echo "$seen"
# Output seen, 29 November 2026:
#   2013-01-05 -> 2013-01-05 00:00:00 (datetime)
#   2013-01-05 -> 2013-01-05 (str)
test "$seen" = "2013-01-05 -> 2013-01-05 00:00:00 (datetime)
2013-01-05 -> 2013-01-05 (str)" || { echo "changed: text that looks like a day is read otherwise" >&2; exit 1; }
