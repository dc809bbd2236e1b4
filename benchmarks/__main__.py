"""Run the benchmarks that this machine allows, and write `benchmarks/results/<machine>.json` and `.md`.

    python -m benchmarks [--short] [--model FOLDER …] [NAME …]

Names: predict, mmlu, train, startup, growth, scoring, load, own, gguf; all by default. `--short` takes some minutes on
two CPU cores: few questions, few steps, one run of each side; it shows that all of them work and give the same answers,
and its times are rough (`make bench SHORT=1` leaves them in `tmp/benchmarks`). Its ratios stand beside those of
`benchmarks/short.json`, which `--record` writes; it fails where one is under a third of the recorded one three times in
a row. `--model` (on a GPU) measures prediction and training once more on a local base in 4 bit, such as `python -m
benchmarks.random_base` writes. `--spider` and `--mmlu` name real data in the official layout; by default it is the
project's own sample, gone through again where more questions are needed. A benchmark that cannot run says why.
"""

import argparse
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.machine import machine, on_gpu
from benchmarks.measuring import OURS, Unavailable, figure, markdown
from benchmarks.results import RESULTS, save
from text2sql.core.files import read_json, write_json

NAMES = ("predict", "mmlu", "train", "startup", "growth", "scoring", "load", "own", "gguf")
# Ratios of short runs, which others are held against.
RECORDED = RESULTS.parent / "short.json"
RUNS = 3  # that have to be slow


def plans(options: argparse.Namespace) -> Iterator[tuple[str, dict]]:
    """Yield each benchmark's module name and the arguments of its `measure`."""
    for name in options.names or NAMES:
        arguments = {"short": True} if options.short else {}
        if options.spider and name in ("predict", "train", "scoring", "growth"):
            arguments["spider"] = Path(options.spider)
        if options.mmlu and name in ("mmlu", "growth"):
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
    return {"name": name, "machine": machine(), **found}


def ratios(found: dict) -> dict[str, float]:
    """Return how many times as fast as each peer this project was, by what was compared; more is better."""
    return {
        f"{found['name']}: {row.get('ours', OURS)} against {row['peer']}": round(
            1 / row["ratio"] if row["ratio_of"].startswith(OURS) else row["ratio"], 3
        )
        for row in found["comparisons"]
    }


def beside_recorded(measure: Callable[[], dict], recorded: Mapping[str, float]) -> tuple[dict, list[str]]:
    """Return what `measure` finds, and which ratios were under a third of the recorded ones in all of three runs.

    Prints each ratio beside the recorded one. Where none is that low, once is enough.
    """
    slow: list[str] | None = None
    for _ in range(RUNS):
        found = measure()
        now = ratios(found)
        for name, ratio in now.items():
            known = f"{figure(recorded[name])} ×" if name in recorded else "nothing"
            print(f"  {name}: {figure(ratio)} ×, recorded {known}", flush=True)
        low = [name for name, ratio in now.items() if ratio < recorded.get(name, 0) / 3]
        slow = low if slow is None else [name for name in slow if name in low]
        if not slow:
            break
    return found, slow or []


def main(arguments: Sequence[str]) -> int:
    """Run what `arguments` name, saving after each. Returns 1 where one of them failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--record", action="store_true", help="with --short: keep its ratios as the recorded ones")
    parser.add_argument("--model", metavar="FOLDER", help="a base for 4 bit, on a GPU")
    parser.add_argument("--spider", metavar="PATH")
    parser.add_argument("--mmlu", metavar="PATH")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; takes {', '.join(NAMES)}")
    print(f"{machine()['slug']}: {machine()['processor']}", flush=True)
    recorded = read_json(RECORDED) if RECORDED.is_file() else {}
    failed, written = [], None
    for name, kept in plans(options):
        print(f"\n{name} …", flush=True)
        try:
            if options.short and not options.record:
                found, slow = beside_recorded(partial(run, name, kept), recorded)
                failed += (f"{one}: under a third of the recorded ratio, {RUNS} times" for one in slow)
            else:
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
        if options.record:
            recorded |= ratios(found)
            write_json(RECORDED, dict(sorted(recorded.items())))
    if written:
        print(f"Written: {written} and {written.with_suffix('.json').name}")
    for line in failed:
        print(f"failed: {line.splitlines()[0]}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
