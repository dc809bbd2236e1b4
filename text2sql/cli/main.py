"""The command `text2sql`: one table of verbs. A verb is a row here and a module with `main(arguments)`.

A verb's module is imported when it runs, so that the command starts at once.
"""

import argparse
import importlib
from collections.abc import Sequence
from dataclasses import dataclass

from text2sql import __version__
from text2sql.core.errors import ArgumentParser, run


@dataclass(frozen=True)
class Verb:
    """A verb: its name, what it does in one line, and the module whose `main` takes its arguments."""

    name: str
    help: str
    module: str


VERBS = (
    Verb("ask", "ask a model about a database of your own", "text2sql.cli.ask"),
    Verb("score", "score any system's predictions on Spider", "text2sql.cli.score"),
    Verb("choose", "choose among sampled answers, by every rule and number", "text2sql.cli.choose"),
    Verb("init", "look at your own databases and questions, and write a recipe", "text2sql.cli.init"),
    Verb("check", "validate params.yaml, or other params files", "text2sql.cli.check"),
    Verb("recipe", "put a recipe in place of params.yaml", "text2sql.cli.recipe"),
    Verb("bases", "list the carried bases and what of them is kept, or remove it", "text2sql.cli.bases"),
    Verb("holdout", "hold out training databases, to choose a recipe on them", "text2sql.cli.holdout"),
    Verb("grammar", "say what constrained decoding lets through", "text2sql.cli.grammar"),
    Verb("results", "export, check and tabulate sets of results", "text2sql.cli.results"),
    Verb("export", "export a model for others to load or serve", "text2sql.cli.export"),
    Verb("verify", "ask an export, and say what it loses", "text2sql.cli.verify"),
    Verb("prompt", "print the messages that ask an export", "text2sql.cli.prompt"),
    Verb("tradeoff", "run a trade-off curve's points, or draw it", "text2sql.cli.tradeoff"),
    Verb("search", "search for a recipe on held-out training databases", "text2sql.cli.search"),
    Verb("changed", "say which committed results a run changed", "text2sql.cli.changed"),
    Verb("moved", "say which accuracies left the intervals that git has", "text2sql.cli.moved"),
    Verb("review", "print the pull request's comment", "text2sql.cli.review"),
)


def main(arguments: Sequence[str]) -> int | None:
    """Run the verb that comes first in `arguments` with the rest; return its exit code. Without any, show the help."""
    verbs = {verb.name: verb for verb in VERBS}
    parser = ArgumentParser(
        prog="text2sql",
        usage="text2sql VERB ...",
        description="Fine-tune a small model for text-to-SQL, and measure what it gains and what it costs.",
        epilog="\n".join(
            [
                *(f"  {verb.name:<10}{verb.help}" for verb in VERBS),
                "text2sql VERB --help shows a verb's options, --version the version; --debug an error's traceback.",
                "The experiment itself is run by `dvc repro`, or `make repro`.",
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,  # listed by themselves, --help and --version would take four lines of a screen
    )
    parser.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
    version = f"text2sql {__version__}"
    parser.add_argument("--version", action="version", version=version, help=argparse.SUPPRESS)
    parser.add_argument("verb", metavar="VERB", choices=verbs, help=argparse.SUPPRESS)
    name = parser.parse_args(arguments[:1] or ["--help"]).verb
    return importlib.import_module(verbs[name].module).main(arguments[1:])


def command() -> None:
    """Run as a process: the console script, and `python -m text2sql`."""
    run(main)
