"""`prompt.schema: rich`: what the model is told to the letter, which values a question names, what is cut."""

import contextlib
import json
import sqlite3

import pytest

from text2sql.data.schema import Column, ForeignKey, Schema, Table, schema_from_sqlite
from text2sql.data.spider import open_spider
from text2sql.model.bases import CARRIED, EMBEDDED_BASE, converted_folder, embedded_base
from text2sql.prompts.messages import FewShot, in_order, spider_messages
from text2sql.prompts.rich import RichSchemas, in_folders, tokens_at_most

SCRIPT = """
CREATE TABLE singer (
    singer_id INTEGER PRIMARY KEY, name TEXT, "home country" TEXT, age INT, bio TEXT, photo BLOB
);
CREATE TABLE concert (
    concert_id INTEGER PRIMARY KEY, singer_id INT REFERENCES singer (singer_id), city TEXT, "order" TEXT, day TEXT
);
INSERT INTO singer VALUES
    (1, 'Joe Sharp', 'France', 30, NULL, x'00'), (2, 'Zoë', 'Peru', 41, NULL, NULL),
    (3, 'O''Neil', 'France', 30, 'Born in the far north, and then a very long story of a life', NULL);
INSERT INTO concert VALUES (7, 1, 'New York City', 'A', '2014-05-06'), (8, 2, 'York', 'B', '2014-05-07');
"""
SINGER = (
    "singer(singer_id INTEGER PRIMARY KEY [1], name TEXT ['Joe Sharp', 'Zoë', 'O''Neil'], "
    "\"home country\" TEXT ['France', 'Peru'], age INT [30, 41], "
    "bio TEXT ['Born in the far north, and th…'], photo BLOB)"
)
CONCERT = (
    "concert(concert_id INTEGER PRIMARY KEY [7], singer_id INT REFERENCES singer(singer_id) [1], "
    "city TEXT ['New York City', 'York'], \"order\" TEXT ['A', 'B'], day TEXT ['2014-05-06', '2014-05-07'])"
)


@pytest.fixture
def build(tmp_path):
    """Return a function that builds a database from SQL, and gives its schema."""

    def make(script, name="concerts"):
        path = tmp_path / name / f"{name}.sqlite"
        path.parent.mkdir()
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)
        return schema_from_sqlite(path, name)

    return make


@pytest.fixture
def rich(tmp_path):
    return RichSchemas(in_folders(tmp_path), 10_000)


@pytest.fixture
def asked(build, rich):
    """Return a function from a question to what the prompt says of values that it names, maybe nothing."""
    schema = build(SCRIPT)

    def ask(question):
        *_, last = rich.show(question, schema).splitlines()
        return last.removeprefix("Values: ") if last.startswith("Values: ") else ""

    return ask


def content(messages):
    (message,) = messages
    return message["content"]


def test_the_prompt_is_the_schema_with_values_then_the_questions_values_then_the_question(build, rich):
    schema = build(SCRIPT)
    found = content(spider_messages("Who is from france?", schema, "rich", rich=rich))
    assert found == (
        f"Answer with one SQLite query.\n{SINGER}\n{CONCERT}\nValues: singer.\"home country\" = 'France'\n"
        "Who is from france?"
    )
    without = content(spider_messages("How many?", schema, "rich", rich=rich))
    assert without == f"Answer with one SQLite query.\n{SINGER}\n{CONCERT}\nHow many?"
    turned = content(spider_messages("How many?", schema, "rich", order="reversed", rich=rich))
    assert turned == f"Answer with one SQLite query.\n{CONCERT}\n{SINGER}\nHow many?"
    assert rich.lines() == []


@pytest.mark.parametrize(
    ("question", "values"),
    [
        ("Which singers come from FRANCE?", "singer.\"home country\" = 'France'"),
        ("How old is joe sharp?", "singer.name = 'Joe Sharp'"),
        ("How old is Sharp?", "singer.name = 'Joe Sharp'"),  # half of a name
        ("How sharp is it?", ""),  # no name
        ("Concerts in New York City?", "concert.city = 'New York City'"),  # and not York
        ("Concerts in York?", "concert.city = 'York'"),
        ("What of ZOË and O'Neil?", "singer.name = 'Zoë', singer.name = 'O''Neil'"),
        ("Concerts on 2014-05-07?", "concert.day = '2014-05-07'"),
        ("Which have order B, and a day?", "concert.\"order\" = 'B'"),
        ("A list of a singer", ""),
        ("", ""),
    ],
)
def test_values_that_a_question_names(asked, question, values):
    assert asked(question) == values


def test_a_value_in_several_columns_is_shown_in_the_one_that_is_named_first(build, rich):
    schema = build(
        "CREATE TABLE a (x TEXT, nation TEXT); INSERT INTO a VALUES ('Peru', 'Peru');"
        "CREATE TABLE b (country TEXT, y TEXT); INSERT INTO b VALUES ('Peru', 'Peru'), ('PERU', 'Peru');"
    )
    shown = rich.show("Which countries, as Peru?", schema)
    assert shown.endswith("Values: b.country = 'Peru', a.x = 'Peru', a.nation = 'Peru'")
    many = "; ".join(f"CREATE TABLE t{i} (c TEXT); INSERT INTO t{i} VALUES ('v{i} w')" for i in range(20))
    line = rich.show(" ".join(f"v{i} w" for i in range(20)), build(many, "many")).splitlines()[-1]
    assert line.count(" = ") == 6


def test_what_a_chat_template_would_take_for_its_own_is_not_shown(build, rich):
    schema = build("CREATE TABLE t (a, b TEXT); INSERT INTO t VALUES ('<|im_end|>', 'two' || char(10) || 'lines');")
    assert rich.show("What of '<|im_end|>' and im_end?", schema) == "t(a, b TEXT ['two lines'])"


def test_descriptions_stand_beside_types(build, rich):
    schema = build(SCRIPT).described({("singer", "age"): "in years"})
    assert "age INT -- in years -- [30, 41]" in rich.show("?", schema)


def test_a_database_that_is_not_there_is_shown_without_values_and_said(build, rich):
    elsewhere = Schema("elsewhere", build(SCRIPT).tables)
    shown = rich.show("Who is from France?", elsewhere)
    assert "[" not in shown and "Values" not in shown and "singer_id INTEGER PRIMARY KEY," in shown
    assert rich.lines() == ["no values of 1 databases whose files are not there: elsewhere"]


def test_worked_examples_have_no_values_whatever_databases_there_are(build, rich):
    schema = build(SCRIPT)
    shots = [FewShot("concerts", "Who is from France?", "SELECT 1", schema)]
    text = content(spider_messages("Who is from Peru?", schema, "rich", shots, rich=rich))
    first, last = text.split("\n\n")[1:]
    assert "[" not in first and first.endswith("SQL: SELECT 1") and "'France'" not in first
    assert last.startswith(f"{SINGER}\n{CONCERT}\nValues: singer.\"home country\" = 'Peru'\nQuestion: Who")


def wide(tables=30, columns=12):
    """Return a script of a database that takes far more room than there is."""
    made = [
        f"CREATE TABLE part_{t} (part_{t}_id INTEGER PRIMARY KEY, "
        + ", ".join(f"field_{t}_{c} TEXT" for c in range(columns))
        + f", next_id INT REFERENCES part_{(t + 1) % tables} (part_{(t + 1) % tables}_id));"
        + f"INSERT INTO part_{t} VALUES ({t}, {', '.join(repr(f'value {t} {c}') for c in range(columns))}, 1);"
        for t in range(tables)
    ]
    return "".join(made) + "CREATE TABLE violin (maker TEXT, price INT); INSERT INTO violin VALUES ('Amati', 9);"


@pytest.mark.parametrize("room", [60, 300, 1000, 3000])
def test_what_the_question_names_stays_when_the_schema_is_cut_and_the_cut_is_counted(build, tmp_path, room):
    schema = build(wide())
    rich = RichSchemas(in_folders(tmp_path), room)
    shown = rich.show("What do violins by Amati cost?", schema)
    assert tokens_at_most(shown) <= room
    assert "violin(maker TEXT ['Amati'], price INT" in shown and "violin.maker = 'Amati'" in shown
    assert ("part_29" in shown) == (room == 3000)
    rich.show("How many parts are there?", schema)
    said = f"the schema was cut in 2 of 2 prompts, to prompt.schema_tokens {room:,}"
    assert rich.lines() == [said]
    assert rich.show("What do violins by Amati cost?", schema) == shown and rich.lines() == [said]


def test_a_key_is_not_shown_to_refer_to_what_was_cut(build, tmp_path):
    schema = build(wide())
    shown = RichSchemas(in_folders(tmp_path), 400).show("Which has 'value 3 2'?", schema)
    tables = {line.partition("(")[0] for line in shown.splitlines()}
    referred = {part.partition("(")[0] for part in shown.split("REFERENCES ")[1:]}
    assert referred <= tables and "part_3" in tables


def test_something_is_shown_in_any_room(build, tmp_path):
    shown = RichSchemas(in_folders(tmp_path), 1).show("How many?", build(SCRIPT))
    assert shown == "singer(singer_id INTEGER PRIMARY KEY)"


def test_prompts_about_one_database_begin_alike(build, rich):
    schema = build(SCRIPT)
    shown = [rich.show(question, schema) for question in ("Who is from France?", "Who is from Peru?", "Who?")]
    assert len({text.partition("\nValues")[0] for text in shown}) == 1


def tokenizers():
    """Return the tokenizers of the carried bases that are on this machine, SmolLM2's in any case."""
    from transformers import AutoTokenizer

    folders = {EMBEDDED_BASE: embedded_base()}
    folders |= {name: converted_folder(base.file, base.sha256) for name, base in CARRIED.items()}
    return [AutoTokenizer.from_pretrained(folder) for folder in folders.values() if folder.is_dir()]


def assert_never_more(texts):
    for tokenizer in tokenizers():
        for text in texts:
            assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= tokens_at_most(text), text


def rich_texts(spider, folder):
    """Return what is shown of each database that a train example names, values and all, and of the first questions."""
    with open_spider(spider) as source:
        examples = source.examples("train")
        there = source.database_ids()
        first = {example.db_id: example for example in reversed(examples) if example.db_id in there}
        for db_id in first:
            source.extract_database(db_id, folder / db_id / f"{db_id}.sqlite")
    rich = RichSchemas(in_folders(folder), 10**9)
    return [
        rich.show(example.question, schema_from_sqlite(folder / db_id / f"{db_id}.sqlite", db_id))
        for db_id, example in sorted(first.items())
    ]


def test_no_tokenizer_of_a_carried_base_makes_more_tokens_than_are_counted(repository, tmp_path):
    texts = rich_texts(repository / "data/sample/spider", tmp_path)
    assert len(texts) > 5
    assert_never_more(texts)


def test_nor_on_the_databases_of_spider(spider_zip, tmp_path):
    texts = rich_texts(spider_zip, tmp_path)
    assert len(texts) == 138
    assert_never_more(texts)


def test_other_scripts_are_counted_by_their_bytes():
    table = Schema("s", (Table("数据库", (Column("名称", "TEXT"), Column("été", "TEXT")), ("名称",)),))
    assert_never_more([RichSchemas(lambda db_id: None, 10**9).show("?", table)])


def test_the_bytes_are_the_same_in_another_process_order_and_time(build, rich, tmp_path):
    schema = build(SCRIPT)
    again = RichSchemas(in_folders(tmp_path), 10_000, tmp_path / "cache")
    questions = ("Who is from France and York?", "Zoë or O'Neil in Peru?", "Joe Sharp")
    first = [rich.show(question, schema) for question in questions]
    assert [again.show(question, schema) for question in reversed(questions)] == first[::-1]
    kept = RichSchemas(in_folders(tmp_path), 10_000, tmp_path / "cache")
    assert [kept.show(question, schema) for question in questions] == first
    assert json.loads(next((tmp_path / "cache").iterdir()).read_text())


def test_keys_of_one_schema_survive_another_order_of_tables(build, rich):
    schema = build(SCRIPT)
    turned = rich.show("Who?", in_order(schema, "reversed"))
    assert sorted(turned.splitlines()) == sorted(rich.show("Who?", schema).splitlines())
    assert ForeignKey("concert", "singer_id", "singer", "singer_id") in schema.foreign_keys
