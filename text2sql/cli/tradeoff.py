"""Run the points of a trade-off curve: what ways of specialising one base gain on Spider, and what they cost on MMLU.

    text2sql tradeoff tradeoff/qwen05.yaml                       all points, to results/tradeoff/qwen05/
    text2sql tradeoff tradeoff/qwen05.yaml --only lr-2e-4        these points alone, and the base
    text2sql tradeoff tradeoff/qwen05.yaml --held-out 20         on so many training databases that no point trains on
    text2sql tradeoff --draw qwen05                              its figure and table again, from its curve.json

A run that is killed goes on where it stopped; finished points are not run again. docs/tradeoff.md says more.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from text2sql.core.errors import ArgumentParser, UserError
from text2sql.core.params import checked


def main(arguments: Sequence[str]) -> int:
    """Run a points file, or draw a curve again; return the exit code."""
    parser = ArgumentParser(prog="text2sql tradeoff", description=__doc__.splitlines()[0])
    parser.add_argument("file", metavar="POINTS.yaml", nargs="?", type=Path, help="a points file, as in tradeoff/")
    parser.add_argument("--only", metavar="POINT", nargs="+", default=[], help="run these points alone, and the base")
    parser.add_argument("--draw", metavar="NAME", help="make figure and table of results/tradeoff/NAME/ again")
    parser.add_argument(
        "--held-out",
        metavar="N",
        type=int,
        help="ask about N training databases, which no point trains on",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which those are (default: 0)")
    parser.add_argument("--spider", metavar="PATH", help="where Spider lies, in place of data.spider")
    parser.add_argument("--mmlu", metavar="PATH", help="where MMLU lies, in place of data.mmlu")
    parser.add_argument("--replace", action="store_true", help="run points again that come from other data or code")
    options = parser.parse_args(arguments)
    if (options.file is None) == (options.draw is None):
        raise UserError("wanted a points file, or --draw and a curve's name; --help shows what there is")
    if options.draw is not None:
        from text2sql.report.curve import CURVES, JSON, draw

        print(f"{draw(CURVES / options.draw / JSON)}: drawn")
        return 0
    from text2sql.experiments.points import HeldOut, read_points

    places = {"data.spider": options.spider, "data.mmlu": options.mmlu}
    held_out = None
    if options.held_out is not None:
        held_out = checked(HeldOut, {"databases": options.held_out, "seed": options.seed}, "--held-out")
    curve = read_points(options.file, {key: path for key, path in places.items() if path}, held_out)
    for name in options.only:
        parser.check_choice("--only", name, [point.name for point in curve.points])
    from text2sql.experiments.tradeoff import run_curve
    from text2sql.training.fine_tune import Interrupted

    try:
        print(run_curve(curve, options.only, options.replace))
    except Interrupted as interruption:
        print(interruption, file=sys.stderr)
        return 128 + interruption.signal_number
    return 0
