"""Look at a folder of your own databases and questions, and write a recipe to train and measure on them.

    text2sql init FOLDER [--name NAME] [--holdout 0.2]
    make repro RECIPE=NAME

FOLDER (or a zip of it) holds SQLite files and questions.jsonl, .csv or .parquet: docs/own-data.md. The recipe goes to
recipes/NAME.yaml, where no file of that name is; nothing is written into FOLDER. Where the data cannot be used, each
fault is said in one line, nothing is written, and the exit code is 2.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from text2sql.core.arguments import share
from text2sql.core.errors import ArgumentParser
from text2sql.core.params import load_params
from text2sql.data.own import Faults
from text2sql.experiments.own_data import look
from text2sql.experiments.own_recipe import recipe_file, write_recipe

PARAMS = Path("params.yaml")


def main(arguments: Sequence[str]) -> int:
    """Say what the folder holds and write its recipe, or say its faults; return the exit code."""
    parser = ArgumentParser(
        prog="text2sql init", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where databases and questions lie")
    parser.add_argument("--name", help="of the recipe and of the data in reports; default: the folder's")
    parser.add_argument("--holdout", metavar="SHARE", type=share, help="of questions without a split; default: 0.2")
    options = parser.parse_args(arguments)
    name = options.name if options.name is not None else options.folder.resolve().name.removesuffix(".zip")
    path = recipe_file(name, "--name" if options.name is not None else "the folder's name (--name gives another)")
    params = load_params(PARAMS)
    try:
        found = look(options.folder, params, options.holdout, lambda text: print(f"init: {text}", flush=True))
    except Faults as error:
        for fault in error.faults:
            print(f"error: {' '.join(fault.split())}", file=sys.stderr)
        return 2
    print("\n".join(found.lines()))
    write_recipe(path, name, found, PARAMS)
    load_params(path)
    print(f"{path}: written; to train and measure: make repro RECIPE={name}")
    return 0
