"""Why a prediction is wrong: each has exactly one cause.

A query that fails is sorted by what the sandbox or SQLite said, one that runs by how its result differs from gold's,
with the official evaluator's comparison (`text2sql.scoring.official`). The paper (section II.A) tells three groups:
schema hallucination, conversational answers and wrong logic. A result that gold itself might have had, where rows tie
at its LIMIT, is of none of them.
"""

import re
from collections.abc import Mapping

from text2sql.execution.executor import Result
from text2sql.scoring.official import Rows, official_equal

TIE = "tie"  # wrong officially by a tie at gold's LIMIT alone: `text2sql.scoring.ties`
CAUSE_GROUPS: Mapping[str, tuple[str, ...]] = {
    "schema_hallucination": ("unknown_table", "unknown_column"),
    "conversational_answer": ("not_sql",),
    "wrong_logic": ("wrong_rows", "wrong_order", "wrong_duplicates", "wrong_columns", "empty_result"),
    "other": ("syntax_error", "limit_reached", "result_too_large", "forbidden_operation", "other_error", TIE),
}
CAUSES = (
    "unknown_table",
    "unknown_column",
    "not_sql",
    "syntax_error",
    "limit_reached",
    "result_too_large",
    "forbidden_operation",
    "other_error",
    "wrong_rows",
    "wrong_order",
    "wrong_duplicates",
    "wrong_columns",
    "empty_result",
    TIE,
)

_OF_KIND = {
    "limit": "limit_reached",
    "too_large": "result_too_large",
    "forbidden": "forbidden_operation",
    "crash": "other_error",
    "multiple": "other_error",
    "empty": "not_sql",
    "invalid_text": "not_sql",
    "width": "wrong_columns",
}
_UNKNOWN_TABLE = re.compile(r"no such table: ")
# The second is SQLite's answer to USING with a column that one of the tables does not have.
_UNKNOWN_COLUMN = re.compile(r"no such column: |cannot join using column ")
_SYNTAX_ERROR = re.compile(
    r"""near\ ".*":\ syntax\ error | incomplete\ input | unrecognized\ token: | .*\ should\ come\ (?:after|before)\ .*
    | unknown\ (?:or\ unsupported\ )?join\ type: | a\ JOIN\ clause\ is\ required\ before""",
    re.VERBOSE | re.DOTALL,
)
# What a query can begin with: WITH before a name, and VALUES before a row, for both are words of plain language too.
_QUERY = re.compile(
    r"""(?: \s | \( | --[^\n]*+ | /\*.*?\*/ )*+
    (?:
        select\b
      | with\s+ (?:recursive\s+)? (?: \w+ | "[^"]*" | `[^`]*` | \[[^]]*\] ) \s* (?: \( | as\b )
      | values\s*\(
    )""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def begins_as_query(sql: str) -> bool:
    """Return whether a text begins as a query does."""
    return _QUERY.match(sql) is not None


def is_syntax_error(message: str) -> bool:
    """Return whether SQLite's `message` says that a text cannot be parsed."""
    return _SYNTAX_ERROR.match(message) is not None


def cause_of_error(sql: str, result: Result) -> str:
    """Return why `sql`, whose `result` is an error, failed.

    Not SQL is a text that fails and does not begin as a query does, whatever SQL stands in it later. A column whose
    name is ambiguous is no unknown column: it is in the schema, twice (`other_error`).
    """
    cause = _OF_KIND.get(result.error_kind or "")
    if cause is not None:
        return cause
    error = result.error or ""
    if _UNKNOWN_TABLE.match(error):
        return "unknown_table"
    if _UNKNOWN_COLUMN.match(error):
        return "unknown_column"
    if not begins_as_query(sql):
        return "not_sql"
    return "syntax_error" if is_syntax_error(error) else "other_error"


def cause_of_difference(gold: Rows, predicted: Rows) -> str:
    """Return how the rows of a prediction differ from gold's, for two results that are not equal by the official rule.

    The first that holds: no rows at all; another number of columns; the same rows in another order; the same rows,
    but not equally often; other rows. A long query with another number of columns than gold's is not run to its end
    (`Result.error_kind` is width): that is wrong columns, whether or not rows would have come.
    """
    if not predicted:
        return "empty_result"
    if not gold:
        return "wrong_rows"
    if len(gold[0]) != len(predicted[0]):
        return "wrong_columns"
    if official_equal(gold, predicted, order_matters=False):
        return "wrong_order"
    if official_equal(list(dict.fromkeys(gold)), list(dict.fromkeys(predicted)), order_matters=False):
        return "wrong_duplicates"
    return "wrong_rows"
