"""Random streams: what makes a sampled answer independent of the batch it is drawn in.

A stream is counter-based: the number for the n-th token is a hash of the answer's stream and n (splitmix64, Steele et
al., "Fast splittable pseudorandom number generators", 2014). No state is kept, so that a run that was cut goes on with
the same numbers, and a CUDA graph may record the step (`text2sql.model.sampler`).
"""

from dataclasses import dataclass

STEP, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
SHIFTS = (30, 27, 31)
_BITS = (1 << 64) - 1


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: logits divided by `temperature`, then the most likely that together have `top_p`."""

    temperature: float
    top_p: float
    seed: int


@dataclass(frozen=True)
class Sampled:
    """A sampled answer: its token ids, the end token included, and its log-likelihood (nats) under the model.

    The likelihood is that of the model itself: at temperature 1, over the whole vocabulary.
    """

    ids: list[int]
    log_likelihood: float


def stream(seed: int, question: int, sample: int) -> int:
    """Return the stream, 64 bits, of one question's sample of this number."""
    state = 0
    for value in (seed, question, sample):
        state = _mixed((state + STEP + value) & _BITS)
    return state


def _mixed(value: int) -> int:
    """Return what splitmix64 makes of a counter."""
    value = ((value ^ (value >> SHIFTS[0])) * FIRST) & _BITS
    value = ((value ^ (value >> SHIFTS[1])) * SECOND) & _BITS
    return value ^ (value >> SHIFTS[2])


def signed(value: int) -> int:
    """Return the int64 that has the bits of `value`."""
    return value - (1 << 64) if value >> 63 else value
