"""Print the comment on a pull request: what changed in params and metrics, and what that means.

    text2sql review --base main        (`make review BASE=main`)

Reads committed files alone. Exits 0 wherever it could write the comment; `python -m stages.compare --gate` is what
fails.
"""

from collections.abc import Sequence

from text2sql.core.errors import ArgumentParser


def main(arguments: Sequence[str]) -> None:
    """Print the comment as Markdown."""
    parser = ArgumentParser(prog="text2sql review", description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="the branch or commit to compare with, such as main")
    base = parser.parse_args(arguments).base

    from text2sql.report.review import comment

    print(comment(base))
