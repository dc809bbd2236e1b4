"""The benchmarks from the Hugging Face hub, as the manifest `hub` pins them."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from text2sql.core.errors import DISK_FULL, RunError, UserError, one_line
from text2sql.core.files import atomic_directory, read_json, read_yaml, write_json

MANIFEST = Path("hub")

_Text = Annotated[str, Field(min_length=1)]


class _Pin(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    repo: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: _Text | None


class SpiderPin(_Pin):
    """One zip file of a data set on the hub, and its checksum."""

    file: Annotated[str, Field(pattern=r"^[\w-][\w.-]*$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """All of the file `hub`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    spider: SpiderPin
    mmlu: _Pin


def load_manifest(path: str | Path = MANIFEST) -> Manifest:
    """Return the pins in `path`. Raises UserError that names a wrong key."""
    value = read_yaml(path)
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise UserError(f"{path}: " + "; ".join(problems)) from None


def fetch_spider(manifest: Manifest, raw: Path, say: Callable[[str], Any] = print) -> Path:
    """Return Spider's zip below the folder `raw`, downloaded unless it is there with the right checksum.

    Raises RunError without a connection or disk space, or if the checksum differs.
    """
    pin = manifest.spider
    target = raw / "spider" / pin.file
    if target.is_file() and _sha256(target) == pin.sha256:
        say(f"Spider: {target} is there, with the right sum")
        return target
    what = f"{pin.file} of the hub's data set {pin.repo}"
    say(f"Spider: downloading {what}")
    partial = raw / ".partial-spider"
    with _download_errors(what, "data.spider", raw):
        from huggingface_hub import hf_hub_download

        file = hf_hub_download(pin.repo, pin.file, repo_type="dataset", revision=pin.revision, local_dir=_made(partial))
        found = _sha256(Path(file))
        if found == pin.sha256:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
    shutil.rmtree(partial)
    if found != pin.sha256:
        raise RunError(f"{what}: found sha256 {found}, wanted {pin.sha256}; not used")
    return target


def fetch_mmlu(manifest: Manifest, subjects: Sequence[str], raw: Path, say: Callable[[str], Any] = print) -> Path:
    """Return the folder below `raw` that holds the subjects' Parquet files, downloaded unless they are there.

    Their commit is printed and written to `revision.json` beside them, with each file's sha256. Raises
    RunError without a connection or disk space, or if a file is missing or its checksum differs.
    """
    pin = manifest.mmlu
    folder = raw / "mmlu"
    if _mmlu_is_there(folder, pin, subjects):
        say(f"MMLU: {folder} is there, from commit {read_json(folder / 'revision.json')['commit']}")
        return folder
    what = f"the hub's data set {pin.repo}"
    say(f"MMLU: downloading {len(subjects)} subjects of {what}")
    partial = raw / ".partial-mmlu"
    with _download_errors(what, "data.mmlu", raw):
        from huggingface_hub import HfApi, snapshot_download

        info = HfApi().dataset_info(pin.repo, revision=pin.revision, files_metadata=True)
        files = {file.rfilename: file for file in info.siblings or ()}
        wanted = [name for subject in subjects for name in _files_of(subject, files, what)]
        needed, free = sum(files[name].size or 0 for name in wanted), shutil.disk_usage(_made(partial)).free
        if needed > free:
            raise RunError(f"{what}: {needed} bytes to download, {free} free on the disk of {raw}")
        snapshot_download(pin.repo, repo_type="dataset", revision=info.sha, allow_patterns=wanted, local_dir=partial)
        sums = {name: _sha256(partial / name) for name in wanted}
        for name, found in sums.items():
            lfs = files[name].lfs
            if lfs is not None and lfs.sha256 != found:
                shutil.rmtree(partial)
                raise RunError(f"{name} of {what}: found sha256 {found}, wanted {lfs.sha256}; not used")
        with atomic_directory(folder) as new:
            for name in wanted:
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(partial / name, new / name)
            record = {"repo": pin.repo, "revision": pin.revision, "commit": info.sha, "sha256": sums}
            write_json(new / "revision.json", record)
    shutil.rmtree(partial)
    say(f"MMLU: commit {info.sha}" + ("" if pin.revision else f"; to pin it: `revision: {info.sha}` in {MANIFEST}"))
    return folder


def _mmlu_is_there(folder: Path, pin: _Pin, subjects: Sequence[str]) -> bool:
    try:
        record = read_json(folder / "revision.json")
        sums = record["sha256"]
        return (
            record["repo"] == pin.repo
            and pin.revision in (None, record["revision"], record["commit"])
            and all(_files_of(subject, sums, str(folder)) for subject in subjects)
            and all(_sha256(folder / name) == found for name, found in sums.items())
        )
    except (UserError, RunError, OSError, KeyError, TypeError):
        return False


def _files_of(subject: str, names: Any, what: str) -> list[str]:
    """Return the Parquet files of a subject's dev and test splits. Raises RunError where a split has none."""
    found = []
    for split in ("dev", "test"):
        of_split = sorted(n for n in names if n.startswith(f"{subject}/{split}-") and n.endswith(".parquet"))
        if not of_split:
            raise RunError(f"{what}: holds no {subject}/{split}-*.parquet")
        found += of_split
    return found


@contextlib.contextmanager
def _download_errors(what: str, key: str, raw: Path) -> Iterator[None]:
    """Turn whatever a download raises into a RunError that says what to do instead."""
    try:
        yield
    except RunError:
        raise
    except OSError as error:
        if error.errno in DISK_FULL:
            raise RunError(f"{what}: not enough disk space below {raw}") from None
        raise _failed(what, key, error) from None
    except Exception as error:
        # huggingface_hub raises errors of its own and of httpx, among others.
        raise _failed(what, key, error) from None


def _failed(what: str, key: str, error: Exception) -> RunError:
    reason = one_line(error).split(" (set ")[0]
    if type(error) is RuntimeError:
        # Where the first try finds no connection, huggingface_hub's second fails on its own closed client.
        reason = f"no connection: {error}"
    return RunError(
        f"{what}: cannot download it ({reason:.300}); without a connection, {key} can name a folder or zip instead"
    )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
