"""Which names a query can use, by the tables that it selects from: held against what SQLite says to the same query."""

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from text2sql.data.schema import schema_from_sqlite
from text2sql.prompts.scope import Names, accepts, columns_of

TABLES = """
    CREATE TABLE Student (StuID INTEGER PRIMARY KEY, Fname TEXT, Age INTEGER);
    CREATE TABLE Has_Pet (StuID INTEGER, PetID INTEGER);
    CREATE TABLE Pets (PetID INTEGER PRIMARY KEY, PetType TEXT, weight REAL);
    CREATE TABLE "match" ("order" INTEGER, "home town" TEXT, "quo""te" TEXT, 年齢 INTEGER);
"""
RUN = [
    "SELECT count(*) FROM Student",
    "select fname , AGE from STUDENT where age > 20 order by fname desc limit 3",
    "SELECT T1.Age FROM Student AS T1 JOIN Has_Pet AS T2 ON T1.StuID = T2.StuID JOIN Pets AS T3 ON T2.PetID = T3.PetID",
    "SELECT my_alias.Fname FROM Student my_alias WHERE my_alias.Age = (SELECT max(Age) FROM Student)",
    "SELECT s.Fname, so.PetType FROM Pets AS so JOIN Student AS s ON s.StuID = so.PetID",
    'SELECT "Student"."Fname", `Age`, [StuID] FROM "Student" WHERE Fname = "Linda" OR "Fname" = \'O\'\'Hara\'',
    "SELECT PetType, count(*) AS how_many FROM Pets GROUP BY PetType HAVING how_many > 1 ORDER BY how_many DESC",
    "SELECT Fname FROM Student WHERE StuID NOT IN (SELECT StuID FROM Has_Pet)",
    "SELECT Fname FROM Student AS T1 WHERE EXISTS (SELECT 1 FROM Has_Pet AS T2 WHERE T2.StuID = T1.StuID)",
    "SELECT StuID FROM Student EXCEPT SELECT StuID FROM Has_Pet ORDER BY StuID",
    "SELECT n FROM (SELECT count(*) AS n FROM Pets GROUP BY PetType) AS t WHERE n > 1".replace(
        "SELECT n", "SELECT count(*)"
    ),
    "SELECT Fname FROM Student GROUP BY Fname ORDER BY count(*) DESC, max(Age)",
    "SELECT Fname, count(*) FROM Student WHERE Age IN (SELECT max(Age) FROM Student) ORDER BY avg(Age)",
    "SELECT * FROM Student NATURAL JOIN Has_Pet WHERE StuID > 1",
    "SELECT Pets.*, Has_Pet.StuID FROM Pets, Has_Pet WHERE Pets.PetID = Has_Pet.PetID",
    'SELECT "order", "home town", `quo"te`, 年齢 FROM MATCH WHERE "quo""te" = \'x\'',
    'SELECT m."home town" FROM match AS m WHERE m."quo""te" LIKE "%a%" AND m.年齢 BETWEEN 1 AND 2',
    "SELECT CASE WHEN Age > 18 THEN 'old' ELSE Fname END FROM Student",
    "SELECT 'FROM nowhere', -1 + 2.5 FROM Student WHERE Fname LIKE '%(%'",
]
FAIL = [
    "SELECT PetType FROM Has_Pet",
    "SELECT PetType FROM Has_Pet WHERE StuID = 1",
    "SELECT Fname FROM Student WHERE PetType = 'dog'",
    "SELECT Fname FROM Student ORDER BY weight",
    "SELECT T1.Fname FROM Pets AS T1",
    "SELECT T1.Fname, T1.PetType FROM Student AS T1 JOIN Pets AS T2 ON T1.StuID = T2.PetID",
    "SELECT T2.Fname FROM Student AS T1",
    "SELECT Student.Fname FROM Student AS T1",
    "SELECT Fname FROM Student WHERE T9.Age = 1",
    "SELECT T1.Fname FROM Student AS T1 JOIN Has_Pet AS T2 ON T1.StuID = T2.Age",
    "SELECT StuID FROM Student JOIN Has_Pet ON Student.StuID = Has_Pet.StuID",
    "SELECT Fname FROM Student WHERE StuID IN (SELECT StuID FROM Has_Pet WHERE weight > 3)",
    "SELECT StuID FROM Student EXCEPT SELECT StuID FROM Pets WHERE PetType = 'Cat'",
    "SELECT Fname FROM Student AS T1 JOIN Has_Pet AS T1 ON T1.StuID = T1.StuID",
    "SELECT Fname FROM Students",
    "SELECT Fname FROM Student ORDER BY count(*) DESC",
]
# A beginning that can go on, what comes next, and whether it still can.
NEXT = [
    ("SELECT PetType FROM Student AS T1 JOIN Has_Pet AS T2 ON T1.StuID", " ", True),
    ("SELECT PetType FROM Student AS T1 JOIN Has_Pet AS T2 ON T1.Stu", " ", False),  # a space ends the name
    ("SELECT Fname FROM Student WHERE Ag", " ", False),
    ("SELECT Fname FROM Student WHERE lower", " ", True),  # a function, whose arguments may come
    ("SELECT Fname FROM Student JOIN Pets JOIN Pets JOIN P", "ets", True),
    ("SELECT Fname FROM Student JOIN Pets JOIN Pets JOIN Pets JOIN ", "P", False),  # a fourth time
]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    path = tmp_path_factory.mktemp("scope") / "pets.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(TABLES)
    return path


@pytest.fixture(scope="module")
def columns(database):
    return columns_of(schema_from_sqlite(database, "pets"))


def runs(database, query) -> bool:
    connection = sqlite3.connect(database)
    try:
        connection.execute(query)
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


@pytest.mark.parametrize("query", RUN)
def test_what_runs_is_accepted(database, columns, query):
    assert runs(database, query) and accepts(query, columns)


@pytest.mark.parametrize("query", FAIL)
def test_what_names_a_column_that_its_tables_lack_is_refused(database, columns, query):
    assert not runs(database, query) and not accepts(query, columns)


@pytest.mark.parametrize("fence", ["```sql\n{}\n```", "```\n{};\n```", "{};", "\n{}"])
@pytest.mark.parametrize(("query", "right"), [(RUN[2], True), (RUN[5], True), (FAIL[0], False), (FAIL[5], False)])
def test_a_fence_changes_nothing(columns, fence, query, right):
    assert accepts(fence.format(query), columns) is right


def test_a_name_is_refused_as_soon_as_it_cannot_be_mended(columns):
    """Not at the end, where nothing else is left to say."""
    state = Names(columns).after("SELECT T1.Fname FROM Student AS T1 WHERE T1.")
    assert state.after("A") and state.after("Fna") and not state.after("Pet") and not state.after("w")
    state = Names(columns).after("SELECT PetType FROM Has_Pet")
    assert state.after(" JOIN") and not state.after(" WHERE") and not state.after(" LIMIT") and not state.can_end()
    assert state.after(" JOIN Pets ON Has_Pet.PetID = Pets.PetID WHERE").after(" weight")
    state = Names(columns).after("SELECT T1.PetType FROM Has_Pet AS T")
    assert state.after("2 JOIN Pets AS T1 ON T1.PetID = T2.PetID").can_end() and not state.after("1")


def test_a_bare_name_is_not_looked_for_in_the_select_around_it(database, columns):
    """SQLite would: `StuID` is then the outer row's own, and every row is found."""
    query = "SELECT Fname FROM Student WHERE StuID IN (SELECT StuID FROM Pets)"
    assert runs(database, query) and not accepts(query, columns)
    assert accepts(query.replace("(SELECT StuID", "(SELECT Student.StuID"), columns)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_however_a_query_is_cut_into_tokens_it_is_judged_alike(columns, data):
    query = data.draw(st.sampled_from(RUN))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(query) - 1), max_size=12)))
    state = Names(columns)
    for start, end in zip([0, *cuts], [*cuts, len(query)], strict=True):
        state = state.after(query[start:end])
        assert state is not None, query[:end]
    assert state.can_end()


@pytest.mark.parametrize(("beginning", "text", "goes_on"), NEXT)
def test_what_no_query_has_is_refused_at_once(columns, beginning, text, goes_on):
    state = Names(columns)
    for char in beginning:
        state = state.after(char)
    assert (state.after(text) is not None) == goes_on
