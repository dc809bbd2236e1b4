"""The adapter of a training in progress, kept at evenly spaced steps: to be asked how far it had come by then."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Snapshots:
    """Keep an adapter at so many `places` of its training, the end among them, each below `folder`."""

    folder: Path
    places: int

    def before_the_end(self, total: int) -> list[int]:
        """Return after which of `total` steps a copy is kept: after the last one it is the trained adapter itself."""
        return steps_along(total, self.places)[:-1]

    def at(self, step: int) -> Path:
        """Return the folder of the adapter after `step` steps."""
        return self.folder / str(step)

    def are_there(self, total: int) -> bool:
        """Whether a training of `total` steps has left all of them."""
        return all(self.at(step).is_dir() for step in self.before_the_end(total))


def steps_along(total: int, places: int) -> list[int]:
    """Return the steps at `places` evenly spaced places of `total`, the last of them `total`; no more than there are.

    A place between two steps is the later one.
    """
    return sorted({-(-total * place // places) for place in range(1, places + 1)})
