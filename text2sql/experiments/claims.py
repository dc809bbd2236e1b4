"""Who works on what, where several processes run the points of one curve in one folder: one a GPU, say.

A claim is a lock on a file, which the system gives back where a process is killed.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout


@contextlib.contextmanager
def claim(work: Path, *names: str, wait: bool = False) -> Iterator[bool]:
    """Yield whether this process has all of `names` to itself until the block ends.

    Where another process has one, yields False, or with `wait` waits for it. `work` is the curve's folder below
    `.tradeoff/`.
    """
    folder = work / "claims"
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            for name in names:
                held.enter_context(FileLock(folder / f"{name}.lock", timeout=-1 if wait else 0))
            ours = True
        except Timeout:
            held.close()
            ours = False
        yield ours
