"""Result sets: what a finished run leaves under `results/<name>/`, and the tables made of them.

text2sql results export NAME              copy the last `dvc repro` to results/NAME/
text2sql results export NAME --mmlu-all   the same adapters on all of MMLU, to results/NAME/mmlu_all/
text2sql results export NAME --also       the same adapters on further evaluation sets, to results/NAME/also/
text2sql results export NAME --seed-run   Model 1 with another train.seed, to results/NAME/seeds/<seed>/; with
                                          --mmlu-all that adapter on all of MMLU, to results/NAME/seeds/<seed>/mmlu_all/
text2sql results adapter NAME             Model 1's adapter in bfloat16, to adapters/NAME/, for `text2sql ask`
text2sql results html NAME --spider PATH  the set's HTML report, made again from its files and your copy of Spider
text2sql results check                    hold every set against its own lock and its recipe
text2sql results table [--write|--check]  the tables of README and docs: print, update, exit 1 if old
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from text2sql.core.errors import ArgumentParser, RunError, UserError


def main(arguments: Sequence[str]) -> int:
    """Export a set or an adapter, check all sets, make a page or the tables; return the exit code."""
    options = _parse(arguments)
    if options.action == "export":
        _export(options)
    elif options.action == "adapter":
        from text2sql.report.stored_adapter import export_adapter

        print(export_adapter(options.name, options.replace))
    elif options.action == "html":
        from text2sql.report.set_page import write_page

        print(write_page(options.name, options.spider, options.out))
    elif options.action == "check":
        _check()
    else:
        _table(options.write, options.check)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = ArgumentParser(prog="text2sql results", description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    exporting = actions.add_parser("export", help="copy the last run to results/NAME/")
    exporting.add_argument("--mmlu-all", action="store_true", help="to results/NAME/mmlu_all/: MMLU's part alone")
    exporting.add_argument("--also", action="store_true", help="to results/NAME/also/: the sets of data.also alone")
    exporting.add_argument("--seed-run", action="store_true", help="to results/NAME/seeds/<seed>/: Model 1 alone")
    adapter = actions.add_parser("adapter", help="keep Model 1's adapter in bfloat16, in adapters/NAME/")
    page = actions.add_parser("html", help="make the HTML report of a set")
    page.add_argument("--spider", metavar="PATH", type=Path, required=True, help="folder or zip in Spider's layout")
    page.add_argument("--out", metavar="FILE", type=Path, help="default: reports/NAME.html")
    for action in (exporting, adapter, page):
        action.add_argument("name", help="the set's name: that of its recipe in recipes/")
    for action in (exporting, adapter):
        action.add_argument("--replace", action="store_true", help="in place of what is there")
    actions.add_parser("check", help="hold every set against its own lock and its recipe")
    table = actions.add_parser("table", help="the tables of README.md and docs/")
    mode = table.add_mutually_exclusive_group()
    mode.add_argument("--write", action="store_true", help="update the files")
    mode.add_argument("--check", action="store_true", help="exit 1 where a file is not current")
    return parser.parse_args(arguments)


def _export(options: argparse.Namespace) -> None:
    if options.also and (options.mmlu_all or options.seed_run):
        raise UserError("--also: is a run of its own, beside --mmlu-all and --seed-run")
    from text2sql.report.result_sets import export

    target = export(options.name, options.mmlu_all, options.seed_run, options.replace, options.also)
    files = [path for path in target.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{target}: {len(files)} files, {size:.1f} MB; now: text2sql results table --write")


def _check() -> None:
    from text2sql.report.result_sets import check
    from text2sql.report.stored_adapter import check_adapters

    check()
    check_adapters()


def _table(write: bool, check: bool) -> None:
    from text2sql.report.read_sets import read_sets
    from text2sql.report.result_sets import RESULTS
    from text2sql.report.results_table import blocks, update
    from text2sql.report.steps import STEPS, steps_blocks

    steps = steps_blocks()
    wanted = blocks(read_sets(RESULTS)) | ({STEPS: steps} if steps else {})
    if not (write or check):
        print("\n\n".join(block for found in wanted.values() for block in found.values()))
        return
    old = ", ".join(map(str, update(wanted, write)))
    if check and old:
        raise RunError(f"{old}: is not current; `text2sql results table --write` updates it")
    print(f"{old}: updated" if old else "README.md and the tables of docs/: current")
