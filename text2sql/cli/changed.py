"""Say which of a run's results that git tracks changed, and how to put them back.

text2sql changed     one line, or nothing where all is as committed
"""

from collections.abc import Sequence

from text2sql.core.errors import ArgumentParser
from text2sql.report.changed import changed_files, changed_line


def main(arguments: Sequence[str]) -> None:
    """Print the line where something changed."""
    ArgumentParser(prog="text2sql changed", description=__doc__.splitlines()[0]).parse_args(arguments)
    line = changed_line(changed_files())
    if line:
        print(line)
