"""Whether a text is a query that SQLite parses, whatever its tables: nothing is executed."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from text2sql.execution.executor import Executor, Limits
from text2sql.scoring.failures import begins_as_query, is_syntax_error

# On an empty database a query stops at its first step, or before it, at the first name that is not there.
_LIMITS = Limits(max_steps=1)
_NOT_PARSED = ("empty", "invalid_text", "crash")


def are_queries(texts: Sequence[str], workers: int | None = None) -> list[bool]:
    """Return for each of `texts` whether it begins as a query does and SQLite parses it, in the sandbox's workers.

    Unknown tables, columns and functions are no matter of parsing. Raises RunError where workers do not start.
    """
    candidates = [text for text in dict.fromkeys(texts) if begins_as_query(text)]
    parsed: set[str] = set()
    if candidates:
        with tempfile.TemporaryDirectory(prefix="text2sql-") as folder, Executor(_LIMITS, workers) as executor:
            database = Path(folder, "empty.sqlite")
            database.touch()
            results = executor.run_all([(database, text) for text in candidates])
        for text, result in zip(candidates, results, strict=True):
            if result.error_kind not in _NOT_PARSED and not is_syntax_error(result.error or ""):
                parsed.add(text)
    return [text in parsed for text in texts]
