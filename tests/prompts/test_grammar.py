"""The grammar of a schema's answers, by the engine that reads it, and held against SQLite."""

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from text2sql.data.schema import Column, Schema, Table, schema_from_sqlite
from text2sql.data.spider import open_spider
from text2sql.experiments.grammar import Schemas, golds, refused, seconds_to_compile
from text2sql.model.constrained import Constraints
from text2sql.prompts.answers import extract_sql

LEAGUE = Schema(
    "league",
    (
        Table("team", (Column("id", "INTEGER"), Column("home town", "TEXT"), Column("count", "INT"))),
        Table("player", (Column("name", "TEXT"), Column("team_id", "INT"), Column("order", ""), Column("Größe", ""))),
    ),
)
ACCEPTED = [
    "SELECT count(*) FROM team",
    "SELECT COUNT ( DISTINCT name ) , max(team_id)  FROM player ;",
    "select distinct(name) from player",
    "SELECT count FROM team WHERE count > -1.5 AND count != 1e3".replace("1e3", "1000"),
    'SELECT T1."home town", t2.`order`, [Größe] FROM team AS T1 JOIN player t2 ON T1.id = t2.team_id',
    "SELECT name FROM player WHERE name LIKE '%o''x%' OR name = \"any text, even FROM nowhere\"",
    "SELECT name FROM player WHERE team_id BETWEEN 1 AND 2 GROUP BY name HAVING count(*) >= 2",
    "SELECT name AS n, count(*) AS 'how many' FROM player GROUP BY name ORDER BY n ASC LIMIT 2 OFFSET 1",
    'SELECT name FROM player WHERE team_id IN (SELECT id FROM team) UNION SELECT "home town" FROM team',
    "SELECT count(*) FROM (SELECT name FROM player GROUP BY name) AS t",
    "SELECT CASE WHEN count > 1 THEN 'many' WHEN id = 1 THEN 'few' ELSE 'one' END, CASE id WHEN 1 THEN 2 END FROM team",
    "SELECT CAST(count AS REAL) / 2, rank() OVER (ORDER BY count DESC) FROM team WHERE CAST(id AS TEXT) LIKE '1%'",
    "SELECT name FROM player WHERE order_ IS NOT NULL".replace("order_", '"order"'),
    "SELECT\n  name\nFROM\n  player\nWHERE team_id NOT IN (1, 2)",
    "```sql\nSELECT name FROM player;\n```",
    "```\nSELECT name FROM player\n```",
    " SELECT name FROM player",
]
REFUSED = [
    "",
    "Here is the query: SELECT name FROM player",
    "SELECT name FROM player\n\nThis query lists names.",
    "SELECT name FROM player; SELECT 1",
    "SELECT name FROM player -- all of them",
    "SELECT name FROM player   ",
    "SELECT nameFROM player",
    "SELECT names FROM player",
    "SELECT name FROM players",
    "SELECT year(name) FROM player",
    "SELECT name FROM player WHERE count(*) > 1",
    "SELECT name FROM player WHERE",
    "SELECT name FROM player WHERE (name = 'a'",
    "DELETE FROM player",
    "DROP TABLE player",
    "WITH t AS (SELECT 1) SELECT * FROM t",
    "PRAGMA table_info(player)",
    "SELECT name FROM sqlite_master",
    "```sql\nSELECT name FROM player;",
    "<think>\nSELECT name FROM player",
]


@pytest.fixture(scope="module")
def constraints():
    return Constraints.of_texts()


@pytest.mark.parametrize("answer", ACCEPTED)
def test_a_query_over_the_schema_is_accepted_and_read_whole(constraints, answer, tmp_path):
    assert constraints.accepts(answer, LEAGUE)
    query = extract_sql(answer)
    assert query == answer.strip("` \n").removeprefix("sql\n").strip("; \n")
    with sqlite3.connect(tmp_path / "league.sqlite") as connection:
        connection.executescript(created(LEAGUE))
        connection.execute(query)


@pytest.mark.parametrize("answer", REFUSED)
def test_what_is_none_or_goes_on_after_it_is_refused(constraints, answer):
    assert not constraints.accepts(answer, LEAGUE)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def created(schema: Schema) -> str:
    return "".join(
        f"CREATE TABLE {quoted(table.name)} ({', '.join(f'{quoted(c.name)} {c.type}' for c in table.columns)});\n"
        for table in schema.tables
    )


NAMES = st.one_of(
    st.sampled_from(
        [
            "select",
            "from",
            "order",
            "group",
            "match",
            "key",
            "T1",
            "a",
            "A b",
            "%_Change",
            "18_49",
            "x;--",
            "naïve",
            "名前",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8),
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_names_of_any_kind_make_a_grammar_that_knows_them(constraints, tmp_path_factory, data):
    fold = str.lower
    tables = data.draw(
        st.lists(NAMES.filter(lambda name: not name.startswith("sqlite_")), min_size=1, max_size=3, unique_by=fold)
    )
    path = tmp_path_factory.mktemp("odd") / "odd.sqlite"
    with sqlite3.connect(path) as connection:
        for table in tables:
            columns = data.draw(st.lists(NAMES, min_size=1, max_size=4, unique_by=fold))
            connection.execute(f"CREATE TABLE {quoted(table)} ({', '.join(map(quoted, columns))})")
        schema = schema_from_sqlite(path, "odd")
        for table in schema.tables:
            for column in table.columns:
                for query in (
                    f"SELECT alias_9.{quoted(column.name)} FROM {quoted(table.name)} AS alias_9",
                    f"SELECT {quoted(column.name)} FROM {quoted(table.name)} WHERE {quoted(column.name)} = 'x'",
                ):
                    connection.execute(query)
                    assert constraints.accepts(query, schema), query
            assert not constraints.accepts(
                f"SELECT alias_9.{quoted('no such ' + column.name)} FROM {quoted(table.name)} AS alias_9", schema
            )


def test_the_samples_golds_are_accepted(constraints, repository, tmp_path):
    with open_spider(repository / "data/sample/spider") as source:
        schemas = Schemas(source, lambda db_id: extracted(source, db_id, tmp_path))
        for split in ("train", "dev"):
            assert not any(refused(constraints, schemas, golds(source.examples(split))))


def extracted(source, db_id, folder):
    path = folder / f"{db_id}.sqlite"
    if not path.is_file():
        source.extract_database(db_id, path)
    return path


@pytest.mark.long
def test_spiders_golds_are_accepted_and_all_of_its_databases_compile(constraints, spider_zip, tmp_path):
    with open_spider(spider_zip) as source:
        schemas = Schemas(source, lambda db_id: extracted(source, db_id, tmp_path))
        assert len(seconds_to_compile(constraints, schemas)) == 166
        shares = {}
        for split in ("train", "dev"):
            found = list(refused(constraints, schemas, golds(source.examples(split))))
            shares[split] = 1 - sum(found) / len(found)
        assert shares["dev"] == 1 and shares["train"] > 0.999
