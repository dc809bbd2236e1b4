"""A journal of finished work, from which a killed run resumes.

Each finished batch is appended as whole lines and reaches the disk before the next one starts. A journal's name is a
digest of everything that its records depend on: other params, data or code never pick it up.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from text2sql.core.dependencies import Key
from text2sql.core.errors import UserError
from text2sql.core.files import json_line, read_json, write_json

JOURNALS = Path(".journals")
# A field of records, and of the predictions made of them: memory ran out, and their batch was asked in parts. True, or
# not there.
HALVED = "halved_batch"
# A field of the first prediction, and of metrics: the factor that the adapter was scaled by, where it is not 1.
STRENGTH = "strength"


class Journal:
    """Records of finished work under `folder`, one file a process, each record with its `index`."""

    def __init__(self, name: str, key: Key, process: int = 0, folder: Path = JOURNALS) -> None:
        """Open the journal `name` of work that depends on `key`.

        Records of another key are not used: the first process says in one line what changed since.
        """
        self._folder, self._name = folder, name
        self._stem = f"{name}-{key.digest}"
        self._path = folder / f"{self._stem}-{process}.jsonl"
        self._key = key
        if process == 0 and not any(folder.glob(f"{self._stem}-*.jsonl")):
            say_what_changed(name, key, folder.glob(f"{of_any_key(name, key)}.key.json"))

    def records(self) -> dict[int, dict]:
        """Return the finished records of all processes by `index`. A line truncated by a kill is skipped."""
        finished: dict[int, dict] = {}
        for path in sorted(self._folder.glob(f"{self._stem}-*.jsonl")):
            for line in path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    continue
                try:
                    record = json.loads(line)
                    finished[record["index"]] = record
                except (ValueError, KeyError, TypeError):
                    continue
        return finished

    def append(self, records: Iterable[dict]) -> None:
        """Append `records` and sync them to disk."""
        if not self._path.exists():
            keep_key(self._folder / f"{self._stem}.key.json", self._key)
        text = "".join(json_line(record) for record in records).encode()
        with self._path.open("ab+") as file:
            if file.tell() and not _ends_with_newline(file):
                # A kill truncated the last line: start a new one.
                text = b"\n" + text
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Delete the journal, once its records are in the output. Those of other keys stay, no longer spoken of."""
        for pattern in (f"{self._stem}-*.jsonl", f"{of_any_key(self._name, self._key)}.key.json"):
            for path in self._folder.glob(pattern):
                path.unlink(missing_ok=True)


def of_any_key(name: str, key: Key) -> str:
    """Return a pattern of file names: `name` with the digest of any key, and not of a longer name that begins so."""
    return f"{name}-{'[0-9a-f]' * len(key.digest)}"


def keep_key(path: Path, key: Key) -> None:
    """Write `key` to `path`, for `say_what_changed`."""
    write_json(path, dict(key.parts))


def say_what_changed(name: str, key: Key, kept: Iterable[Path]) -> None:
    """Print one line where work of this `name` was left under another key, the last of the files `kept`."""
    files = sorted(kept, key=lambda path: path.stat().st_mtime)
    if files:
        try:
            changed = key.changed_from(Key(read_json(files[-1])))
        except (UserError, AttributeError):
            changed = ["its key, which cannot be read"]
        if changed:
            print(f"{name}: starts over; changed since the run that was cut: {', '.join(changed)}", flush=True)


def _ends_with_newline(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
