"""Digests of values, files and folders: what kept work is keyed by."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from text2sql.core.files import user_cache, write_text

LARGE_BYTES = 1_000_000  # from which on a file's digest is kept: below, reading it again is as quick


def digest_of(value: Any) -> str:
    """Return 16 hexadecimal digits that stand for `value`, any JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def digest_of_tree(path: str | Path) -> str:
    """Return a digest of a file, or of all files below a folder with their names; compiled Python is left out."""
    path = Path(path)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return digest_of(
        [[file.relative_to(path).as_posix(), file_sha256(file)] for file in files if "__pycache__" not in file.parts]
    )


def file_sha256(path: str | Path) -> str:
    """Return the sha256 of a file; of a large one it is computed once and kept in the user's cache.

    Kept by path, size, inode and time of change. Where the cache cannot be written it is computed each time.
    """
    path = Path(path).resolve()
    status = path.stat()
    kept = None
    if status.st_size >= LARGE_BYTES:
        identity = [str(path), status.st_size, status.st_ino, status.st_ctime_ns]
        kept = user_cache() / "digests" / digest_of(identity)
        try:
            return kept.read_text(encoding="ascii")
        except OSError:
            pass
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if kept is not None and os.stat(path).st_ctime_ns == status.st_ctime_ns:
        try:
            write_text(kept, found)
        except OSError:
            pass  # a cache that cannot be written costs time, nothing else
    return found
