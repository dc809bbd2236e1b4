"""Hold out training databases, to choose a recipe on them: a dev split that is read while tuning measures nothing.

text2sql holdout --spider spider_data.zip --out data/raw/holdout --databases 20
dvc exp run -S data.spider=data/raw/holdout -S train.lr=1e-3
"""

from collections.abc import Sequence
from pathlib import Path

from text2sql.core.errors import ArgumentParser
from text2sql.preparation.holdout import hold_out


def main(arguments: Sequence[str]) -> None:
    """Write the train split of Spider to a folder in the official layout, with some of its databases as `dev`."""
    parser = ArgumentParser(prog="text2sql holdout", description=__doc__.splitlines()[0])
    parser.add_argument("--spider", required=True, help="a folder or zip in the official layout")
    parser.add_argument("--out", required=True, type=Path, help="the folder to write")
    parser.add_argument("--databases", type=int, default=20, help="how many to hold out (default: 20, as dev has)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    counts = hold_out(options.spider, options.out, options.databases, options.seed, print)
    print(f"{options.out}: {counts[0]} questions to train on, {counts[1]} on {options.databases} databases held out")
