"""Compare the base and the tuned models: what was gained, what it cost, and whether either is more than chance.

    python -m stages.compare            write metrics/compare.json, metrics/plots/ and the reports
    python -m stages.compare --show     print the tables again
    python -m stages.compare --gate     exit 1 where a tuned model breaks a limit of `compare` in params.yaml, or where
                                        the metrics are not of these params

The stage itself never fails over a score. The gate reads metrics/, params.yaml and dvc.lock alone, so that it works in
a fresh clone; what its interval leaves open is named as inconclusive, and passes.
"""

from collections.abc import Sequence

from text2sql.core.errors import ArgumentParser, run
from text2sql.core.params import load_params
from text2sql.report import write


def main(arguments: Sequence[str]) -> int:
    """Write the comparison, or show it, or hold it against the limits. Returns the exit code."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--gate", action="store_true", help="exit 1 where a limit is broken or the metrics are stale")
    only.add_argument("--show", action="store_true", help="print the tables of the last comparison")
    options = parser.parse_args(arguments)
    if options.gate:
        return write.gate(load_params())
    if options.show:
        write.show()
    else:
        write.write(load_params())
    return 0


if __name__ == "__main__":
    run(main)
