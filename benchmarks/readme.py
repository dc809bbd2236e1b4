"""The tables of benchmarks/README.md and the pages benchmarks/results/<machine>.md, made from the JSON beside those.

    python -m benchmarks.readme [--check]

`--check` writes nothing, and ends with exit code 1 where a file is not current.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.measuring import OURS, figure, time_of
from benchmarks.results import RESULTS, page
from text2sql.core.files import read_json, write_text
from text2sql.report.blocks import update_blocks
from text2sql.report.markdown_text import table

README = RESULTS.parent / "README.md"


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
    old = [README] if update_blocks(README, {"tables": tables()}, write) else []
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
