"""Search for a recipe on held-out training databases: ranks, rates, epochs, prompts. The dev split is never read.

    text2sql search search/qwen05.yaml --trials 6                to results/search/qwen05/
    text2sql search search/qwen05.yaml --trials 6 --spider spider_data.zip

A search that is killed goes on where it stopped; more trials go on from those that are there. docs/search.md says more.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from text2sql.core.errors import ArgumentParser, UserError


def main(arguments: Sequence[str]) -> int:
    """Run a search file's trials; return the exit code."""
    parser = ArgumentParser(prog="text2sql search", description=__doc__.splitlines()[0])
    parser.add_argument("file", metavar="SEARCH.yaml", type=Path, help="a search file, as in search/")
    parser.add_argument("--trials", type=int, default=6, metavar="N", help="until so many are finished (default: 6)")
    parser.add_argument("--spider", metavar="PATH", help="where Spider lies, in place of data.spider")
    parser.add_argument("--replace", action="store_true", help="begin anew where trials come from other data or code")
    options = parser.parse_args(arguments)
    if options.trials < 1:
        raise UserError(f"--trials: got {options.trials}, takes a whole number of at least 1")
    from text2sql.experiments.search_space import read_search

    search = read_search(options.file, {"data.spider": options.spider} if options.spider else {})
    from text2sql.experiments.search import run_search
    from text2sql.training.fine_tune import Interrupted

    try:
        print(run_search(search, options.trials, options.replace))
    except Interrupted as interruption:
        print(interruption, file=sys.stderr)
        return 128 + interruption.signal_number
    return 0
