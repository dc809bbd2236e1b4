"""Queries that attack the sandbox, and the folder that they attack."""

import sqlite3
from pathlib import Path

SECRET = "the secret of another file"


ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"


# One row of calls without a step between them, each a quadratic search: minutes in which SQLite asks nobody.
DEAF = "SELECT " + ", ".join(f"instr(hex(zeroblob(124000)), hex(zeroblob(62000)) || {n})" for n in range(1_500))


def build_database(path: Path) -> None:
    """Write a small database with a table of each kind that the attacks name."""
    connection = sqlite3.connect(path)
    connection.executescript(
        """
        CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT, age INTEGER);
        INSERT INTO singer VALUES (1, 'Joe', 52), (2, 'Rosé', 43), (3, NULL, 43);
        CREATE INDEX by_age ON singer (age);
        CREATE VIEW adults AS SELECT name FROM singer WHERE age > 50;
        CREATE TRIGGER guard BEFORE DELETE ON singer BEGIN SELECT 1; END;
        CREATE TABLE numbers (n INTEGER);
        INSERT INTO numbers
            WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 2000) SELECT n FROM r;
        CREATE TABLE odd (value);
        INSERT INTO odd
            VALUES (1), (1.5), (NULL), (x'00ff'), (CAST(x'61ff62' AS TEXT)), (-9223372036854775808), (9e999);
        """
    )
    connection.close()


def build_folder(folder: Path) -> None:
    """Write the database under attack, and beside it what must not be read."""
    build_database(folder / "main.sqlite")
    connection = sqlite3.connect(folder / "other.sqlite")
    with connection:
        connection.execute("CREATE TABLE secret (text)")
        connection.execute("INSERT INTO secret VALUES (?)", (SECRET,))
    connection.close()
    (folder / "secret.txt").write_text(SECRET)


def contents(folder: Path) -> dict[str, bytes]:
    """Return {name: bytes} of the files in `folder`."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


ALLOWED = {
    "columns": "SELECT name, age FROM singer ORDER BY id",
    "every kind of value": "SELECT value FROM odd ORDER BY rowid",
    "join and group": "SELECT s.age, count(*) FROM singer s JOIN numbers ON s.age = n GROUP BY 1 HAVING count(*) > 0",
    "set operations": "SELECT age FROM singer UNION SELECT 1 EXCEPT SELECT 2 INTERSECT SELECT 3",
    "subqueries": "SELECT name FROM singer WHERE age IN (SELECT max(age) FROM singer) AND EXISTS (SELECT 1)",
    "view": "SELECT count(*) FROM adults",
    "WITH": "WITH a AS (SELECT age FROM singer), b AS (SELECT count(*) FROM a) SELECT * FROM b",
    "recursion": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 9) SELECT sum(n) FROM r",
    "windows": "SELECT name, row_number() OVER (ORDER BY id), lag(age) OVER (ORDER BY id) FROM singer",
    "VALUES": "VALUES (1, 'a'), (2, x'00')",
    "the catalogue": "SELECT type, name FROM sqlite_master ORDER BY name",
    "the catalogue's other name": "SELECT count(*) FROM sqlite_schema",
    "text functions": "SELECT upper(name), substr(name, 2), replace(name, 'o', '0'), printf('%05d', age) FROM singer",
    "dates": "SELECT strftime('%Y', '2020-02-03'), julianday('2020-02-03'), date('2020-01-31', '+1 month')",
    "JSON": "SELECT json_extract('{\"a\": [1, 2]}', '$.a[1]'), json_array(1, 'x')",
    "JSON tables": "SELECT j.value FROM json_each('[3, 4]') j",
    "patterns": "SELECT name LIKE 'j%', name GLOB 'J*' FROM singer",
    "words in quotes": "SELECT \"DROP TABLE\", '; DELETE FROM singer' FROM singer",
    "a comment in front": "-- which singers?\n/* all */ SELECT id FROM singer",
    "a semicolon behind": "SELECT id FROM singer; -- all",
}


WRITES = {
    "INSERT": "INSERT INTO singer VALUES (9, 'x', 1)",
    "INSERT from SELECT": "INSERT INTO numbers SELECT n FROM numbers",
    "INSERT behind WITH": "WITH a AS (SELECT 1) INSERT INTO numbers SELECT * FROM a",
    "INSERT that returns": "INSERT INTO numbers VALUES (1) RETURNING n",
    "upsert": "INSERT INTO singer VALUES (1, 'x', 1) ON CONFLICT (id) DO UPDATE SET name = 'x'",
    "REPLACE": "REPLACE INTO singer VALUES (1, 'x', 1)",
    "UPDATE": "UPDATE singer SET age = 0",
    "UPDATE behind WITH": "WITH a AS (SELECT 1) UPDATE singer SET age = 0",
    "DELETE": "DELETE FROM singer",
    "DELETE behind WITH": "WITH a AS (SELECT 1) DELETE FROM singer WHERE id IN a",
    "DELETE behind comments": "/* SELECT */ -- SELECT\n DELETE FROM singer",
    "DROP TABLE": "DROP TABLE singer",
    "DROP TABLE IF EXISTS": "DROP TABLE IF EXISTS singer",
    "DROP VIEW": "DROP VIEW adults",
    "DROP INDEX": "DROP INDEX by_age",
    "DROP TRIGGER": "DROP TRIGGER guard",
    "CREATE TABLE": "CREATE TABLE new (a)",
    "CREATE TABLE AS": "CREATE TABLE new AS SELECT * FROM singer",
    "CREATE TEMP TABLE": "CREATE TEMP TABLE new AS SELECT * FROM singer",
    "CREATE VIEW": "CREATE VIEW new AS SELECT 1",
    "CREATE TEMP VIEW": "CREATE TEMP VIEW new AS SELECT 1",
    "CREATE INDEX": "CREATE INDEX new ON singer (name)",
    "CREATE TRIGGER": "CREATE TRIGGER new AFTER INSERT ON singer BEGIN DELETE FROM singer; END",
    "CREATE TEMP TRIGGER": "CREATE TEMP TRIGGER new AFTER INSERT ON singer BEGIN DELETE FROM singer; END",
    "CREATE VIRTUAL TABLE": "CREATE VIRTUAL TABLE new USING fts4(a)",
    "ALTER TABLE RENAME": "ALTER TABLE singer RENAME TO new",
    "ALTER TABLE ADD": "ALTER TABLE singer ADD COLUMN new",
    "ALTER TABLE DROP": "ALTER TABLE singer DROP COLUMN name",
    "REINDEX": "REINDEX",
    "ANALYZE": "ANALYZE",
    "VACUUM": "VACUUM",
    "VACUUM INTO": "VACUUM INTO 'copy.sqlite'",
    "BEGIN": "BEGIN",
    "BEGIN EXCLUSIVE": "BEGIN EXCLUSIVE",
    "COMMIT": "COMMIT",
    "ROLLBACK": "ROLLBACK",
    "SAVEPOINT": "SAVEPOINT a",
    "RELEASE": "RELEASE a",
}


REFUSED = {
    "ATTACH of a file": "ATTACH 'other.sqlite' AS other",
    "ATTACH of a new file": "ATTACH DATABASE 'new.sqlite' AS other",
    "ATTACH of a URI": "ATTACH 'file:other.sqlite?mode=rwc' AS other",
    "ATTACH of memory": "ATTACH ':memory:' AS other",
    "DETACH": "DETACH main",
    "an extension": "SELECT load_extension('./evil.so')",
    "an extension with its entry": "SELECT load_extension('./evil.so', 'main')",
    "an extension in a condition": "SELECT 1 FROM singer WHERE load_extension('./evil.so') IS NULL",
    "a tokenizer's address": "SELECT hex(fts3_tokenizer('simple'))",
    "a new tokenizer": "SELECT fts3_tokenizer('mine', x'4141414141414141')",
    "the log": "SELECT sqlite_log(1, 'a line')",
    "PRAGMA that reads": "PRAGMA database_list",
    "PRAGMA that writes": "PRAGMA user_version = 7",
    "PRAGMA journal_mode": "PRAGMA journal_mode = WAL",
    "PRAGMA writable_schema": "PRAGMA writable_schema = ON",
    "PRAGMA query_only": "PRAGMA query_only = OFF",
    "PRAGMA temp_store_directory": "PRAGMA temp_store_directory = '.'",
    "PRAGMA hard_heap_limit": "PRAGMA hard_heap_limit = 1",
    "PRAGMA as a table": "SELECT * FROM pragma_database_list",
    "PRAGMA as a table, counted": "SELECT count(*) FROM pragma_database_list",
    "PRAGMA as a table with an argument": "SELECT name FROM pragma_table_info('singer')",
    "PRAGMA in a subquery": "SELECT 1 WHERE 'x' IN (SELECT name FROM pragma_function_list)",
    "EXPLAIN": "EXPLAIN SELECT * FROM singer",
    "EXPLAIN QUERY PLAN": "/* plan */ explain query plan SELECT * FROM singer",
    "EXPLAIN of a write": "EXPLAIN DELETE FROM singer",
}


UNKNOWN_OR_REFUSED = {
    "readfile": "SELECT readfile('secret.txt')",
    "writefile": "SELECT writefile('new.txt', 'x')",
    "edit": "SELECT edit('x', 'vi')",
    "fsdir": "SELECT * FROM fsdir('.')",
    "csv": "SELECT * FROM csv('secret.txt')",
    "zipfile": "SELECT * FROM zipfile('secret.txt')",
    "the pages of the file": "SELECT data FROM sqlite_dbpage",
    "statistics of the file": "SELECT name, path FROM dbstat",
    "the statements of the connection": "SELECT sql FROM sqlite_stmt",
    "a tokenizer as a table": "SELECT * FROM fts3tokenize('simple', 'a b')",
    "the byte code": "SELECT * FROM bytecode('SELECT 1')",
    "a schema that is not attached": "SELECT text FROM other.secret",
    "a file as a table": 'SELECT * FROM "other.sqlite".secret',
    "a build's own test functions": "SELECT rtreecheck('singer')",
}


LONG = {
    "endless recursion": ENDLESS,
    "endless recursion without duplicates": ENDLESS.replace("UNION ALL", "UNION"),
    "endless recursion over a table": ENDLESS.replace("n + 1 FROM r)", "r.n + 1 FROM r, numbers)"),
    "endless recursion in a condition": f"SELECT name FROM singer WHERE id = ({ENDLESS})",
    "a cross join": "SELECT count(*) FROM numbers a, numbers b, numbers c",
    "a cross join of sixty tables": "SELECT count(*) FROM " + ", ".join(f"numbers n{n}" for n in range(60)),
    "a cross join without a match": "SELECT a.n FROM numbers a, numbers b WHERE a.n + b.n < 0",
    "a cross join in order": "SELECT a.n FROM numbers a, numbers b ORDER BY a.n * b.n LIMIT 1",
    "a subquery for each row": "SELECT sum((SELECT count(*) FROM numbers b WHERE b.n % a.n = 0)) FROM numbers a",
    "distinct pairs": "SELECT count(*) FROM (SELECT DISTINCT a.n * 10000 + b.n FROM numbers a, numbers b)",
    "LIKE for each pair": "SELECT count(*) FROM numbers a, numbers b WHERE a.n || b.n LIKE '%1%2%3%4%5%6%7%'",
    "GLOB for each pair": "SELECT count(*) FROM numbers a, numbers b WHERE a.n || b.n GLOB '*[1-5]*[!6]*7*'",
    "printf for each pair": "SELECT max(printf('%099d%099d', a.n, b.n)) FROM numbers a, numbers b",
    "group_concat of a window": "SELECT length(group_concat(b.n) OVER (ORDER BY a.n ROWS 9 PRECEDING)) AS size"
    " FROM numbers a, numbers b ORDER BY size LIMIT 1",
    "a window over everything": "SELECT sum(n) OVER (ORDER BY n ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING"
    " EXCLUDE CURRENT ROW) FROM numbers ORDER BY 1",
    "a huge OFFSET": ENDLESS.replace("count(*)", "n") + " LIMIT 1 OFFSET 9223372036854775807",
}


DOUBLED = "WITH a0 AS NOT MATERIALIZED (SELECT 1 AS x)" + "".join(
    f", a{level + 1} AS NOT MATERIALIZED (SELECT a.x FROM a{level} a, a{level} b)" for level in range(25)
)


SLOW_CALLS = {
    "a query that doubles itself": DOUBLED + " SELECT count(*) FROM a25",
    "printf of a billion letters": "SELECT length(printf('%.*c', 900000000, 'x'))",
    "printf of a billion letters, again and again": "SELECT "
    + ", ".join(f"length(printf('%.*c', {900_000_000 + n}, 'x'))" for n in range(100)),
    "random bytes without end": "SELECT " + ", ".join(["length(hex(randomblob(120000)))"] * 1_900),
    "LIKE on long texts": "SELECT " + ", ".join(["hex(zeroblob(124000)) LIKE '%" + "0" * 240 + "1'"] * 300),
}


LARGE_VALUES = {
    "randomblob": "SELECT length(randomblob(900000000))",
    "zeroblob": "SELECT hex(zeroblob(900000000))",
    "hex": "SELECT hex(zeroblob(200000))",
    "quote": "SELECT quote(zeroblob(200000))",
    "replace": "SELECT length(" + "replace(" * 9 + "'aaaaaaaaaa'" + ", 'a', 'aaaaaaaaaa')" * 9 + ")",
    "a text joined to itself": "WITH RECURSIVE r(x) AS (SELECT 'a' UNION ALL SELECT x || x FROM r) SELECT 1 FROM r",
    "group_concat": "SELECT group_concat(a.n || 'xxxxxxxxxxxxxxxxxxxx') FROM numbers a, numbers b WHERE b.n < 20",
    "json_group_array": "SELECT json_group_array(a.n + 1000000) FROM numbers a, numbers b WHERE b.n < 20",
    "a row on its way to be sorted": "SELECT zeroblob(200000), zeroblob(200000) FROM numbers ORDER BY random()",
    "upper of a text": "SELECT upper(hex(zeroblob(130000)))",
}
