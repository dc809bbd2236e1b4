"""`text2sql ask`: one question or a conversation, with a micro model and a real database."""

import contextlib
import io
import re
import sqlite3
import subprocess
import sys

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from ruamel.yaml import YAML

from testkit.random_models import save_random_adapter
from text2sql.cli import ask
from text2sql.core.dependencies import Key
from text2sql.core.errors import UserError, run
from text2sql.core.journal import Journal
from text2sql.core.params import LoraParams, load_params
from text2sql.data.schema import schema_from_sqlite
from text2sql.evaluation.batching import JournaledRun
from text2sql.evaluation.spider import SpiderPrompt, predict
from text2sql.execution.executor import Result
from text2sql.model import language_model as models
from text2sql.model.streams import Sampled
from text2sql.prompts.answers import extract_sql


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "concert.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE singer (singer_id INTEGER PRIMARY KEY, name TEXT, age INTEGER)")
        connection.executemany("INSERT INTO singer VALUES (?, ?, ?)", [(1, "Ana", 30), (2, "Joe", None)])
        connection.commit()
    return path


@pytest.fixture
def params(repository, micro_model, tmp_path):
    """params.yaml with the micro model, which writes no SQL that runs."""
    yaml = YAML()
    params = yaml.load((repository / "params.yaml").read_text())
    params["model"].update({"base": str(micro_model), "dtype": "float32"})
    params["generation"]["max_new_tokens"] = 6
    with (tmp_path / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    return tmp_path / "params.yaml"


@pytest.fixture
def answers(monkeypatch):
    """Let the model write these answers, one after the other: what follows from them is the real thing."""
    written = []
    monkeypatch.setattr(models.LanguageModel, "decode", lambda self, output: written.pop(0))
    return written


def arguments(database, params, *more):
    return [*more, "--db", str(database), "--params", str(params)]


def test_a_question_gets_its_sql_and_the_rows_as_a_table(database, params, answers, capsys):
    before = database.read_bytes()
    answers.append("```sql\nSELECT name, age FROM singer ORDER BY name;\n```")
    assert ask.main(arguments(database, params, "Who sings?")) == 0
    assert capsys.readouterr().out.splitlines() == [
        "SELECT name, age FROM singer ORDER BY name",
        "",
        "name    age",
        "------  -----",
        "Ana     30",
        "Joe     NULL",
    ]
    assert database.read_bytes() == before


@pytest.mark.parametrize("checkpointed", [True, False])
def test_a_database_that_an_application_has_open_is_asked_as_it_stands(params, answers, capsys, tmp_path, checkpointed):
    path = tmp_path / "ferries.sqlite"
    application = sqlite3.connect(path)
    application.execute("PRAGMA journal_mode = WAL")
    application.execute("CREATE TABLE ferry (id INT)")
    if checkpointed:
        application.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    application.execute("INSERT INTO ferry VALUES (1), (2), (3)")
    application.commit()
    before = sorted((file.name, file.stat().st_size) for file in tmp_path.iterdir())
    answers.append("SELECT count(*) AS ferries FROM ferry")
    assert ask.main(arguments(path, params, "How many ferries are there?")) == 0
    assert capsys.readouterr().out.split()[-1] == "3"
    assert sorted((file.name, file.stat().st_size) for file in tmp_path.iterdir()) == before
    application.close()


def test_the_model_answers_itself_from_the_command_line(database, params, repository):
    """Nothing replaced: the micro model's babble does not run, which is said in words and by the exit code."""
    before = database.read_bytes()
    command = [sys.executable, "-m", "text2sql", "ask", *arguments(database, params, "How many singers are there?")]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "\n\nThe query did not run: " in done.stdout and "Traceback" not in done.stderr
    assert database.read_bytes() == before and list(database.parent.glob("concert*")) == [database]


def test_strength_scales_the_adapter_that_is_asked(database, params, micro_model, tmp_path, capsys):
    lora = LoraParams(r=4, alpha=8, dropout=0, target_modules=["q_proj", "down_proj"])
    adapter = save_random_adapter(str(micro_model), tmp_path / "adapter", lora)

    def said(*more):
        ask.main(arguments(database, params, "How many singers are there?", *more))
        return capsys.readouterr().out

    base, tuned = said(), said("--model", str(adapter))
    assert said("--model", str(adapter), "--strength", "0") == base
    assert said("--model", str(adapter), "--strength", "1") == tuned
    assert said("--model", str(adapter), "--strength", "50") not in (base, tuned)
    with pytest.raises(UserError, match="--strength: scales an adapter, and there is none"):
        said("--strength", "0.5")
    with pytest.raises(UserError, match="--strength: model.strength: got -2.0 .* takes a number from 0 to 100"):
        said("--model", str(adapter), "--strength", "-2")


def test_the_answer_is_the_one_that_the_benchmark_would_count(database, params, tmp_path):
    """`ask` and `predict_spider` ask alike: the same prompt, the same tokens, the same SQL taken out of them."""
    question, settings = "How many singers are there?", load_params(params)
    sql = ask.answerer(settings, database, None)(question).sql
    (prediction,) = predict(
        models.LanguageModel(settings.model),
        [{"index": 0, "db_id": "concert", "question": question, "query": "SELECT 1"}],
        SpiderPrompt(
            {"concert": schema_from_sqlite(database, "concert")}, settings.prompt.schema_, [], settings.prompt.answer
        ),
        settings.generation,
        JournaledRun(Journal("predict", Key.of({}), folder=tmp_path), "predict"),
    )
    assert settings.prompt.few_shot == 0
    assert prediction["sql"] == sql == extract_sql(prediction["raw"], settings.prompt.answer) != ""


def test_with_rich_schemas_it_asks_as_the_benchmark_does_and_says_that_it_cut(
    database, params, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    text = params.read_text()
    assert "  schema_tokens: 1536" in text
    asked = []
    ids = models.LanguageModel.chat_ids
    monkeypatch.setattr(
        models.LanguageModel, "chat_ids", lambda model, m: asked.append(m[-1]["content"]) or ids(model, m)
    )
    for room in (1536, 30):
        text = re.sub("  schema: .*", "  schema: rich", text)
        params.write_text(text.replace("  schema_tokens: 1536", f"  schema_tokens: {room}"))
        ask.main(arguments(database, params, "How many singers are there?"))
        said = capsys.readouterr().err
        assert ("the schema was cut to prompt.schema_tokens 30" in said) == (room == 30)
    settings, schema = load_params(params), schema_from_sqlite(database, "concert")
    prompt = SpiderPrompt.of(settings.prompt, {"concert": schema}, [], lambda db_id: database)
    assert asked[1] == prompt.messages("How many singers are there?", "concert")[0]["content"]
    assert len(asked[1]) < len(asked[0]) and " [" in asked[0] and "singer(" in asked[1]


def test_an_output_that_is_not_utf_8_shows_the_rows_all_the_same(database, params, answers, monkeypatch):
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE singer SET name = 'São Luís' WHERE singer_id = 1")
        connection.commit()
    answers.append("SELECT name FROM singer WHERE age = 30")
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "argv", ["ask", *arguments(database, params, "Who is 30?")])
    with pytest.raises(SystemExit, match="0"):
        run(ask.main)
    screen.flush()
    assert screen.buffer.getvalue().decode("ascii").splitlines()[-1].strip() == r"S\xe3o Lu\xeds"


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE singer",
        "DELETE FROM singer",
        "ATTACH 'other.sqlite' AS other",
        "PRAGMA journal_mode = WAL",
        "WITH old AS (SELECT 1) DELETE FROM singer",
    ],
)
def test_nothing_that_the_model_writes_changes_the_database(database, params, answers, capsys, sql):
    before = {path.name: path.read_bytes() for path in database.parent.iterdir() if path.is_file()}
    answers.append(sql)
    assert ask.main(arguments(database, params, "Remove them all")) == 1
    assert "The query did not run: " in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in database.parent.iterdir() if path.is_file()} == before


def test_what_follows_a_query_is_no_part_of_it(database, params, answers, capsys):
    before = database.read_bytes()
    answers.append("SELECT count(*) FROM singer; DELETE FROM singer")
    assert ask.main(arguments(database, params, "Remove them all")) == 0
    assert "DELETE" not in capsys.readouterr().out
    assert database.read_bytes() == before


def test_a_conversation_loads_the_model_once_and_remembers_its_questions(
    database, params, answers, monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    loaded = []
    load_base = models.load_base
    monkeypatch.setattr(models, "load_base", lambda model: loaded.append(model) or load_base(model))
    before = database.read_bytes()
    answers += ["SELECT count(*) FROM singer", "SELECT height FROM singer", "SELECT max(age) FROM singer"]
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        # An empty line is no question, and Ctrl-C gives up a line; Ctrl-D ends.
        keys.send_text("How many singers?\n\nNonsense?\nA line given up\x03How old is the oldest?\n\x04")
        assert ask.main(arguments(database, params)) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Ask in words; Ctrl-D ends.\nSELECT count(*) FROM singer\n\ncount(*)\n")
    assert "The query did not run: no such column: height" in printed
    assert "SELECT max(age) FROM singer\n\nmax(age)\n----------\n30\n\n" in printed
    assert answers == [] and len(loaded) == 1
    history = (tmp_path / "cache/text2sql/ask_history").read_text(encoding="utf-8")
    assert [line[1:] for line in history.splitlines() if line.startswith("+")] == [
        "How many singers?", "Nonsense?", "How old is the oldest?",
    ]  # fmt: skip
    assert database.read_bytes() == before


MISTAKES = {
    "no database": ({"--db": "missing.sqlite"}, r"--db: .*missing\.sqlite: no such file"),
    "text": ({"--db": "text.sqlite"}, r".*text\.sqlite: cannot read the schema .* file is not a database"),
    "an empty database": ({"--db": "empty.sqlite"}, r"--db: .*empty\.sqlite: has no tables to ask about"),
    "no adapter": ({"--model": "models/m1"}, r"--model: .*models/m1: no such folder; wanted an adapter.*"),
    "no params": ({"--params": "none.yaml"}, r".*none\.yaml: no such file.*"),
}


def with_mistake(change, database, params):
    folder = database.parent
    (folder / "text.sqlite").write_text("name,age\n" * 100)
    (folder / "empty.sqlite").touch()
    options = {"--db": database, "--params": params} | {key: folder / name for key, name in change.items()}
    return ["Who?", *(str(part) for pair in options.items() for part in pair)]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_users_mistake_is_one_line_and_exit_code_2(database, params, repository, mistake):
    change, problem = MISTAKES[mistake]
    command = [sys.executable, "-m", "text2sql", "ask", *with_mistake(change, database, params)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(f"error: {problem}\n", done.stderr)


def test_a_folder_that_is_no_adapter_is_the_users_mistake(database, params):
    (database.parent / "folder").mkdir()
    with pytest.raises(UserError, match="folder: has no adapter_config.json; wanted an adapter"):
        ask.main(with_mistake({"--model": "folder"}, database, params))


def test_a_misspelt_adapter_is_answered_with_the_nearest(database, params):
    (database.parent / "adapters/m1").mkdir(parents=True)
    with pytest.raises(UserError, match=r"adapters/m9: no such folder; .* \(did you mean m1\?\)"):
        ask.main(with_mistake({"--model": "adapters/m9"}, database, params))


def test_an_empty_question_is_the_users_mistake(database, params):
    with pytest.raises(UserError, match="question: is empty"):
        ask.main(arguments(database, params, "  "))


def test_text_does_not_steer_the_terminal_and_long_cells_are_cut():
    rows = (("A\x1b]0;owned\x07na\r\n", b"\x00\xff"), ("x" * 5000, None))
    result = Result(("na\x1b[31mme", "data"), rows, None, None, 0.0)
    text = ask.shown("SELECT '\x1b[2J'\nFROM singer", result)
    assert "\x1b" not in text and "\x07" not in text and "\r" not in text
    assert text.startswith("SELECT '\\x1b[2J'\nFROM singer\n\n")
    assert "A\\x1b]0;owned\\x07na\\r\\n" in text and "x'00ff'" in text and "NULL" in text
    assert "x" * 79 + "…" in text and "x" * 80 not in text


def test_many_rows_are_counted_and_few_are_shown():
    result = Result(("n",), tuple((number,) for number in range(1234)), None, None, 0.0)
    lines = ask.shown("SELECT n FROM t", result).splitlines()
    assert lines[-1] == "(1,234 rows, the first 20 shown)" and lines[-2].strip() == "19"
    assert ask.shown("SELECT n FROM t", Result(("n",), (), None, None, 0.0)).endswith("\n\nNo rows.")


@pytest.fixture
def drawn(params, monkeypatch):
    """Let the model draw these samples, each its log-likelihood and SQL: what follows from them is the real thing."""
    samples = []

    def answer(self, prompts, streams, sampling, most, schemas):
        assert len(prompts) == len(streams) == len(samples)
        return [Sampled([number], likelihood) for number, (likelihood, _) in enumerate(samples)]

    greedy = models.LanguageModel.decode
    monkeypatch.setattr(models.LanguageModel, "sample", answer)
    monkeypatch.setattr(
        models.LanguageModel, "decode", lambda self, ids: samples[ids[0]][1] if len(ids) == 1 else greedy(self, ids)
    )
    return samples


def test_the_answer_that_most_samples_agree_on_is_shown_with_how_many(database, params, drawn, capsys):
    drawn += [
        (-1.0, "SELECT count(*) FROM nowhere"),
        (-2.0, "SELECT name FROM singer WHERE age > 20"),
        (-9.0, "SELECT name FROM singer WHERE singer_id = 1"),
        (-1.5, "SELECT name FROM singer"),
    ]
    assert ask.main(arguments(database, params, "Who sings?", "--samples", "4")) == 0
    assert capsys.readouterr().out.splitlines() == [
        "SELECT name FROM singer WHERE age > 20",
        "",
        "name",
        "------",
        "Ana",
        "",
        "2 of 4 samples give this result.",
    ]


def test_where_no_sample_runs_the_greedy_answer_is_shown(database, params, drawn, capsys):
    assert ask.main(arguments(database, params, "Who sings?")) == 1
    greedy = capsys.readouterr().out.strip()
    drawn += [(-1.0, "SELECT 1 FROM nowhere"), (-2.0, "Sing!")]
    assert ask.main(arguments(database, params, "Who sings?", "--samples", "2")) == 1
    assert capsys.readouterr().out.strip() == f"{greedy}\n\nNone of 2 samples runs."


def test_the_model_draws_samples_itself(database, params, capsys):
    """Nothing replaced: of the micro model's babble nothing runs, whatever the rule."""
    ask.main(arguments(database, params, "Who sings?"))
    greedy = capsys.readouterr().out.strip()
    for rule in ("majority", "first_executable"):
        params.write_text(
            params.read_text().replace("samples: 1 ", "samples: 3 ").replace("choice: null", f"choice: {rule}")
        )
        assert ask.main(arguments(database, params, "Who sings?")) == 1
        assert capsys.readouterr().out.strip() == f"{greedy}\n\nNone of 3 samples runs."
        assert ask.main(arguments(database, params, "Who sings?", "--samples", "1")) == 1
        assert capsys.readouterr().out.strip() == greedy


def test_a_number_of_samples_that_is_none_is_one_line(database, params):
    with pytest.raises(UserError, match="--samples: generation.samples: got 0 .* takes a whole number from 1 to 256"):
        ask.main(arguments(database, params, "Who sings?", "--samples", "0"))
