"""A carried GGUF base made ready: its file's sum checked, converted, saved, each time in a process of its own.

    python -m benchmarks.bench_gguf --model qwen2.5-coder-0.5b-instruct [--against FOLDER] [--repeats N] [--save]

The file is fetched first, if it is not kept, which is not counted; each run then has a cache of its own in which it
alone lies, and ends when the folder has its name. `--against` is the checkout of another build: both take turns, and
have to write the same bytes. Seconds on the clock and the processor's, both the least of all repeats (other work on a
machine only adds to them); memory is the process's peak, mapped files included.
"""

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measuring import OURS, REPOSITORY, Side, result
from benchmarks.results import show
from benchmarks.targets import TARGETS, TODAY, row
from text2sql.model.base_files import CarriedBase, base_file, cache
from text2sql.model.bases import CARRIED, EMBEDDED_BASE, converted_folder, lock
from text2sql.model.gguf_file import read_header

PROGRAM = "import sys; from text2sql.model.bases import CARRIED, carried_base; carried_base(CARRIED[sys.argv[1]])"
# A process in between, whose children are this run's alone.
MEASURED = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
seconds, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([done.returncode, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss, done.stderr[-2000:]]))
"""


class Making(Side):
    """A build that makes a base ready; answers are the sums of the files that it writes."""

    def __init__(self, name: str, build: Path, base: CarriedBase) -> None:
        super().__init__(name, lambda: None)
        self._build, self._base = build, base
        self.processor: list[float] = []

    def run(self) -> float:
        """Make the base ready in an empty cache; return the seconds on the clock, from the process's start."""
        with tempfile.TemporaryDirectory(prefix="bench-", dir=cache().parent) as folder:
            bases = Path(folder) / "text2sql" / "bases"
            bases.mkdir(parents=True)
            os.link(cache() / self._base.file, bases / self._base.file)
            environment = {**os.environ, "PYTHONPATH": str(self._build), "XDG_CACHE_HOME": folder}
            done = subprocess.run(
                [sys.executable, "-c", MEASURED, sys.executable, "-c", PROGRAM, self._base.name],
                cwd=self._build, env=environment, stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            failed, seconds, processor, peak, said = json.loads(done.stdout)
            if failed:
                raise RuntimeError(f"{self.name}: {said}")
            self.processor.append(processor)
            self.peak_gb = max(self.peak_gb or 0, peak * (1 if sys.platform == "darwin" else 1024) / 1e9)
            self.answers = _sums(next(path for path in bases.iterdir() if path.is_dir()))
        return seconds


def measure(
    model: str = "qwen2.5-coder-0.5b-instruct", against: Path | None = None, repeats: int = 3, short: bool = False
) -> dict:
    """Return the seconds and peaks of making `model` ready. Raises RuntimeError where two builds' files differ."""
    if short:
        model, repeats = EMBEDDED_BASE, 1
    base = CARRIED[model]
    with lock(converted_folder(base.file, base.sha256)):
        base_file(base)
    sides = [Making(OURS, REPOSITORY, base), *([Making(TODAY, against, base)] if against else [])]
    for _ in range(repeats):
        for side in sides:
            side.seconds.append(side.run())
            print(f"  {side.name}: {side.seconds[-1]:.3g} s, {side.processor[-1]:.3g} s of processor time", flush=True)
            if side.answers != sides[0].answers:
                raise RuntimeError(f"{side.name} writes other files: {set(side.answers) ^ set(sides[0].answers)}")
    largest = max(2 * math.prod(tensor.shape) for tensor in read_header(cache() / base.file).tensors.values()) / 1e9
    ours, peer = sides[0], sides[-1] if against else None
    least = {side.name: min(side.seconds) for side in sides}
    processor = "; ".join(f"{side.name} {min(side.processor):.3g} s" for side in sides)
    memory = None if peer is None else peer.peak_gb
    size = model.split("-")[2]
    return result(
        f"gguf {model}",
        f"{base.file}: sum, conversion and saving; seconds are the least of {repeats}",
        {"repeats": repeats, "largest_tensor_gb": round(largest, 3)},
        sides,
        [],
        rows=[
            row(f"gguf-{size}", least[OURS], peer and least[peer.name], gb=(ours.peak_gb, memory),
                answers="the same bytes" if peer else None),
            row(f"gguf-{size}-memory", ours.peak_gb - largest, gb=(ours.peak_gb, memory)),
        ] if f"gguf-{size}" in TARGETS else [],
        processor_seconds={side.name: [round(one, 3) for one in side.processor] for side in sides},
        notes=[f"Processor time, the least of {repeats}: {processor}.", f"Largest tensor: {largest:.3f} GB."],
    )  # fmt: skip


def _sums(folder: Path) -> list[str]:
    sums = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            sums.append(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}")
    return sums


def main(arguments: Sequence[str]) -> None:
    """Measure as `arguments` say, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct", choices=list(CARRIED))
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="a checkout of another build")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--save", action="store_true", help="merge into benchmarks/results")
    options = vars(parser.parse_args(arguments))
    saved = options.pop("save")
    show(measure(**options), saved)


if __name__ == "__main__":
    main(sys.argv[1:])
