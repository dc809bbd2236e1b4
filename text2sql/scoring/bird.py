"""Execution accuracy as BIRD defines it (Li et al., 2023): `evaluation_ex.py` of bird-bench/mini_dev.

Both queries run as they are written, and are right where their results are the same set of rows. Otherwise than by the
paper's definition, which is the same comparison,

- a text without a statement (empty, a comment, a semicolon) is a result without rows: right where gold has none;
- a result with text that is not UTF-8 fails, gold's too;
- both queries together have 30 seconds. There it is the clock's, here the processor's, which a busy machine leaves as
  it is; the sandbox's own limits count besides (`Verdict.stopped`);
- a gold query that fails makes any answer wrong.

That script pairs answers and questions by their order in its files, so that a missing answer shifts all that follow;
here an answer belongs to the question that it names (`text2sql.scoring.predictions`). Its soft F1 depends on the order
in which rows happen to come, and is not computed.
"""

from text2sql.execution.executor import Result

DIFFICULTIES = ("simple", "moderate", "challenging")
SECONDS = 30.0  # for gold and prediction together: the script's `--meta_time_out`


def bird_equal(gold: Result, predicted: Result) -> bool:
    """Return whether a prediction is right, by its result and that of gold."""
    if gold.error is not None or (predicted.error is not None and predicted.error_kind != "empty"):
        return False
    if gold.lossy or predicted.lossy:
        return False
    # A query with gold's program was not run again: it takes as long.
    if gold.seconds + (gold.seconds if predicted.same_as is not None else predicted.seconds) > SECONDS:
        return False
    return set(gold.rows) == set(predicted.rows)
