#!/usr/bin/env bash
# deepeval 4.3.1: `assert_test` with a metric of one's own.
#
# A good engineer would guess: `assert_test(case, [metric])` measures with the object that it was given.
# Seen: by default (`run_async=True`) it makes another one, with those arguments of the constructor for which the object has
# an attribute of the same name. What is kept under another name, `self._limit = limit` as is usual, gets the constructor's
# default, without a word. With `run_async=False`, or `metric.measure(case)`, the object itself is asked.
# For who scores text-to-SQL by execution: the limits of a query, a tolerance or a connection are those of the class, so
# that verdicts differ between a loop and `assert_test`. Here all the metric's arguments are attributes of the same name.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q deepeval==4.3.1 2>/dev/null
cd "$folder"
cat > look.py <<'PYTHON'
from deepeval import assert_test
from deepeval.metrics import BaseMetric
from deepeval.test_case import LLMTestCase


class Rows(BaseMetric):
    def __init__(self, limit=30, threshold=0.5):
        self._limit, self.threshold = limit, threshold

    def measure(self, case, *args, **kwargs):
        print("limit", self._limit)
        self.score, self.success = 1.0, True
        return self.score

    async def a_measure(self, case, *args, **kwargs):
        return self.measure(case)

    def is_successful(self):
        return self.success

    @property
    def __name__(self):
        return "Rows"


for asynchronous in True, False:
    assert_test(LLMTestCase(input="Which?", actual_output="SELECT 1"), [Rows(limit=5)], run_async=asynchronous)
PYTHON
seen=$(DEEPEVAL_TELEMETRY_OPT_OUT=YES venv/bin/python look.py 2>/dev/null | grep "^limit")
echo "$seen"
# Output seen, 29 November 2026, of a metric made with 5:
#   limit 30
#   limit 5
test "$seen" = "limit 30
limit 5" || { echo "changed: the metric that was given is asked" >&2; exit 1; }
