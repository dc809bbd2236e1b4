"""Result sets: what a finished run leaves under `results/<name>/`, and the README's table made of them.

text2sql results export NAME              copy the last `dvc repro` to results/NAME/
text2sql results export NAME --mmlu-all   the same adapters on all of MMLU, to results/NAME/mmlu_all/
text2sql results check                    hold every set against its own lock and its recipe
text2sql results table [--write|--check]  the README's table and findings: print, update, exit 1 if old
"""

import argparse
from collections.abc import Sequence

from text2sql.core.errors import ArgumentParser, RunError


def main(arguments: Sequence[str]) -> int:
    """Export a set, check all sets, or make the README's table; return the exit code."""
    options = _parse(arguments)
    if options.action == "export":
        _export(options.name, options.mmlu_all, options.replace)
    elif options.action == "check":
        from text2sql.report.result_sets import check

        check()
    else:
        _table(options.write, options.check)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = ArgumentParser(prog="text2sql results", description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    exporting = actions.add_parser("export", help="copy the last run to results/NAME/")
    exporting.add_argument("name", help="the set's name: that of its recipe in recipes/")
    exporting.add_argument("--mmlu-all", action="store_true", help="to results/NAME/mmlu_all/: MMLU's part alone")
    exporting.add_argument("--replace", action="store_true", help="in place of a set that is there")
    actions.add_parser("check", help="hold every set against its own lock and its recipe")
    table = actions.add_parser("table", help="the README's table and findings")
    mode = table.add_mutually_exclusive_group()
    mode.add_argument("--write", action="store_true", help="update README.md")
    mode.add_argument("--check", action="store_true", help="exit 1 where README.md is not current")
    return parser.parse_args(arguments)


def _export(name: str, mmlu_all: bool, replace: bool) -> None:
    from text2sql.report.result_sets import export

    target = export(name, mmlu_all, replace)
    files = [path for path in target.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{target}: {len(files)} files, {size:.1f} MB; now: text2sql results table --write")


def _table(write: bool, check: bool) -> None:
    from text2sql.report.result_sets import README, RESULTS
    from text2sql.report.results_table import blocks, read_sets, update

    sets = read_sets(RESULTS)
    if not (write or check):
        print("\n\n".join(blocks(sets).values()))
        return
    current = update(README, sets, write=write)
    if check and not current:
        raise RunError(f"{README}: is not current; `text2sql results table --write` updates it")
    print(f"{README}: {'is current' if current else 'updated'}")
