"""Timings of work that was done in several pieces."""

from collections.abc import Mapping, Sequence
from typing import Any


def as_one(timings: Sequence[Mapping[str, Any]], **named: str) -> dict[str, Any]:
    """Return `timings`, each as `Stopwatch.write` returns it, as one: what they took in turn, the most memory of any.

    Where one went on from a run that was cut, so does the whole. `named`: its stage or model, if that is another.
    """
    tokens, seconds = _sum(timings, "tokens"), sum(timing["seconds"] for timing in timings)
    return {
        **timings[0],
        **({"went_on": True} if any("went_on" in timing for timing in timings) else {}),
        **named,
        "examples": _sum(timings, "examples"),
        "tokens": tokens,
        "seconds": round(seconds, 2),
        "tokens_per_second": None if tokens is None else round(tokens / max(seconds, 0.01), 1),
        **{name: _most(timings, name) for name in ("peak_memory_gb", "peak_gpu_memory_gb")},
    }


def _sum(timings: Sequence[Mapping[str, Any]], name: str) -> int | None:
    values = [timing[name] for timing in timings]
    return None if None in values else sum(values)


def _most(timings: Sequence[Mapping[str, Any]], name: str) -> float | None:
    return max((timing[name] for timing in timings if timing[name] is not None), default=None)
