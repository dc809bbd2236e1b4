"""The order in which examples are trained."""

import itertools
import math
import random
from collections.abc import Iterator, Sequence


class EpochOrder:
    """The order of the examples, a function of seed and epoch alone; as a sampler it yields positions.

    Each epoch is shuffled and cut into steps of `step_size` examples. Within a step the longest come first, so that the
    examples of a part have similar lengths and need little padding. The last step is filled up with the position one
    past the last example: a filler, of which the loss counts no token. Where each example is written in several ways,
    an epoch has all examples in the way that is its turn. A step is dealt among the `processes`, one block after the
    other, so that none has many more tokens than another: the slowest decides when a step ends.
    """

    def __init__(self, lengths: Sequence[int], step_size: int, seed: int, ways: int = 1, processes: int = 1) -> None:
        """`lengths`: how many tokens each example has, in the first way, then in the next of so many `ways`."""
        self._lengths, self._step_size, self._seed, self._ways = lengths, step_size, seed, ways
        self._processes = processes
        self._count = len(lengths) // ways
        self.steps_per_epoch = math.ceil(self._count / step_size)
        self.epoch = 0

    def __len__(self) -> int:
        return self.steps_per_epoch * self._step_size

    def __iter__(self) -> Iterator[int]:
        return itertools.chain.from_iterable(self.steps(self.epoch))

    def tokens(self, steps: int) -> int:
        """Return how many tokens, without padding, the first `steps` steps of the training read."""
        tokens = 0
        for epoch in range(math.ceil(steps / self.steps_per_epoch)):
            left = steps - epoch * self.steps_per_epoch
            for step in self.steps(epoch)[:left]:
                tokens += sum(self._lengths[position] for position in step if position < len(self._lengths))
        return tokens

    def steps(self, epoch: int) -> list[list[int]]:
        """Return the positions of each step of an epoch."""
        first = epoch % self._ways * self._count
        order = list(range(first, first + self._count))
        random.Random(f"{self._seed} {epoch}").shuffle(order)
        steps = []
        for start in range(0, len(order), self._step_size):
            step = sorted(order[start : start + self._step_size], key=lambda i: (-self._lengths[i], i))
            steps.append(self._dealt(step + [len(self._lengths)] * (self._step_size - len(step))))
        return steps

    def _dealt(self, step: list[int]) -> list[int]:
        """Return a step, the longest first, as a block a process: each goes to whoever has fewest tokens and room."""
        room = self._step_size // self._processes
        blocks: list[list[int]] = [[] for _ in range(self._processes)]
        tokens = [0] * self._processes
        for position in step:
            to = min((p for p in range(self._processes) if len(blocks[p]) < room), key=lambda p: tokens[p])
            blocks[to].append(position)
            tokens[to] += self._lengths[position] if position < len(self._lengths) else 1
        return list(itertools.chain.from_iterable(blocks))
