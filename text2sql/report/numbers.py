"""How numbers and names read in every report, table and comment: one definition each."""

import re
from typing import Any

from text2sql.comparison.result import SIGNIFICANCE


def in_percent(share: float, digits: int = 2) -> str:
    """Return a share in percent without the sign: 0.0725 -> `7.25`."""
    return f"{100 * share:.{digits}f}"


def percent(share: float, digits: int = 2) -> str:
    """Return a share as `7.25 %`."""
    return f"{in_percent(share, digits)} %"


def points(value: float, digits: int = 2) -> str:
    """Return points with their sign: `+3.77`, `-2.00`, `0.00`."""
    text = f"{value:+.{digits}f}"
    return text if float(text) else f"{0:.{digits}f}"


def interval(low: str, high: str) -> str:
    """Return an interval of numbers that are texts already: `5.83 to 8.99`."""
    return f"{low} to {high}"


def p_equation(p: float) -> str:
    """Return `p = 0.012`, or `p < 0.0001`, for a sentence."""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def p_value(p: float) -> str:
    """Return `0.012`, two significant digits, or `< 0.0001`; what is above 0.05 is never shown as 0.05."""
    if p < 0.0001:
        return "< 0.0001"
    text = f"{p:.2g}"
    return text if (float(text) <= SIGNIFICANCE) == (p <= SIGNIFICANCE) else f"{p:.4g}"


def count(value: float) -> str:
    """Return a whole number with thousands separated: 1034 -> `1,034`."""
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: 5025 -> `1 h 23 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def minutes(seconds: float, digits: int = 2) -> str:
    """Return a duration in minutes without the unit: 90 -> `1.50`."""
    return f"{seconds / 60:.{digits}f}"


def gigabytes(value: float) -> str:
    """Return gigabytes without the unit: `5.25`."""
    return f"{value:.2f}"


def number(value: Any) -> str:
    """Return a value as people write it: `2e-4`, `16`, `0.05`."""
    if not isinstance(value, float):
        return str(value)
    if value == 0 or abs(value) >= 0.001:
        return f"{value:.10g}"
    mantissa, _, exponent = f"{value:.10e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def spelled(value: int) -> str:
    """Return a small whole number as a word: 2 -> `two`; from ten on in digits."""
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return words[value] if value < len(words) else str(value)


def words(name: str) -> str:
    """Return a name from a file as words: `unknown_table` -> `unknown table`, `not_sql` -> `not SQL`."""
    proper = {"sql": "SQL", "mmlu": "MMLU", "spider": "Spider"}
    return " ".join(proper.get(word, word) for word in name.split("_"))


def true_minus(text: str) -> str:
    """Return a text with true minus signs in front of its numbers."""
    return re.sub(r"(?<![^\s(])-(?=\d)", "\N{MINUS SIGN}", text)
