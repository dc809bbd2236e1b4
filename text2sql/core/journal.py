"""A journal of finished work, so that a killed run goes on where it was.

Each finished batch is appended as whole lines and reaches the disk before the next one starts. A journal's name is a
digest of everything that its records depend on: other params, data or code never pick it up.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from text2sql.core.files import json_line

JOURNALS = Path(".journals")


def digest_of(key: Any) -> str:
    """Return 16 hexadecimal digits that stand for `key`, any JSON value."""
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]


def digest_of_code(*rooms: str) -> str:
    """Return a digest of the source of this package's `rooms`, such as `"prompts"`."""
    package = Path(__file__).parents[1]
    files = [file for room in rooms for file in sorted((package / room).rglob("*.py"))]
    return digest_of([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])


def digest_of_tree(path: str | Path) -> str:
    """Return a digest of a file, or of all files below a folder with their names."""
    path = Path(path)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append([str(file.relative_to(path)), hashlib.file_digest(stream, "sha256").hexdigest()])
    return digest_of(digests)


class Journal:
    """Records of finished work under `folder`, one file a process, each record with its `index`."""

    def __init__(self, name: str, key: Any, process: int = 0, folder: Path = JOURNALS) -> None:
        self._folder = folder
        self._stem = f"{name}-{digest_of(key)}"
        self._path = folder / f"{self._stem}-{process}.jsonl"

    def records(self) -> dict[int, dict]:
        """Return the finished records of all processes by `index`. A line cut short by a kill is passed over."""
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
        """Append `records` and wait until they are on the disk."""
        self._folder.mkdir(parents=True, exist_ok=True)
        text = "".join(json_line(record) for record in records).encode()
        with self._path.open("ab+") as file:
            if file.tell() and not _ends_with_newline(file):
                # A kill cut the last line short: keep it apart from what follows.
                text = b"\n" + text
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Delete the journal: its records have been published."""
        for path in self._folder.glob(f"{self._stem}-*.jsonl"):
            path.unlink(missing_ok=True)


def _ends_with_newline(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
