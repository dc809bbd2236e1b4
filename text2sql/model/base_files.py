"""Getting the one file of a carried base: a kept one, the hub's, or its parts on the Python package index.

All lie in one folder of the user's cache. A file takes its name only when its whole sha256 is right. The index's wheels
are fetched by `pip download`, one after the other, and opened as archives: nothing in them is installed or run. What
came of them is kept when a download stops, and the next one goes on with the next wheel.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text2sql.core.errors import DISK_FULL, UserError, one_line
from text2sql.core.files import read_object, user_cache, write_json

HUB_SECONDS = 5.0  # to answer; a download that has begun may take as long as it needs
RATE = 10e6  # bytes a second, for the minutes that are said before a download
COPY_BYTES = 1024**2
SOURCES = {"auto": ("hub", "index"), "hub": ("hub",), "index": ("index",)}  # of `model.source`
_IN_WORDS = {"hub": "the hub", "index": "the package index"}


@dataclass(frozen=True)
class CarriedBase:
    """A row of the table of carried bases: what `model.base` calls it, its one file, and where that comes from."""

    name: str
    file: str
    sha256: str
    size: int  # bytes
    folder_size: int  # bytes, converted
    licence: str  # SPDX, as on the hub
    quantisation: str
    repository: str  # on the hub, which holds the file
    commit: str | None  # of that repository, where it is known; the sum decides in any case
    origin: str  # the hub's id of the weights that were quantised: another model
    wheels: tuple[str, ...]  # name==version on the package index: the file's parts, in order
    part: str  # a part's path in wheel {number}, whose module is {module}

    def part_in(self, number: int) -> str:
        """Return the path of the part in wheel `number`, counted from 1."""
        module = self.wheels[number - 1].partition("==")[0].replace("-", "_")
        return self.part.format(number=number, module=module)


class _Refusal(Exception):
    """Why a source gives no file."""


def cache() -> Path:
    """Return the folder of carried bases, files and converted folders, in the user's cache."""
    return user_cache() / "bases"


def partial(base: CarriedBase) -> Path:
    """Return the folder of a download that has not come to its end."""
    return cache() / f".{base.file}.partial"


def kept_parts(base: CarriedBase) -> list[int]:
    """Return the bytes of each part that an interrupted download left, in order."""
    try:
        sizes = read_object(partial(base) / "parts.json", {"sizes": list})["sizes"]
        return sizes if (partial(base) / base.file).stat().st_size >= sum(sizes) else []
    except (UserError, OSError, TypeError):
        return []


def base_file(
    base: CarriedBase,
    source: str = "auto",
    free: int | None = None,
    hub_seconds: float = HUB_SECONDS,
    say: Callable[[str], Any] = lambda line: print(line, flush=True),
) -> Path:
    """Return the file of a carried base with the right sha256, fetched from `source` unless it is kept.

    The caller holds the base's lock. `free` is the disk's free bytes, for those who know better than the system. Raises
    UserError where no source gives the file, or the disk is full.
    """
    path = cache() / base.file
    cache().mkdir(parents=True, exist_ok=True)
    sources = SOURCES[source]
    if path.is_file():
        found = _sha256(path)
        if found == base.sha256:
            return path
        say(f"{path}: has the sha256 {found}, wanted {base.sha256}; it is removed, next: {_IN_WORDS[sources[0]]}")
        path.unlink()
    _check_disk(base, free)
    _announce(base, sources, say)
    for name, following in zip(sources, (*sources[1:], None)):
        try:
            with _disk_errors(base):
                fetched = _from_hub(base, hub_seconds) if name == "hub" else _from_index(base, say)
                _put_in_place(base, fetched, path, _IN_WORDS[name])
            return path
        except _Refusal as refusal:
            if following is None:
                raise UserError(f"model.base: {base.name}: {refusal}; {_what_to_do(base, source)}") from None
            say(f"{base.name}: {refusal}; next: {_IN_WORDS[following]}")
    raise AssertionError("unreachable")


def _check_disk(base: CarriedBase, free: int | None) -> None:
    """Raise UserError if the disk cannot hold the file, a wheel beside it, and the converted folder."""
    wheel = 2 * base.size // len(base.wheels)  # as an archive, and its part
    needed = base.size - sum(kept_parts(base)) + wheel + base.folder_size
    free = shutil.disk_usage(cache()).free if free is None else free
    if free < needed:
        raise UserError(
            f"model.base: {base.name} needs {_gigabytes(needed)} below {cache()}, where {_gigabytes(free)} are free; "
            "make room (`text2sql bases` shows what is kept), or set XDG_CACHE_HOME to a folder on another disk"
        )


def _announce(base: CarriedBase, sources: tuple[str, ...], say: Callable[[str], Any]) -> None:
    left = base.size - sum(kept_parts(base))
    places = ", then ".join(_IN_WORDS[name] for name in sources)
    say(
        f"{base.name}: {_gigabytes(left)} to fetch from {places} ({max(1, round(left / RATE))} s at 10 MB/s), and "
        f"{_gigabytes(base.folder_size)} more on disk when it is converted, in {cache()}"
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _what_to_do(base: CarriedBase, source: str) -> str:
    other = "" if source == "auto" else f"set model.source: {'index' if source == 'hub' else 'hub'}, "
    return (
        f"run the same command again, {other}or set model.base and model.files to a local copy of {base.file} "
        f"(sha256 {base.sha256})"
    )


@contextlib.contextmanager
def _disk_errors(base: CarriedBase) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(
            f"model.base: {base.name}: the disk of {cache()} is full; make room, and the same command goes on where it "
            "stopped"
        ) from None


def _put_in_place(base: CarriedBase, fetched: Path, path: Path, place: str) -> None:
    """Give the file its name if its bytes are right; all that a download left is removed in any case."""
    size, found = fetched.stat().st_size, _sha256(fetched)
    if found == base.sha256:
        os.replace(fetched, path)
    shutil.rmtree(partial(base), ignore_errors=True)
    if found != base.sha256:
        raise _Refusal(
            f"what {place} gave is not {base.file}: {size:,} bytes of sha256 {found}, wanted {base.size:,} of "
            f"{base.sha256}; it is removed"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_hub(base: CarriedBase, seconds: float) -> Path:
    """Return the file as the hub gives it. Raises _Refusal if the hub does not answer in `seconds`, or has none."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise _Refusal("the hub is not asked (HF_HUB_OFFLINE is set)")
    url = hf_hub_url(base.repository, base.file, revision=base.commit)
    answer = _in_time(lambda: get_hf_file_metadata(url, timeout=seconds), seconds)
    if answer is None:
        raise _Refusal(f"the hub does not answer within {seconds:g} s")
    if isinstance(answer, Exception):
        raise _Refusal(f"the hub does not give {base.repository}/{base.file} ({_why(answer)})")
    if answer.size not in (None, base.size):
        raise _Refusal(f"the hub's {base.repository}/{base.file} has {answer.size:,} bytes, wanted {base.size:,}")
    try:
        file = hf_hub_download(
            base.repository, base.file, revision=base.commit, local_dir=partial(base) / "hub", etag_timeout=seconds
        )
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        raise _Refusal(f"the hub's download stopped ({_why(error)})") from None
    except Exception as error:  # huggingface_hub raises errors of its own and of httpx, among others
        raise _Refusal(f"the hub's download stopped ({_why(error)})") from None
    return Path(file)


def _why(error: Exception) -> str:
    return one_line(error).partition(" (set ")[0][:200]


def _in_time(ask: Callable[[], Any], seconds: float) -> Any:
    """Return what `ask` returns, the exception it raises, or None after `seconds`: a name's look-up has no limit."""
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(ask())
        except Exception as error:
            answers.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else None


def _from_index(base: CarriedBase, say: Callable[[str], Any]) -> Path:
    """Return the file joined of its wheels' parts, going on after those that are kept. Raises _Refusal."""
    folder, count = partial(base), len(base.wheels)
    folder.mkdir(parents=True, exist_ok=True)
    sizes = kept_parts(base)
    joined = folder / base.file
    if sizes:
        say(f"{base.name}: {len(sizes)} of {count} wheels are kept from before")
    for number in range(len(sizes) + 1, count + 1):
        wheel = _download(base.wheels[number - 1], folder)
        sizes.append(_append(base, wheel, number, joined, sum(sizes)))
        write_json(folder / "parts.json", {"sizes": sizes})
        wheel.unlink()
        say(f"{base.name}: wheel {number} of {count}, {_gigabytes(sum(sizes))} of {_gigabytes(base.size)}")
    return joined


def _download(wheel: str, folder: Path) -> Path:
    """Return the file of a wheel, `name==version`, downloaded by pip as its own settings say. Raises _Refusal."""
    target = folder / "wheel"
    shutil.rmtree(target, ignore_errors=True)  # of a download that was killed
    target.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"]
    command += ["--quiet", "--no-input", "--disable-pip-version-check", "--retries", "1", "--dest", str(target), wheel]
    # pip unpacks in the system's temporary folder otherwise, which may be small.
    done = subprocess.run(command, env={**os.environ, "TMPDIR": str(target)}, capture_output=True, text=True)
    found = list(target.glob("*.whl"))
    if done.returncode == 0 and len(found) == 1:
        return found[0]
    if "No module named pip" in done.stderr:
        raise _Refusal(f"{sys.executable} has no pip to ask the package index with (python -m ensurepip)")
    if os.strerror(DISK_FULL[0]) in done.stderr:
        raise OSError(DISK_FULL[0], os.strerror(DISK_FULL[0]))
    said = [line.partition("ERROR: ")[2] for line in done.stderr.splitlines() if "ERROR: " in line]
    why = "does not answer" if "Retrying (" in done.stderr else f"does not give {wheel}"
    raise _Refusal(f"the package index {why} (pip: {(said or ['failed'])[-1]:.200})")


def _append(base: CarriedBase, wheel: Path, number: int, joined: Path, start: int) -> int:
    """Write the part in `wheel` to `joined` from byte `start` on; return its size. Raises _Refusal."""
    name, size = base.part_in(number), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(name) as part, joined.open("ab") as file:
            file.truncate(start)
            while chunk := part.read(COPY_BYTES):
                size += len(chunk)
                if start + size > base.size:
                    raise _Refusal(f"{wheel.name} of the package index is longer than {base.file} can be")
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except (zipfile.BadZipFile, KeyError, EOFError, RuntimeError, zlib.error) as error:
        wheel.unlink()
        raise _Refusal(f"{wheel.name} of the package index is damaged ({_why(error)})") from None
    return size
