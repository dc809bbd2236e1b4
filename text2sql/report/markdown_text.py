"""Markdown's lists, tables and code blocks."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

DASH = "-"


def bullets(lines: Iterable[str]) -> str:
    """Return `lines` as a Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def as_text(line: str) -> str:
    """Return a line that may quote a database or a model so that nothing in it is Markdown or HTML."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", line)


def code_block(text: str) -> str:
    """Return `text` as a Markdown code block, fenced by more backticks than any in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table; a `|` or a line's end within a cell stays text."""
    from tabulate import tabulate

    cells = [[" ".join(str(cell).splitlines()).replace("|", "\\|") for cell in row] for row in rows]
    return tabulate(cells, headers=headings, tablefmt="github", disable_numparse=True)
