"""Say which accuracies of a new run lie outside the intervals that git has for them.

text2sql moved --since HEAD      after `dvc repro --force`; exit 1 where one does
"""

from collections.abc import Sequence

from text2sql.core.errors import ArgumentParser
from text2sql.report.moved import moved_accuracies


def main(arguments: Sequence[str]) -> int:
    """Print each accuracy that moved beyond its interval; return 1 where there is one, else 0."""
    parser = ArgumentParser(prog="text2sql moved", description=__doc__.splitlines()[0])
    parser.add_argument("--since", required=True, help="the commit with the metrics to hold against, such as HEAD")
    revision = parser.parse_args(arguments).since
    moved, files = moved_accuracies(revision)
    print("\n".join(moved or [f"every accuracy of {files} files lies within its interval at {revision}"]))
    return 1 if moved else 0
