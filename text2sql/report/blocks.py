"""Blocks of generated Markdown in files that people write: from `<!-- NAME: … -->` to `<!-- end of NAME -->`."""

from collections.abc import Mapping
from pathlib import Path

from text2sql.core.errors import UserError
from text2sql.core.files import write_text


def update_blocks(path: Path, blocks: Mapping[str, str], write: bool) -> bool:
    """Return whether a block of the file `path` is not current; with `write`, make all of them so.

    `blocks` has the Markdown of each by its name. Raises UserError where one is missing in the file.
    """
    before = text = path.read_text(encoding="utf-8")
    for name, block in blocks.items():
        head, start, rest = text.partition(f"<!-- {name}:")
        opening, closed, rest = rest.partition("-->\n")
        _, end, tail = rest.partition(f"<!-- end of {name} -->")
        if not (start and closed and end):
            raise UserError(f"{path}: wanted one block from <!-- {name}: … --> to <!-- end of {name} -->")
        text = f"{head}{start}{opening}{closed}\n{block}\n\n{end}{tail}"
    if write and text != before:
        write_text(path, text)
    return text != before
