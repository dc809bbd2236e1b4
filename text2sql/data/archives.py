"""Reading a data set from a folder or a zip file, neither of which is trusted.

A zip is never unpacked as a whole: its members are read one by one, under names that were checked first. It is
refused as a whole where a member's name is absolute or holds `..`, where a member is a link, is encrypted or appears
twice, and where the sizes look like a bomb. A folder is the user's own and may hold links (DVC and hub caches do);
the names looked up in it come from data files, though, and pass the same check.
"""

import contextlib
import io
import os
import re
import shutil
import stat
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, TextIO

from text2sql.core.errors import UserError

MAX_MEMBERS = 200_000
MAX_MEMBER_BYTES = 2 * 1024**3
MAX_TOTAL_BYTES = 16 * 1024**3
# Real benchmark files compress up to 100-fold, repetitive text 300-fold, a bomb 1000-fold and more. Small members are
# exempt.
MAX_RATIO = 500
RATIO_APPLIES_FROM_BYTES = 16 * 1024**2

# What zipfile raises on damaged files; OSError where a damaged offset makes it seek before the start.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    OSError,
)
# What archivers add beside the data.
_NOISE = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")
_MAC_TWIN = "._"  # begins the name of a file that macOS puts beside another one


class Archive(ABC):
    """A folder or zip, seen from the folder inside it that holds the data. Names are relative, with `/`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = ""

    @abstractmethod
    def _open(self, name: str) -> BinaryIO: ...

    @abstractmethod
    def _has(self, name: str) -> bool: ...

    @abstractmethod
    def _list(self, name: str) -> list[str]: ...

    def describe(self, name: str) -> str:
        """Return the path of the file `name` for messages, prefixed with the zip's."""
        return f"{self.path}/{self.root}{name}"

    def has(self, name: str) -> bool:
        """Say whether there is a file of this name."""
        return is_safe_name(name) and self._has(self.root + name)

    def names(self, folder: str = "") -> list[str]:
        """Return the sorted names in `folder`, of files and folders alike; none where it is missing."""
        return sorted(name for name in self._list((self.root + folder).rstrip("/")) if not _is_noise(name))

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open the file `name` for reading bytes. Raises UserError where it is missing or damaged."""
        if not self.has(name):
            raise UserError(f"{self.describe(name)}: no such file")
        with self._open(self.root + name) as file:
            yield file

    def read(self, name: str) -> bytes:
        """Return the bytes of the file `name`. Raises UserError where it is missing or damaged."""
        with self.open(name) as file:
            return file.read()

    def copy(self, name: str, destination: Path) -> None:
        """Copy the file `name` to `destination`, whole or not at all."""
        try:
            with self.open(name) as source, open(destination, "xb") as target:
                shutil.copyfileobj(source, target, 1024**2)
        except BaseException:
            destination.unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def open_text(self, name: str) -> Iterator[TextIO]:
        """Open the file `name` as UTF-8 text, line ends as they are. Raises UserError where it is not UTF-8."""
        with self.open(name) as file:
            try:
                yield io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
            except UnicodeDecodeError as error:
                raise UserError(f"{self.describe(name)}: not UTF-8: {error}") from None

    def enter_top_folder(self, holds_data: Callable[["Archive"], bool], wanted: str) -> None:
        """Step into the one top folder that holds the data, unless they lie at the top.

        `holds_data(archive)` says whether they lie at `archive.root`. Raises UserError naming `wanted` where they
        lie nowhere, or in several folders.
        """
        if holds_data(self):
            return
        found = []
        for name in self.names():
            self.root = f"{name}/"
            if holds_data(self):
                found.append(self.root)
        self.root = found[0] if found else ""
        if not found:
            raise UserError(f"{self.path}: found no {wanted}, neither at the top nor in one top folder")
        if len(found) > 1:
            raise UserError(f"{self.path}: found {wanted} in several folders ({', '.join(found)}), wanted one")


class _Folder(Archive):
    def _open(self, name: str) -> BinaryIO:
        try:
            return open(self.path / name, "rb")
        except PermissionError:
            raise UserError(f"{self.path}/{name}: not permitted to read this file") from None

    def _has(self, name: str) -> bool:
        return os.path.isfile(self.path / name)  # pathlib's raises where a folder may not be read

    def _list(self, name: str) -> list[str]:
        folder = self.path / name
        try:
            return os.listdir(folder) if os.path.isdir(folder) else []
        except PermissionError:
            raise UserError(f"{folder}: not permitted to read this folder") from None


class _Zip(Archive):
    def __init__(self, path: Path, zip_file: zipfile.ZipFile) -> None:
        super().__init__(path)
        self._zip = zip_file
        self._members = _checked_members(path, zip_file.infolist())
        self._folders: dict[str, set[str]] = {}
        for name in self._members:
            parts = name.split("/")
            for depth in range(len(parts)):
                self._folders.setdefault("/".join(parts[:depth]), set()).add(parts[depth])

    def _open(self, name: str) -> BinaryIO:
        member = self._members[name]
        shown = f"{self.path}/{name}"
        try:
            file = self._zip.open(member)
        except _ZIP_ERRORS as error:
            raise UserError(f"{shown}: damaged: {error}") from None
        return io.BufferedReader(_Bounded(file, member.file_size, shown), 256 * 1024)

    def _has(self, name: str) -> bool:
        return name in self._members

    def _list(self, name: str) -> list[str]:
        return list(self._folders.get(name, ()))


class _Bounded(io.RawIOBase):
    """A member's bytes; a UserError where they are damaged, or more or fewer than the zip declares."""

    def __init__(self, file: IO[bytes], declared: int, shown: str) -> None:
        self._file = file
        self._declared = declared
        self._shown = shown
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            chunk = self._file.read(len(buffer))
        except _ZIP_ERRORS as error:
            raise UserError(f"{self._shown}: damaged: {error}") from None
        self._count += len(chunk)
        if self._count > self._declared or (not chunk and self._count < self._declared):
            raise UserError(
                f"{self._shown}: damaged: holds {self._count} bytes where the zip declares {self._declared}"
            )
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        self._file.close()
        super().close()


@contextlib.contextmanager
def open_archive(path: str | Path) -> Iterator[Archive]:
    """Open a folder or zip file as an Archive.

    Raises UserError where it is missing, is neither, is damaged, or is not safe to read.
    """
    path = Path(path)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise UserError(f"{path}: no such folder or zip file: {error.strerror}") from None
    if is_folder:
        yield _Folder(path)
        return
    if not is_file:
        raise UserError(f"{path}: no such folder or zip file")
    with contextlib.ExitStack() as stack:
        try:
            archive = _Zip(path, stack.enter_context(zipfile.ZipFile(path)))
        except PermissionError:
            raise UserError(f"{path}: not permitted to read this file") from None
        except _ZIP_ERRORS as error:
            raise UserError(f"{path}: neither a folder nor a readable zip file: {error}") from None
        yield archive


def _is_noise(name: str) -> bool:
    return name in _NOISE or name.startswith(_MAC_TWIN)


def is_safe_name(name: str) -> bool:
    """Say whether `name` stays inside the folder it is looked up in, on any system."""
    parts = name.split("/")
    return not (
        any(part in ("", ".", "..") for part in parts)
        or "\\" in name
        or re.match(r"[A-Za-z]:", name)
        or any(ord(character) < 32 for character in name)
        or any(len(part.encode("utf-8", "replace")) > 255 for part in parts)
    )


def _checked_members(path: Path, infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return the zip's files by name. Raises UserError at the first member that a good archive would not have."""
    if len(infos) > MAX_MEMBERS:
        raise UserError(f"{path}: declares {len(infos)} files, takes at most {MAX_MEMBERS}")
    members: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for info in infos:
        name = info.filename.rstrip("/")
        shown = f"{path}: member {info.filename[:100]!r}"
        if not is_safe_name(name):
            raise UserError(f"{shown}: its name leads out of the archive or is no file name; refused")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(f"{shown}: is a link or a special file; refused")
        if info.is_dir():
            continue
        if info.flag_bits & 1:
            raise UserError(f"{shown}: is encrypted; takes plain files only")
        if name in members:
            raise UserError(f"{shown}: appears twice; refused")
        total += info.file_size
        if info.file_size > MAX_MEMBER_BYTES or total > MAX_TOTAL_BYTES:
            raise UserError(
                f"{shown}: unpacks to {info.file_size} bytes, {total} with those before it; takes at most "
                f"{MAX_MEMBER_BYTES} a file and {MAX_TOTAL_BYTES} in all"
            )
        if info.file_size > max(RATIO_APPLIES_FROM_BYTES, MAX_RATIO * info.compress_size):
            raise UserError(
                f"{shown}: {info.compress_size} bytes unpack to {info.file_size}, over {MAX_RATIO} times as many; "
                "refused as a decompression bomb"
            )
        members[name] = info
    return members
