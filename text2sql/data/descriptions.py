"""What BIRD's files say of columns: `<db_id>/database_description/<table>.csv`.

Written by many hands: with a byte order mark or without, in UTF-8 or in Windows' encoding, with space around names, and
not of every column.
"""

import csv
import io

from text2sql.core.errors import UserError
from text2sql.data.archives import Archive

DESCRIPTIONS = "database_description"
_FIELDS = ("column_description", "value_description")


def read_descriptions(archive: Archive, folder: str) -> dict[tuple[str, str], str]:
    """Return {(table, column): what is said of it, on one line}, names in lower case; none where there is no folder.

    Raises UserError where a file is no CSV.
    """
    found = {}
    for name in archive.names(folder):
        if not name.lower().endswith(".csv") or name.startswith("."):
            continue
        for line in _lines(archive, f"{folder}/{name}"):
            said = [" ".join((line.get(field) or "").split()) for field in _FIELDS]
            column = (line.get("original_column_name") or "").strip()
            if column and any(said):
                found[name[:-4].strip().lower(), column.lower()] = "; ".join(filter(None, said))
    return found


def _lines(archive: Archive, name: str) -> list[dict]:
    try:
        return list(csv.DictReader(io.StringIO(_text(archive.read(name)), newline="")))
    except csv.Error as error:
        raise UserError(f"{archive.describe(name)}: not valid CSV: {error}") from None


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")
