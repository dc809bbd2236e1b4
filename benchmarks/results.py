"""`benchmarks/results/<machine>.json` and `.md`: a later run replaces what it measured and keeps the rest."""

from collections.abc import Iterable
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.measuring import markdown
from text2sql.core.files import read_json, write_json, write_text

RESULTS = Path(__file__).parent / "results"


def save(found: Iterable[dict], folder: Path = RESULTS) -> Path:
    """Merge the results `found` into this machine's files, by the benchmark's name; return the Markdown's path."""
    path = folder / f"{machine()['slug']}.json"
    kept = read_json(path) if path.is_file() else {}
    for one in found:
        kept[one["name"]] = one
    write_json(path, kept)
    write_text(path.with_suffix(".md"), page(kept))
    return path.with_suffix(".md")


def show(found: dict, saved: bool) -> None:
    """Print the table of `found`, and merge it into this machine's results where it is to be `saved`."""
    print(markdown(found))
    if saved:
        print(save([found]))


def page(kept: dict[str, dict]) -> str:
    """Return the Markdown of all results of one machine."""
    here = next((one["machine"] for one in reversed(kept.values()) if "machine" in one), machine())
    gpu = f"{' and '.join(sorted(set(here['gpus'])))}, " if here["gpus"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    head = (
        f"# Speed on {here['slug']}\n\n{gpu}{here['cores']} cores of {here['processor']}, {here['memory_gb']} GB of "
        f"memory. {versions}.\n\nMedians of runs in turns, after a warm-up of each side that is not counted. "
        "Written by `python -m benchmarks`; repeats, counts and versions of each run are in the JSON file beside it.\n"
    )
    return "\n".join([head, *(markdown(one) for one in kept.values())])
