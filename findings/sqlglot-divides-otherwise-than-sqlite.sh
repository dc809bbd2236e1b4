#!/usr/bin/env bash
# sqlglot 30.30.0: SQLite's own SQL, read and written in SQLite's dialect.
#
# A good engineer would guess: `transpile(sql, read="sqlite", write="sqlite")` changes spelling and layout alone; the query
# gives the same rows, since SQLite took it as it was.
# Seen: `CAST(... AS NUMERIC)` and `AS DECIMAL` become `AS REAL`. In SQLite a whole number that is cast to NUMERIC stays an
# integer, and an integer divided by an integer is one: 7, where sqlglot's query gives 7.5. Integers over 2**53 lose digits,
# text that is joined to a number gets a `.0`; `CAST(... AS DATE)`, the integer 1990 in SQLite, becomes a call of
# date(), the text 1990-05-01. In CREATE TABLE a NUMERIC column becomes a REAL one.
# For who normalises text-to-SQL answers with sqlglot before they are executed: the cast that was to give a rate and gave
# an integer is the usual mistake there, and is repaired on the way: wrong answers are counted as right, and gold queries
# that were written so give other rows. Here the query is executed as the model wrote it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q sqlglot==30.30.0 2>/dev/null
cat > "$folder/look.py" <<'PYTHON'
import sqlite3

import sqlglot

connection = sqlite3.connect(":memory:")
connection.execute("CREATE TABLE singer (sold INTEGER, born TEXT)")
connection.executemany("INSERT INTO singer VALUES (?, ?)", [(10, "1990-05-01"), (5, "1985-01-01")])
for query in (
    "SELECT CAST(SUM(sold) AS NUMERIC) / COUNT(*) FROM singer",
    "SELECT CAST(MAX(sold) AS DECIMAL) / 4 FROM singer",
    "SELECT CAST(MAX(sold) AS NUMERIC) || ' sold' FROM singer",
    "SELECT CAST(9007199254740993 AS NUMERIC)",
    "SELECT CAST(MAX(born) AS DATE) FROM singer",
    "SELECT SUM(sold) / COUNT(*) FROM singer",
):
    again = sqlglot.transpile(query, read="sqlite", write="sqlite")[0]
    first, second = (connection.execute(text).fetchone()[0] for text in (query, again))
    print(f"{first!r} -> {second!r}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/look.py" 2>/dev/null)
echo "$seen"
# Output seen, 30 November 2026 (SQLite's answer to the query -> to sqlglot's copy of it):
#   7 -> 7.5
#   2 -> 2.5
#   '10 sold' -> '10.0 sold'
#   9007199254740993 -> 9007199254740992.0
#   1990 -> '1990-05-01'
#   7 -> 7
test "$seen" = "7 -> 7.5
2 -> 2.5
'10 sold' -> '10.0 sold'
9007199254740993 -> 9007199254740992.0
1990 -> '1990-05-01'
7 -> 7" || { echo "changed: other casts are written" >&2; exit 1; }
