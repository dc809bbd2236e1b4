#!/usr/bin/env bash
# polars 2.1.0 with Python's sqlite3: `read_database`, and `DataFrame` of rows.
#
# A good engineer would guess: where the rows that a column's type is taken from (the first 100) were whole numbers and a
# later one is not, the column becomes one of floats, or reading ends in an error, as it does for a later text. `strict`,
# which is the default of `DataFrame`, promises an error for whatever does not match exactly.
# Seen: the fraction is cut off in silence: 12.5 is read as 12. A text, a NaN or a number too large raises ComputeError; of
# columns instead of rows, 12.5 raises TypeError. `infer_schema_length=None` looks at all rows first.
# SQLite makes this likely: a column of type DECIMAL or NUMERIC stores 12.0 as the integer 12, and gives whole prices as
# ints, others as floats, row by row. A REAL column has floats alone.
# For who compares a query's result with gold's through polars: sums differ from SQLite's own, two different answers become
# equal, and an ORDER BY decides which. Here rows are compared as sqlite3 gives them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q polars==2.1.0 2>/dev/null
cat > "$folder/look.py" <<'PYTHON'
import sqlite3

import polars

prices = [10.0] * 100 + [12.5]


def read(kind, later=(), **options):
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE TABLE item (price {kind})")
    connection.executemany("INSERT INTO item VALUES (?)", [(price,) for price in [*prices, *later]])
    try:
        column = polars.read_database("SELECT price FROM item ORDER BY rowid", connection, **options)["price"]
        return f"{column.dtype}, last {column[-1]}, sum {column.sum()}"
    except polars.exceptions.ComputeError:
        return "ComputeError"


print("REAL:", read("REAL"))
print("DECIMAL:", read("DECIMAL(10, 2)"))
print("DECIMAL, all rows looked at:", read("DECIMAL(10, 2)", infer_schema_length=None))
print("DECIMAL, a text at the end:", read("DECIMAL(10, 2)", later=["unknown"]))
rows = polars.DataFrame([(10,)] * 100 + [(12.5,)], schema=["price"], orient="row", strict=True)
print("rows, strict=True:", rows["price"].dtype, "last", rows["price"][-1])
try:
    print("columns:", polars.DataFrame({"price": [10] * 100 + [12.5]}).schema)
except TypeError:
    print("columns: TypeError")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/look.py" 2>/dev/null)
echo "$seen"
# Output seen, 30 November 2026:
#   REAL: Float64, last 12.5, sum 1012.5
#   DECIMAL: Int64, last 12, sum 1012
#   DECIMAL, all rows looked at: Float64, last 12.5, sum 1012.5
#   DECIMAL, a text at the end: ComputeError
#   rows, strict=True: Int64 last 12
#   columns: TypeError
test "$seen" = "REAL: Float64, last 12.5, sum 1012.5
DECIMAL: Int64, last 12, sum 1012
DECIMAL, all rows looked at: Float64, last 12.5, sum 1012.5
DECIMAL, a text at the end: ComputeError
rows, strict=True: Int64 last 12
columns: TypeError" || { echo "changed: the fraction is kept or refused" >&2; exit 1; }
