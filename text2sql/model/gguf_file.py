"""The header of a GGUF file, with every length held against the file before anything is allocated.

The form: github.com/ggml-org/ggml/blob/master/docs/gguf.md. The library `gguf` reads it too, but believes what a
truncated or lying file says of itself, and takes half a minute for a vocabulary of 150,000 tokens. Its tables of
quantisations, and its dequantisation, are used here.
"""

import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32  # of the tensors' data, in bytes, where the file names no other
MOST_DIMENSIONS = 4
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd"))  # metadata types, as struct calls them
_STRING, _ARRAY = 8, 9
# The fewest bytes of a metadata entry (an empty key, a type, one byte) and of a tensor's (an empty name, no dimension).
_LEAST_ENTRY, _LEAST_TENSOR = 8 + 4 + 1, 8 + 4 + 4 + 8


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies in its file."""

    name: str
    shape: tuple[int, ...]  # in PyTorch's order: the dimension that lies together comes last
    quantisation: str  # gguf's name, such as Q4_K or F32
    start: int  # bytes, from the start of the file
    size: int  # bytes


@dataclass(frozen=True)
class GgufHeader:
    """A GGUF file without its tensors' data."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def architecture(self) -> str:
        """The architecture by llama.cpp's name, such as `qwen2`; empty where the file names none."""
        found = self.metadata.get("general.architecture")
        return found if isinstance(found, str) else ""


def read_header(path: Path) -> GgufHeader:
    """Return the header of the GGUF file `path`.

    Raises UserError, one line, for a file that is no GGUF, is truncated, or names counts, lengths, types or places that
    it does not hold.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Reader(path, content).header()
    except (OSError, ValueError) as error:  # an empty file has no mapping: ValueError
        raise _refused(path, getattr(error, "strerror", None) or str(error)) from None


def _refused(path: Path, why: str) -> UserError:
    return UserError(f"{path}: is not read as GGUF: {why}; wanted a whole GGUF file, download it again")


class _Reader:
    """Reads a file's header from the start to the end, a value at a time."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self._path, self._content, self._size = path, content, len(content)
        self._place = 0

    def header(self) -> GgufHeader:
        if self._bytes(4, "its first bytes") != MAGIC:
            raise _refused(self._path, "it does not begin with GGUF")
        version = self._number("I")
        if version not in VERSIONS:
            raise _refused(self._path, f"it is of version {version}, known are {VERSIONS[0]} and {VERSIONS[1]}")
        tensors, entries = self._number("Q"), self._number("Q")
        self._check_count(entries, _LEAST_ENTRY, "metadata entries")
        metadata = dict(self._entry() for _ in range(entries))
        self._check_count(tensors, _LEAST_TENSOR, "tensors")
        described = [self._description() for _ in range(tensors)]
        return GgufHeader(self._path, metadata, {one.name: one for one in self._placed(described, metadata)})

    def _left(self) -> int:
        return self._size - self._place

    def _check_count(self, count: int, least: int, what: str) -> None:
        """Raise UserError unless `count` things of at least `least` bytes each can lie in the rest of the file."""
        if count * least > self._left():
            raise _refused(self._path, f"it names {count} {what} where {self._left()} bytes are left")

    def _bytes(self, count: int, what: str) -> bytes:
        self._check_count(count, 1, f"bytes of {what}")
        self._place += count
        return self._content[self._place - count : self._place]

    def _number(self, kind: str) -> Any:
        return struct.unpack(f"<{kind}", self._bytes(struct.calcsize(f"<{kind}"), "a number"))[0]

    def _text(self) -> str:
        raw = self._bytes(self._number("Q"), "a text")
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise _refused(self._path, f"the text at byte {self._place - len(raw)} is not UTF-8") from None

    def _entry(self) -> tuple[str, Any]:
        return self._text(), self._value(self._number("I"))

    def _value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            raise _refused(self._path, f"its metadata has a value of type {kind}, which GGUF does not have")
        kind, count = self._number("I"), self._number("Q")
        if kind == _STRING:
            self._check_count(count, 8, "texts of a list")
            return self._texts(count)
        if kind not in _SCALARS:
            raise _refused(self._path, f"its metadata has a list of type {kind}, which is not read")
        width = struct.calcsize(f"<{_SCALARS[kind]}")
        self._check_count(count, width, "numbers of a list")
        return list(struct.unpack(f"<{count}{_SCALARS[kind]}", self._bytes(count * width, "a list")))

    def _texts(self, count: int) -> list[str]:
        """Read as `_text` does, without a call for each of a vocabulary's 300,000."""
        content, place, length_at = self._content, self._place, struct.Struct("<Q").unpack_from
        found = []
        for _ in range(count):
            end = place + 8
            if end <= self._size:
                end += length_at(content, place)[0]
            if end > self._size:
                break
            try:
                found.append(content[place + 8 : end].decode("utf-8"))
            except UnicodeDecodeError:
                break
            place = end
        self._place = place
        # What stopped it is refused in words.
        return found + [self._text() for _ in range(count - len(found))]

    def _description(self) -> tuple[str, tuple[int, ...], int, int]:
        """Return a tensor's name, shape, quantisation by its number, and place from the start of the data."""
        name, dimensions = self._text(), self._number("I")
        if not 1 <= dimensions <= MOST_DIMENSIONS:
            raise _refused(self._path, f"{name} has {dimensions} dimensions, takes 1 to {MOST_DIMENSIONS}")
        shape = tuple(self._number("Q") for _ in range(dimensions))
        return name, shape[::-1], self._number("I"), self._number("Q")

    def _placed(self, described: list[tuple], metadata: dict[str, Any]) -> Iterator[Tensor]:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        alignment = metadata.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise _refused(self._path, f"general.alignment is {alignment!r}")
        data = math.ceil(self._place / alignment) * alignment
        names = set()
        for name, shape, number, offset in described:
            if number not in GGMLQuantizationType._value2member_map_:
                raise _refused(self._path, f"{name} has the unknown quantisation {number}")
            kind = GGMLQuantizationType(number)
            block, block_bytes = GGML_QUANT_SIZES[kind]
            if name in names or shape[-1] % block or 0 in shape:
                why = "comes twice" if name in names else f"has the shape {list(shape)} in blocks of {block}"
                raise _refused(self._path, f"{name} {why}")
            names.add(name)
            size = math.prod(shape) // block * block_bytes
            if data + offset + size > self._size:
                raise _refused(self._path, f"{name} ends at byte {data + offset + size}, and the file has {self._size}")
            yield Tensor(name, shape, kind.name, data + offset, size)
