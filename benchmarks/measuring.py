"""Alternating runs of several sides, and their comparison."""

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, on_gpu, wait
from benchmarks.targets import TARGETS

REPOSITORY = Path(__file__).parent.parent
OURS = "this project"


class Unavailable(Exception):
    """This machine lacks what a benchmark needs; the message says what."""


@dataclass
class Side:
    """One of those compared: what it does, and what came of it."""

    name: str
    work: Callable[[], Any]
    """Does all of the work, or a part of it, and returns the answers."""
    scale: float = 1.0
    """Where `work` does a part: by how much its time is multiplied (linearly) to stand for the whole."""
    note: str = ""
    warm_up: float | None = None
    seconds: list[float] = field(default_factory=list)
    answers: Any = None
    peak_gb: float | None = None
    """The most memory that one run held: of the GPU's tensors; None where the side is not a process of its own."""

    def run(self) -> float:
        """Do the work once; return its seconds, scaled."""
        if on_gpu():
            import torch

            torch.cuda.reset_peak_memory_stats()
        wait()
        started = time.perf_counter()
        self.answers = self.work()
        wait()
        seconds = (time.perf_counter() - started) * self.scale
        if on_gpu():
            self.peak_gb = max(self.peak_gb or 0, torch.cuda.max_memory_allocated() / 1e9)
        return seconds

    @property
    def median(self) -> float:
        """The median of the timed runs, in seconds."""
        return statistics.median(self.seconds)

    def to_dict(self) -> dict:
        """Return repeats, median and warm-up in seconds, and notes."""
        return {
            "seconds": [round(value, 4) for value in self.seconds],
            "median": round(self.median, 4),
            "warm_up_seconds": None if self.warm_up is None else round(self.warm_up, 4),
            **({"scaled_by": round(self.scale, 3)} if self.scale != 1 else {}),
            **({"note": self.note} if self.note else {}),
            **({"peak_gb": round(self.peak_gb, 3)} if self.peak_gb else {}),
        }


def in_turns(sides: Sequence[Side], repeats: int, after_each: Callable[[], None] | None = None) -> None:
    """Run each of `sides` once to warm up, unless it was, then all in turns (A B A B …), `repeats` times.

    `after_each` is called whenever a timed run is done, once two sides have one: before, there is nothing to compare.
    """
    for side in sides:
        if side.warm_up is None:
            side.warm_up = side.run()
    for repeat in range(repeats):
        for side in sides:
            side.seconds.append(side.run())
            print(f"  {side.name}: run {repeat + 1} of {repeats}: {side.seconds[-1]:.3g} s", flush=True)
            if after_each and sum(bool(one.seconds) for one in sides) > 1:
                after_each()


def compared(ours: Side, peer: Side, goal: float | None, answers: str | None, at_most: bool = False) -> dict:
    """Return how many times faster `ours` is than `peer`, held against `goal`.

    With `at_most` the ratio is ours over the peer's, and the goal the most that it may be.
    """
    ratio = ours.median / peer.median if at_most else peer.median / ours.median
    return {
        "peer": peer.name,
        "ratio": round(ratio, 3),
        "ratio_of": f"{OURS} / peer" if at_most else f"peer / {OURS}",
        "goal": goal,
        "goal_met": None if goal is None else bool(ratio <= goal if at_most else ratio >= goal),
        "answers": answers,
    }


def result(
    name: str, what: str, counts: dict, sides: Sequence[Side | dict], comparisons: list[dict], **more: Any
) -> dict:
    """Return what a benchmark's `measure` returns.

    `more` holds the `bound`, `rows` (of `targets.row`), `sweeps` (of `sweep`), `notes`, and figures of its own.
    """
    return {
        "name": name,
        "what": what,
        "machine": machine(),
        "counts": counts,
        "sides": {side.name: side.to_dict() for side in sides},
        "comparisons": comparisons,
        **more,
    }


def bound(what: str, seconds: float, ours: Side) -> dict:
    """Return the physical bound of some work, and which share of it `ours` reaches."""
    return {"what": what, "seconds": round(seconds, 5), "share_reached": round(seconds / ours.median, 4)}


def same(found: Sequence, expected: Sequence) -> str:
    """Say how many of `found` equal `expected`."""
    equal = sum(one == other for one, other in zip(found, expected, strict=True))
    return f"{equal} of {len(expected)} the same"


def nearly_same(found: Sequence, expected: Sequence) -> bool:
    """Whether at most a tenth of `found`, or one, is not as `expected`: rounding breaks ties."""
    differ = sum(one != other for one, other in zip(found, expected, strict=True))
    return differ <= max(1, len(expected) // 10)


def best_of(sizes: Sequence[int], seconds_at: Callable[[int], float], most: int) -> tuple[int, float, str]:
    """Return the batch size (at most `most`) with the fewest seconds, those, and all that were tried in words.

    Sizes that do not fit into the GPU's memory are left out.
    """
    import torch

    found = {}
    for size in sorted({min(size, most) for size in sizes}):
        try:
            found[size] = seconds_at(size)
        except torch.OutOfMemoryError:
            found[size] = math.inf
        print(f"  batches of {size}: {found[size]:.3g} s", flush=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    best = min(found, key=found.get)
    return best, found[best], ", ".join(f"{size}: {seconds:.3g} s" for size, seconds in found.items())


def sweep(settings: Iterable[dict], seconds_at: Callable[[dict], float]) -> tuple[dict, list[dict]]:
    """Try `seconds_at` each of a peer's `settings` on a fixed part of the work; return the fastest, and a record each.

    A record has `settings`, `seconds` and `failure` (None, or in one line why it did not run: for lack of memory, or
    because the peer does not take it). Give a part that takes at least 5 s. Results carry the records as
    `sweeps={peer: records}`. Raises RuntimeError where all fail.
    """
    records = []
    for one in settings:
        seconds, failure = None, None
        try:
            seconds = round(seconds_at(one), 4)
        except Exception as error:  # a peer may raise anything
            failure = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        records.append({"settings": one, "seconds": seconds, "failure": failure})
        print(f"  {_settings(one)}: {failure or f'{seconds:.3g} s'}", flush=True)
        if on_gpu():
            import torch

            torch.cuda.empty_cache()
    ran = [record for record in records if record["failure"] is None]
    if not ran:
        raise RuntimeError(f"no setting runs; the last: {records[-1]['failure'] if records else 'there is none'}")
    return min(ran, key=lambda record: record["seconds"])["settings"], records


def _settings(settings: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def of_build(folder: Path, module: str, arguments: Sequence[str]) -> list[str]:
    """Return the command that runs `module` of these benchmarks, or `stages.…`, on the checkout in `folder`.

    `text2sql`, `stages` and `material.params()` are that checkout's, `benchmarks` and `testkit` are these. So a module
    of these is to import what only one of the builds has where that is used, and the build needs the same rooms; a
    stage runs on any build. With `Worker`: `Worker("benchmarks.bench_predict", ["--serve", plan], build=folder)`.
    """
    return [sys.executable, "-c", _OF_BUILD, str(REPOSITORY), str(folder.resolve()), module, *arguments]


_OF_BUILD = """
import os, runpy, sys
here, build, module = sys.argv[1:4]
sys.path.insert(0, build)
import stages, text2sql
sys.path[0] = here
os.environ["PYTHONPATH"] = build + os.pathsep + here
sys.argv[1:4] = []
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def markdown(found: dict) -> str:
    """Return a small table of one benchmark's result, with a line for its bound and one for each note.

    A benchmark with figures of another kind brings its own text as `markdown`.
    """
    if "markdown" in found:
        return f"**{found['name']}**\n\n{found['markdown'].strip()}\n"
    lines = [f"**{found['name']}**: {found.get('what', '')}", "", *_table(found), ""]
    limit = found.get("bound")
    if limit:
        lines.append(f"- Bound: {limit['what']}: {limit['seconds']:.3g} s; reached: {limit['share_reached']:.1%}.")
    lines += [f"- {note}" for note in found.get("notes", [])]
    for one in found.get("rows", []):
        target = TARGETS[one["target"]]
        lines.append(f"- {target.work}: {row_text(one)}; {target.shown}: {'met' if one['met'] else 'missed'}.")
    for peer, records in found.get("sweeps", {}).items():
        lines += [f"- {peer}, settings tried:", *map(_tried, records)]
    return "\n".join(lines).rstrip() + "\n"


def row_text(row: dict) -> str:
    """Return a row's figures in words: ours, the peer's, ratio, share of the bound, memory."""
    target = TARGETS[row["target"]]
    parts = [f"{figure(row['ours'])} {target.unit}".rstrip()]
    if row["peer"] is not None:
        parts[0] += f" against {figure(row['peer'])} {target.unit} ({row.get('peer_name') or target.against})"
    if row["ratio"] is not None:
        parts.append(f"{figure(row['ratio'])} ×")
    if row["share"] is not None:
        parts.append(f"{100 * row['share']:.3g} % of the bound")
    if any(gb is not None for gb in row["gb"]):
        parts.append("memory " + " and ".join("?" if gb is None else f"{gb:.2f}" for gb in row["gb"]) + " GB")
    return ", ".join(parts)


def _tried(record: dict) -> str:
    took = record["failure"] or f"{record['seconds']:.3g} s"
    return f"  - {_settings(record['settings'])}: {took}"


def figure(value: float) -> str:
    """Return a number with three digits that count: 0.446, 12.4, 3,420."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:g}"


def _table(found: dict) -> list[str]:
    sides = found.get("sides", {})
    if found.get("growth"):
        lines = ["| task | examples | seconds | exponent |", "| --- | --- | --- | --- |"]
        for task, one in found["growth"].items():
            examples = ", ".join(f"{count:,}" for count in one["examples"])
            seconds = ", ".join(f"{value:.3g}" for value in one["seconds"])
            lines.append(f"| {task} | {examples} | {seconds} | {one['exponent']:.2f} |")
        return lines
    if not found.get("comparisons"):
        rows = [f"| {name} | {time_of(one)} |" for name, one in sides.items()]
        return ["| side | seconds |", "| --- | --- |", *rows]
    lines = [
        "| this project | against | ratio | goal | answers |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in found["comparisons"]:
        name = row.get("ours", OURS)
        ours = time_of(sides.get(name)) + ("" if name == OURS else f" ({name})")
        lines.append(
            f"| {ours} | {row['peer']}: {time_of(sides.get(row['peer']))} | {figure(row['ratio'])} × | {_goal(row)} "
            f"| {row.get('answers') or '-'} |"
        )
    return lines


def time_of(side: dict | None) -> str:
    """Return a side's median in words; a dash where it was not measured."""
    if not side:
        return "-"
    scaled = ", scaled" if "scaled_by" in side else ""
    return f"{figure(side['median'])} s{scaled}"


def _goal(row: dict) -> str:
    if "goal_text" in row:
        return row["goal_text"]
    if row.get("goal") is None:
        return "-"
    sign = "≤" if row.get("ratio_of", "").startswith(OURS) else "≥"
    return f"{sign} {row['goal']:g} ×: " + ("met" if row["goal_met"] else "missed")


class Worker:
    """A side in a process of its own, for a library that changes the others when it is imported.

    The process runs `python -m MODULE ARGUMENTS`, says `ready` on a line of its own, and answers each line with one.
    `build` is a checkout whose `text2sql` it is to run with, see `of_build`.
    """

    MARK = "==RESULT== "

    def __init__(self, module: str, arguments: Sequence[str], build: Path | None = None) -> None:
        command = [sys.executable, "-m", module, *arguments] if build is None else of_build(build, module, arguments)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
        )
        self.ask(None)

    def ask(self, request: Any) -> Any:
        """Send `request` (nothing if None), and return the answer. Raises RuntimeError where the process ends."""
        if request is not None:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(self.MARK):
                return json.loads(line[len(self.MARK) :])
        raise RuntimeError(f"the process of {self._process.args[2]} ended with code {self._process.wait()}")

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()

    @classmethod
    def serve(cls, answer: Callable[[Any], Any]) -> None:
        """In the worker: announce that it is ready, then answer requests until the input ends."""
        cls.tell("ready")
        for line in sys.stdin:
            cls.tell(answer(json.loads(line)))

    @classmethod
    def tell(cls, value: Any) -> None:
        """In the worker: send `value`."""
        print(f"\n{cls.MARK}{json.dumps(value)}", flush=True)


class WorkerSide(Side):
    """A side that a worker runs, which answers `request` with `{"seconds": …, "answers": …}`, and `peak_gb` maybe."""

    def __init__(self, name: str, worker: Worker, request: Any) -> None:
        super().__init__(name, lambda: None)
        self._worker, self._request = worker, request

    def run(self) -> float:
        """Have the worker do the work once; return its seconds."""
        if on_gpu():
            import torch

            torch.cuda.empty_cache()  # both processes share the GPU's memory
        answer = self._worker.ask(self._request)
        self.answers = answer["answers"]
        self.peak_gb = answer.get("peak_gb", self.peak_gb)
        return answer["seconds"]
