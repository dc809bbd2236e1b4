#!/usr/bin/env bash
# pytest-xdist 3.8.0: `--dist loadgroup` with pytest 9.2.0 and with 9.1.1.
#
# A good engineer would guess: with `--dist loadgroup` all tests marked `xdist_group("one")` run in one process, with any
# pytest that pytest-xdist 3.8 may be installed beside.
# Seen: so with pytest 9.1.1; with 9.2.0 they are spread as if there were no mark, and nothing says so.
# For who tests pipelines: tests that share a fixture of minutes (a trained adapter, a `dvc repro`) each make it again in
# each process, or two of them write one folder at once. Here tests/conftest.py brings a scheduler of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/test_group.py" <<'PYTHON'
import os
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(6))
def test_one(number):
    time.sleep(0.1)
    with open("processes", "a") as file:
        print(os.environ["PYTEST_XDIST_WORKER"], file=file)
PYTHON
cd "$folder"
processes() {
    venv/bin/pip install -q "pytest==$1" pytest-xdist==3.8.0 2>/dev/null
    rm -f processes
    venv/bin/python -m pytest -q -n 3 --dist loadgroup >/dev/null 2>&1
    sort -u processes | wc -l | tr -d ' '
}
before=$(processes 9.1.1)
now=$(processes 9.2.0)
printf 'processes that ran the group: pytest 9.1.1: %s, 9.2.0: %s\n' "$before" "$now"
# Output seen, 29 November 2026:
#   processes that ran the group: pytest 9.1.1: 1, 9.2.0: 3
test "$before" = 1 && test "$now" -gt 1 || { echo "changed: the group stays in one process" >&2; exit 1; }
