"""Run the benchmarks that this machine allows, and write `benchmarks/results/<machine>.json` and `.md`.

    python -m benchmarks [--short] [--model FOLDER …] [NAME …]

Names: predict, mmlu, train, startup, growth, scoring, load, own, gguf; all by default. `--short` takes at most two and a half
minutes on two CPU cores: few questions, few steps, one run of each side; it shows that all of them work and give the
same answers, and its times are rough (`make bench SHORT=1` leaves them in `tmp/benchmarks`). `--model` (on a GPU)
measures prediction and training once more on a local base in 4 bit, such as `python -m benchmarks.random_base` writes.
`--spider` and `--mmlu` name real data in the official layout; by default it is the project's own sample, gone through
again where more questions are needed. A benchmark that cannot run says why.
"""

import argparse
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.machine import machine, on_gpu
from benchmarks.measuring import OURS, Unavailable, markdown
from benchmarks.results import RESULTS, save

NAMES = ("predict", "mmlu", "train", "startup", "growth", "scoring", "load", "own", "gguf")
# Times as fast as the official evaluator's method.
SCORING_GOAL = 15


def plans(options: argparse.Namespace) -> Iterator[tuple[str, dict]]:
    """Yield each benchmark's module name and the arguments of its `measure`."""
    for name in options.names or NAMES:
        arguments = {"short": True} if options.short else {}
        if options.spider and name in ("predict", "train", "scoring"):
            arguments["spider"] = Path(options.spider)
        if options.mmlu and name == "mmlu":
            arguments["mmlu"] = options.mmlu
        yield name, arguments
        if options.model and on_gpu() and name in ("predict", "train"):
            yield name, {**arguments, "model": options.model, "quantization": "4bit"}


def run(name: str, arguments: dict) -> dict:
    """Return what the benchmark `name` measures, with those of `arguments` that it takes."""
    if importlib.util.find_spec(f"benchmarks.bench_{name}") is None:
        raise Unavailable(f"there is no benchmarks/bench_{name}.py")
    measure = importlib.import_module(f"benchmarks.bench_{name}").measure
    taken = inspect.signature(measure).parameters
    found = measure(**{key: value for key, value in arguments.items() if key in taken})
    if name == "scoring":
        found = scoring(found)
    return {"name": name, "machine": machine(), **found}


def scoring(found: dict) -> dict:
    """Return what `bench_scoring` measures in the form of the others: gold results computed, and cached."""
    kept = f"{OURS}, gold kept"
    peer = found["peer"]
    names = {OURS: "cold", kept: "cached", peer: "official"}
    sides = {name: {"median": round(found[f"{key}_s"], 4)} for name, key in names.items()}
    rows = [
        {
            "ours": name,
            "peer": peer,
            "ratio": round(found[f"{names[name]}_ratio"], 3),
            "ratio_of": f"peer / {OURS}",
            "goal": SCORING_GOAL,
            "goal_met": found[f"{names[name]}_ratio"] >= SCORING_GOAL,
            "answers": f"the same but for {found['stopped']} that the sandbox stopped",
        }
        for name in (OURS, kept)
    ]
    return {
        "what": f"{found['examples']:,} predictions, {found['data']}, {found['workers']} workers",
        "counts": found,
        "sides": sides,
        "comparisons": rows,
        "bound": {
            "what": "processor time of plain SQLite for all different queries, over the workers",
            "seconds": round(found["bound_cold_s"], 5),
            "share_reached": round(found["bound_cold_s"] / found["cold_s"], 4),
        },
    }


def main(arguments: Sequence[str]) -> int:
    """Run what `arguments` name, saving after each. Returns 1 where one of them failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--model", metavar="FOLDER", help="a base for 4 bit, on a GPU")
    parser.add_argument("--spider", metavar="PATH")
    parser.add_argument("--mmlu", metavar="PATH")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; takes {', '.join(NAMES)}")
    print(f"{machine()['slug']}: {machine()['processor']}", flush=True)
    failed, written = [], None
    for name, kept in plans(options):
        print(f"\n{name} …", flush=True)
        try:
            found = run(name, kept)
        except Unavailable as reason:
            print(f"not run: {reason}")
            continue
        except Exception as error:
            traceback.print_exc()
            failed.append(f"{name}: {type(error).__name__}: {error}")
            continue
        print(markdown(found))
        written = save([found], options.results)
    if written:
        print(f"Written: {written} and {written.with_suffix('.json').name}")
    for line in failed:
        print(f"failed: {line.splitlines()[0]}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
