"""Names of tables and columns, as SQL writes them."""

import functools
import re

# The keywords that SQLite 3.40 refuses as the name of a table or column unless quoted; it takes the others.
_RESERVED = frozenset(
    "add all alter and as autoincrement between case cast check collate commit constraint create current_date "
    "current_time current_timestamp default deferrable delete distinct drop else escape except exists foreign from "
    "group having if in index insert intersect into is isnull join limit not nothing notnull null on or order primary "
    "raise references returning select set table then to transaction union unique update using values when "
    "where".split()
)
_PLAIN_NAME = re.compile(r"[^\W\d]\w*")


@functools.cache
def is_plain_name(name: str) -> bool:
    """Return whether SQLite takes `name`, of a table or column, without quotes."""
    return _PLAIN_NAME.fullmatch(name) is not None and name.lower() not in _RESERVED


def quoted(name: str) -> str:
    """Return a table's or column's name as a query has to write it: in double quotes only where SQLite needs them."""
    return name if is_plain_name(name) else '"' + name.replace('"', '""') + '"'
