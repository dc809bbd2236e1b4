"""What a model's answers to MMLU in chat come to: how many are letters, how many SQL, and how many are right."""

from collections.abc import Mapping, Sequence
from typing import Any

from text2sql.core.intervals import wilson_interval
from text2sql.core.journal import HALVED
from text2sql.data.mmlu import letter_shares

# What an answer is: it names one option, or is a query that SQLite parses, or neither.
LETTER, SQL, OTHER = "letter", "sql", "other"
KINDS = (LETTER, SQL, OTHER)


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return accuracy with its 95 % Wilson interval, counts and shares of each kind, and answers cut at the limit.

    A record needs `kind`, `choice`, `correct` and `at_limit`, and `HALVED` where its batch was asked in halves. An
    answer that names no option is wrong. `letters` are the shares of each letter among the answers that name one.
    """
    total, correct = len(records), sum(record["correct"] for record in records)
    low, high = wilson_interval(correct, total)
    counts = {kind: sum(record["kind"] == kind for record in records) for kind in KINDS}
    in_halves = sum(bool(record.get(HALVED)) for record in records)
    return {
        "accuracy": round(correct / (total or 1), 6),
        "accuracy_low": round(low, 6),
        "accuracy_high": round(high, 6),
        "correct": correct,
        "total": total,
        **{f"{kind}_answers": count for kind, count in counts.items()},
        **{f"{kind}_share": round(count / (total or 1), 6) for kind, count in counts.items()},
        "letters": letter_shares([record["choice"] for record in records if record["choice"] is not None]),
        "at_token_limit": sum(record["at_limit"] for record in records),
        **({"questions_in_halved_batches": in_halves} if in_halves else {}),
    }
