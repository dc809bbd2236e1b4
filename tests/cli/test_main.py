"""The command `text2sql`: its help, how little it loads, its verbs, and what it says of a name that is not there."""

import os
import pkgutil
import subprocess
import sys
import tomllib

import pytest

import text2sql.cli
from text2sql.cli.main import VERBS, main
from text2sql.core.errors import ArgumentParser, UserError, did_you_mean, run

VERB_NAMES = [verb.name for verb in VERBS]
HEAVY = {
    "torch", "transformers", "peft", "trl", "datasets", "accelerate", "deepeval", "dvc", "pandas", "numpy", "scipy",
    "statsmodels", "pyarrow", "jinja2", "prompt_toolkit",
}  # fmt: skip
# Runs `python -m text2sql …` and then prints which modules are there.
AND_MODULES = """
import runpy, sys
try:
    runpy.run_module("text2sql", run_name="__main__", alter_sys=True)
except SystemExit as end:
    print("\\n" + " ".join(sys.modules))
    raise
"""


def run_here(monkeypatch, capsys, command, entry=None):
    """Run a command line in this process as the console script does; return exit code, output and errors."""
    monkeypatch.setattr(sys, "argv", command.split())
    with pytest.raises(SystemExit) as leaving:
        entry() if entry else run(main)
    return leaving.value.code or 0, *capsys.readouterr()


def modules_after(repository, *arguments):
    """Run the command in a process of its own; return its output, and the names of what it had imported."""
    done = subprocess.run(
        [sys.executable, "-c", AND_MODULES, *arguments], cwd=repository, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    output, _, modules = done.stdout.rstrip().rpartition("\n")
    return output, set(modules.split())


def test_the_help_fits_a_screen_and_names_every_verb(monkeypatch, capsys):
    code, printed, _ = run_here(monkeypatch, capsys, "text2sql --help")
    lines = printed.splitlines()
    assert code == 0 and len(lines) <= 24 and max(map(len, lines)) <= 100
    for verb in VERBS:
        assert any(line.split()[:1] == [verb.name] and line.endswith(verb.help) for line in lines)
    assert run_here(monkeypatch, capsys, "text2sql") == (0, printed, "")


def test_the_help_imports_nothing_that_takes_long(repository):
    output, modules = modules_after(repository, "--help")
    assert output.startswith("usage: text2sql VERB")
    assert not modules & (HEAVY | {"pydantic", "ruamel", "tabulate", "tqdm", "sqlite3"})
    assert {name for name in modules if name.startswith("text2sql.cli.")} == {"text2sql.cli.main"}


@pytest.mark.parametrize("verb", VERB_NAMES)
def test_a_verb_is_reached_through_python_m_and_loads_only_itself(verb, repository):
    output, modules = modules_after(repository, verb, "--help")
    assert output.startswith(f"usage: text2sql {verb} ")
    assert not modules & HEAVY
    assert {name for name in modules if name.startswith("text2sql.cli.")} == {
        "text2sql.cli.main",
        f"text2sql.cli.{verb}",
    }


def test_check_works_without_heavy_libraries(repository):
    output, modules = modules_after(repository, "check", "params.yaml")
    assert output.startswith("params.yaml: valid") and not modules & HEAVY


def test_every_file_in_cli_is_a_verb():
    files = {module.name for module in pkgutil.iter_modules(text2sql.cli.__path__)} - {"main"}
    assert files == set(VERB_NAMES) == {verb.module.rpartition(".")[2] for verb in VERBS}


def test_the_installed_command_is_this_one(repository, monkeypatch, capsys):
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    assert list(project["project"]["scripts"]) == ["text2sql"]
    entry = pkgutil.resolve_name(project["project"]["scripts"]["text2sql"])
    code, printed, _ = run_here(monkeypatch, capsys, "text2sql --version", entry)
    assert (code, printed) == (0, f"text2sql {text2sql.__version__}\n")


UNKNOWN = {
    "scoer": ("'scoer'", "did you mean score?"),
    "--versoin": ("--versoin", "did you mean --version?"),
    "zzz": ("'zzz'", "choose from 'ask', 'score'"),
    "score --spyder x": ("--spyder", "did you mean --spider?"),
    "score predictions.sql --spider x --max-row=3": ("--max-row ", "did you mean --max-rows?"),
    "score predictions.sql --spider x --split test": ("argument --split", "'test'", "choose from 'dev', 'dk', 'train'"),
    "score predictions.sql --spider x --split tran": ("'tran'", "did you mean train?"),
    "recipe smolm2-ddl": ("recipe smolm2-ddl: no such file", "did you mean smollm2-ddl?", "there are paper"),
    "results tabel": ("'tabel'", "did you mean table?"),
    "results table --wirte": ("--wirte", "did you mean --write?"),
    "results export x --mmlu-al": ("--mmlu-al ", "did you mean --mmlu-all?"),
    "review --bsae main": ("--bsae", "did you mean --base?"),
    "check --parms x.yaml": ("unrecognized arguments: --parms;",),
}


@pytest.mark.parametrize("command", UNKNOWN)
def test_an_unknown_name_is_one_line_with_the_nearest_there_is(command, repository, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    monkeypatch.delenv("TEXT2SQL_DEBUG", raising=False)
    code, printed, said = run_here(monkeypatch, capsys, f"text2sql {command}")
    assert (code, printed) == (2, "") and said.startswith("error: ") and said.count("\n") == 1
    for part in UNKNOWN[command]:
        assert part in said
    assert ("did you mean" in said) == any("did you mean" in part for part in UNKNOWN[command])


def test_a_stages_unknown_model_is_answered_with_the_nearest(repository, monkeypatch):
    from stages import train

    monkeypatch.chdir(repository)
    with pytest.raises(UserError, match=r"'m9' \(did you mean m[12]\?\) \(choose from 'm1', 'm2'\)"):
        train.main(["m9"])


def test_what_is_wrong_with_a_known_option_is_not_blamed_on_its_value():
    parser = ArgumentParser()
    parser.add_argument("--base", required=True)
    with pytest.raises(UserError, match="argument --base: expected one argument"):
        parser.parse_args(["--base", "--unknown"])
    with pytest.raises(UserError, match="unrecognized arguments: a b"):
        parser.parse_args(["--base", "x", "a", "b"])
    assert parser.parse_args(["--base=--x"]).base == "--x"


def test_names_are_compared_without_case_and_dashes():
    assert did_you_mean("M1", ["base", "m1"]) == " (did you mean m1?)"
    assert did_you_mean("--a", ["--wholly-other"]) == did_you_mean("x", []) == ""


def test_debug_shows_the_traceback_wherever_it_stands(repository):
    for arguments in (["--debug", "check", "none.yaml"], ["check", "none.yaml", "--debug"]):
        environment = {name: value for name, value in os.environ.items() if name != "TEXT2SQL_DEBUG"}
        done = subprocess.run(
            [sys.executable, "-m", "text2sql", *arguments],
            cwd=repository, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 2 and "Traceback" in done.stderr
        assert done.stderr.endswith("none.yaml: no such file\n")
