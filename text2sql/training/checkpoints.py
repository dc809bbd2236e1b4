"""Checkpoints of a training in progress: written atomically, verified before use, the last two kept.

They are not among the pipeline's outputs, but in a folder named by a digest of everything that the training depends on:
a training with other params, data or code never resumes from them.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text2sql.core.dependencies import Key
from text2sql.core.errors import RunError
from text2sql.core.journal import keep_key, of_any_key, say_what_changed

CHECKPOINTS = Path(".checkpoints")
KEPT = 2
# Lists every file of a checkpoint with its sha256; written last, so that a checkpoint with it is complete.
MANIFEST = "manifest.json"
KEY = "key.json"


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: its folder, its step, how many seconds the training had run, and how its passes ran."""

    folder: Path
    step: int
    seconds: float
    plan: Mapping[str, Any]  # of `PassPlan.kept`


class CheckpointStore:
    """The checkpoints of one training, under `root`."""

    def __init__(self, name: str, key: Key, root: Path = CHECKPOINTS) -> None:
        from filelock import FileLock

        self._name, self._key, self._root = name, key, root
        self.folder = root / f"{name}-{key.digest}"
        self._lock = FileLock(self.folder / "lock")

    @property
    def unfinished(self) -> Path:
        """The folder in which a checkpoint is written before it is renamed into place."""
        return self.folder / "unfinished"

    def lock(self) -> None:
        """Keep other runs of the same training out until `unlock`, or until this process ends.

        Raises RunError if one is running.
        """
        from filelock import Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise RunError(f"{self.folder}: another run of this same training is under way") from None

    def unlock(self) -> None:
        """Allow other runs of the same training."""
        self._lock.release()

    def say_what_changed(self) -> None:
        """Print one line where this training has no checkpoint, and one of the same name was cut: what differs."""
        if not self._folders():
            say_what_changed(self._name, self._key, self._root.glob(f"{of_any_key(self._name, self._key)}/{KEY}"))
        keep_key(self.folder / KEY, self._key)

    def begin(self) -> Path:
        """Empty the folder for the next checkpoint and return it."""
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self.unfinished.mkdir(parents=True)
        return self.unfinished

    def finish(self, written: Path, step: int, seconds: float, plan: Mapping[str, Any]) -> None:
        """Publish the checkpoint in the folder `written`, and delete all but the last ones."""
        manifest = {"step": step, "seconds": seconds, "plan": dict(plan), "files": _digests(written)}
        with (written / MANIFEST).open("w", encoding="utf-8") as file:
            json.dump(manifest, file)
            file.flush()
            os.fsync(file.fileno())
        target = self._folder_of(step)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(written, target)
        shutil.rmtree(self.unfinished, ignore_errors=True)
        for folder in self._folders()[KEPT:]:
            shutil.rmtree(folder, ignore_errors=True)

    def latest(self) -> Checkpoint | None:
        """Return the last complete checkpoint. Damaged ones are deleted, with a warning."""
        for folder in self._folders():
            try:
                manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
                whole = manifest["files"] == _digests(folder)
                checkpoint = Checkpoint(
                    folder, int(manifest["step"]), float(manifest["seconds"]), dict(manifest["plan"])
                )
            except (OSError, ValueError, KeyError, TypeError):
                whole = False
            if whole:
                return checkpoint
            print(f"warning: {folder}: this checkpoint is damaged; passing it over", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
        return None

    def remove(self) -> None:
        """Delete all checkpoints of this training: its adapter has been published.

        Those of other keys stay, and are not spoken of again.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        for key in self._root.glob(f"{of_any_key(self._name, self._key)}/{KEY}"):
            key.unlink(missing_ok=True)
        self.unlock()
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()  # unless it has checkpoints of another training

    def _folder_of(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}"

    def _folders(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"), reverse=True)


def _digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST:
            with path.open("rb") as file:
                digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
    return digests
