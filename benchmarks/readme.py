"""The tables of benchmarks/README.md and the pages benchmarks/results/<machine>.md, made from the JSON beside those.

The first table has the targets (benchmarks/targets.py) with the rows that were measured for them, on whatever machine,
and names those that were not; the others, a machine each, have all comparisons with a peer.

    python -m benchmarks.readme [--check]

`--check` writes nothing, and ends with exit code 1 where a file is not current.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.measuring import OURS, figure, time_of
from benchmarks.results import RESULTS, page
from benchmarks.targets import TARGETS, Target
from text2sql.core.files import read_json, write_text
from text2sql.report.blocks import update_blocks
from text2sql.report.markdown_text import table

README = RESULTS.parent / "README.md"


def targets(results: Path = RESULTS) -> str:
    """Return the table of targets: both figures, ratio, share of the bound and memory of the row of each."""
    measured: dict[str, tuple[dict, str]] = {}
    for path in sorted(results.glob("*.json")):
        for found in read_json(path).values():
            for one in found.get("rows", []):
                measured[one["target"]] = one, path.stem
    heads = ("Work", "Target", "Ours", "Against", "Ratio", "Of the bound", "GB", "Command", "Machine")
    return table(heads, [_target(target, *measured.get(key, (None, ""))) for key, target in TARGETS.items()])


def _target(target: Target, row: dict | None, machine: str) -> tuple[str, ...]:
    if row is None:
        nothing = ("-", "-", "-")
        return target.work, target.shown, "not measured", target.against, *nothing, f"`{target.command}`", "-"

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{figure(value)} {target.unit}".rstrip()

    memory = " / ".join("?" if gb is None else f"{gb:.2f}" for gb in row["gb"])
    return (
        target.work,
        f"{target.shown}: {'met' if row['met'] else '**missed**'}",
        shown(row["ours"]),
        "-" if row["peer"] is None else f"{row.get('peer_name') or target.against}: {shown(row['peer'])}",
        "-" if row["ratio"] is None else f"{figure(row['ratio'])} ×",
        "-" if row["share"] is None else f"{100 * row['share']:.3g} %",
        "-" if memory == "? / ?" else memory.removesuffix(" / ?"),
        f"`{row.get('command') or target.command}`",
        f"[{machine}](results/{machine}.md)",
    )


def tables(results: Path = RESULTS) -> str:
    """Return a table a machine of all comparisons with a peer, below the machine's name."""
    return "\n\n".join(
        part
        for path in sorted(results.glob("*.json"))
        if (rows := list(_rows(kept := read_json(path))))
        for part in (
            f"### {_machine(next(iter(kept.values()))['machine'])}",
            table(("Work", OURS.capitalize(), "Against", "Ratio", "Answers"), rows),
            f"Counts, bounds and versions: [`{path.stem}.md`](results/{path.stem}.md).",
        )
    )


def _rows(kept: dict[str, dict]) -> Iterator[tuple[str, ...]]:
    for name, found in kept.items():
        for row in found["comparisons"]:
            ours = row.get("ours", OURS)
            less = row["ratio_of"].startswith(OURS)
            yield (
                name if ours == OURS else f"{name}: {ours.removeprefix(f'{OURS}, ')}",
                time_of(found["sides"][ours]),
                f"{row['peer']}: {time_of(found['sides'][row['peer']])}",
                f"{figure(row['ratio'])} ×{' as long' if less else ''}",
                row.get("answers") or "-",
            )


def _machine(machine: dict) -> str:
    gpus = " and ".join(sorted(set(machine["gpus"])))
    return f"{f'{gpus}, ' if gpus else ''}{machine['cores']} cores of {machine['processor']}"


def update(write: bool) -> list[Path]:
    """Return which files are not current; with `write`, make them so."""
    old = [README] if update_blocks(README, {"targets": targets(), "tables": tables()}, write) else []
    for path in sorted(RESULTS.glob("*.json")):
        shown, text = path.with_suffix(".md"), page(read_json(path))
        if not shown.is_file() or shown.read_text(encoding="utf-8") != text:
            old.append(shown)
            if write:
                write_text(shown, text)
    return old


def main(arguments: Sequence[str]) -> int:
    """Update the files, or check them; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 where a file is not current")
    check = parser.parse_args(arguments).check
    old = update(write=not check)
    for path in old:
        shown = path.relative_to(RESULTS.parents[1])
        print(f"{shown}: is not current; `python -m benchmarks.readme` updates it" if check else f"{shown}: updated")
    return 1 if check and old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
