"""Reading and writing small files so that an output appears whole or not at all."""

import contextlib
import gzip
import json
import os
import platform
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from text2sql.core.errors import RunError, UserError, shown


@contextlib.contextmanager
def atomic_file(path: str | Path, mode: str = "w", sync: bool = True) -> Iterator[Any]:
    """Open a temporary file beside `path`, which replaces it when the block ends without an error.

    Text is UTF-8 with `\\n` line ends. The data are synced to disk before the rename, unless whoever reads the file
    can do without it (`sync`).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=_temporary_prefix(path))
    try:
        with os.fdopen(descriptor, mode, **text) as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`, which replaces it when the block ends without an error.

    An existing folder is moved aside first, then deleted: `path` is never half-written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=_temporary_prefix(path)))
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            before = Path(tempfile.mkdtemp(dir=path.parent, prefix=_temporary_prefix(path)))
            os.replace(path, before)
            try:
                os.replace(temporary, path)
            except BaseException:
                os.replace(before, path)
                raise
            shutil.rmtree(before, ignore_errors=True)
        else:
            os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _temporary_prefix(path: Path) -> str:
    """Return the prefix of this process's temporary names beside `path`; delete leftovers of killed processes."""
    start = f".{path.name}.{platform.node()}-"
    for name in os.listdir(path.parent):
        process = name.removeprefix(start).split(".")[0]
        if name.startswith(start) and process.isdigit() and not _is_running(int(process)):
            left = path.parent / name
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    return f"{start}{os.getpid()}."


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's
    return True


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with atomic_file(path) as file:
        file.write(text)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: str | Path, records: Iterable[dict]) -> int:
    """Write one JSON object a line to `path`, whole or not at all; return how many."""
    count = 0
    with atomic_file(path) as file:
        for record in records:
            file.write(json_line(record))
            count += 1
    return count


def json_line(record: dict) -> str:
    """Return `record` as one line of JSON. Lone surrogates, which UTF-8 cannot hold, stay escaped."""
    line = json.dumps(record, ensure_ascii=False, allow_nan=False)
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        line = json.dumps(record, allow_nan=False)
    return line + "\n"


def write_gzip(path: str | Path, content: bytes) -> None:
    """Write `content` to `path`, compressed, whole or not at all: without a name or a time, so that equal contents give
    equal bytes with one zlib.
    """
    with atomic_file(path, "wb") as file:
        file.write(gzip.compress(content, compresslevel=9, mtime=0))


def read_gzip(path: str | Path) -> bytes:
    """Return the content of a compressed file. Raises UserError where it is missing or damaged."""
    try:
        return gzip.decompress(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged: {error}; wanted a file compressed by gzip") from None


def read_json(path: str | Path) -> Any:
    """Return the JSON value in `path`. Raises UserError where it is missing or is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, wanted a JSON file") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None


def read_object(path: str | Path, fields: Mapping[str, type]) -> dict:
    """Return the JSON object in `path`.

    Raises UserError as `read_json` does, or where one of `fields` is missing or of another type.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: found {_kind(value)}, wanted an object")
    _check_fields(value, fields, str(path))
    return value


def read_jsonl(path: str | Path, fields: Mapping[str, type] | None = None) -> list[dict]:
    """Return the JSON objects in `path`, one a line. Raises UserError as `iter_jsonl` does."""
    return list(iter_jsonl(path, fields))


def iter_jsonl(path: str | Path, fields: Mapping[str, type] | None = None) -> Iterator[dict]:
    """Yield the JSON objects in `path`, one a line, without holding the file in memory.

    Each has to hold `fields`, {name: type}, and may hold more. Raises UserError that names file and line.
    """
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except (json.JSONDecodeError, RecursionError) as error:
                    raise UserError(f"{path}, line {number}: not valid JSON: {error}") from None
                if not isinstance(record, dict):
                    raise UserError(f"{path}, line {number}: found {_kind(record)}, wanted a JSON object")
                _check_fields(record, fields or {}, f"{path}, line {number}")
                yield record
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, wanted a file of JSON lines") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8: {error}") from None


_KINDS = {
    str: "a text", int: "a whole number", float: "a number", bool: "a truth value", dict: "an object", list: "an array",
    type(None): "null",
}  # fmt: skip


def _kind(value: Any) -> str:
    return _KINDS[type(value)]


def _check_fields(record: dict, fields: Mapping[str, type], place: str) -> None:
    for name, wanted in fields.items():
        if name not in record:
            raise UserError(f"{place}: has no field {name!r}, wanted {_KINDS[wanted]}")
        value = record[name]
        # An int is fine for a float; a bool, although Python's bool is an int, is not.
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise UserError(f"{place}: found {_kind(value)} as {name!r}, wanted {_KINDS[wanted]}")


def read_yaml(path: str | Path, own: bool = False) -> dict:
    """Return the mapping that the YAML file `path` holds. Raises UserError where it is missing or not a mapping.

    `own`: the file was written by a program for this project; it is read by ruamel's faster C parser.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        # ruamel's C parser has poorer error messages, and deep nesting crashes it.
        value = YAML(typ="safe", pure=not own).load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, wanted a YAML file") from None
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {' '.join(str(error.problem).split())}") from None
    except (YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: found {shown(value)}, wanted a mapping of sections")
    return value


def user_cache() -> Path:
    """Return the folder for what is computed once a user: `$XDG_CACHE_HOME/text2sql`, or `~/.cache/text2sql`.

    In containers and services a user may have no home, or one that is not theirs to write: then it is a folder of
    this user's alone under the system's temporary one. Raises RunError where another user has taken that name.
    """
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "text2sql"
    with contextlib.suppress(RuntimeError):  # no home at all
        folder = Path.home() / ".cache" / "text2sql"
        there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
        if os.access(there, os.W_OK | os.X_OK):
            return folder
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"text2sql-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        raise RunError(f"{folder}: belongs to another user; set XDG_CACHE_HOME to a folder that you may write to")
    return folder
