#!/usr/bin/env bash
# statsmodels 0.15.0 with numpy 2.4.6, scipy 1.17.1 and pandas 3.1.1: `mcnemar`.
#
# A good engineer would guess: of two models that agree on every question, no form of McNemar's test says that they
# differ: p is 1, as `exact=True` has it, or undefined.
# Seen: with `exact=False` and the default correction the statistic is infinite and p is 0, the strongest evidence there
# can be; all that tells is numpy's warning of a division by zero. Without the correction p is nan. The correction takes
# |0 - 0| - 1 for a difference of one: with one question gained and one lost p is 0.48, where the exact test has 1.
# For who compares adapters by the questions gained and lost: an adapter that changed nothing (not loaded, a rate of zero)
# is reported as a significant change. Here the test is the exact one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q statsmodels==0.15.0 numpy==2.4.6 scipy==1.17.1 pandas==3.1.1 2>/dev/null
cat > "$folder/look.py" <<'PYTHON'
from statsmodels.stats.contingency_tables import mcnemar

for gained, lost in (0, 0), (1, 1):
    table = [[700, lost], [gained, 334]]
    ways = {"exact": {"exact": True}, "corrected": {"exact": False}, "plain": {"exact": False, "correction": False}}
    print(f"+{gained} -{lost}:", *(f"{name} p={mcnemar(table, **way).pvalue:.2g}" for name, way in ways.items()))
PYTHON
seen=$("$folder/venv/bin/python" "$folder/look.py" 2>/dev/null)
echo "$seen"
# Output seen, 29 November 2026:
#   +0 -0: exact p=1 corrected p=0 plain p=nan
#   +1 -1: exact p=1 corrected p=0.48 plain p=1
test "$seen" = "+0 -0: exact p=1 corrected p=0 plain p=nan
+1 -1: exact p=1 corrected p=0.48 plain p=1" || { echo "changed: other p values" >&2; exit 1; }
