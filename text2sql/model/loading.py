"""Loading a base model and its tokenizer, with transformers or unsloth.

Weights load from safetensors only, and no code from the hub runs.
"""

import contextlib
import copy
import gc
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from text2sql.core.errors import RunError, UserError, did_you_mean
from text2sql.core.files import read_object, user_cache
from text2sql.core.params import ModelParams
from text2sql.core.startup import quick_imports
from text2sql.model.bases import CARRIED, EMBEDDED_BASE, carried_base, is_gguf, is_local, local_gguf
from text2sql.model.dtypes import auto_dtype, torch_dtype

FORMS = f"a folder or hub id in Hugging Face's format with weights as safetensors, a .gguf file, {', '.join(CARRIED)}"
# Forms of weights that are not read, and why.
SINGLE_FILES = {
    ".gguf": "GGUF: model.base and model.files name the file itself",
    **dict.fromkeys((".bin", ".ckpt", ".pkl", ".pt", ".pth"), "a pickle, which can run code"),
    ".safetensors": "weights alone, without config and tokenizer",
}


def check_hardware(model: ModelParams, optim: str | None = None) -> None:
    """Raise UserError if `model` (or the optimizer `optim`) needs a GPU or a package that this machine lacks."""
    needs = [
        (model.loader == "unsloth", f"model.loader: {model.loader}", "unsloth"),
        (model.quantization == "4bit", f"model.quantization: {model.quantization}", "bitsandbytes"),
        ((optim or "").endswith("_8bit"), f"train.optim: {optim}", "bitsandbytes"),
    ]
    for needed, setting, package in needs:
        if not needed:
            continue
        import torch

        if not torch.cuda.is_available():
            raise UserError(f"{setting} needs a GPU, and PyTorch {torch.__version__} sees none on this machine")
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{setting} needs the package {package}: pip install --no-deps -r requirements/gpu.txt")


def load_base(
    model: ModelParams, max_seq_len: int = 2048, tokenizer: Any = None, on_cpu: bool = False
) -> tuple[Any, Any]:
    """Return the base model and its tokenizer, on the GPU if there is one.

    `tokenizer` is what `tokenizer_ahead` returned, and is not loaded again. `on_cpu`: a base larger than a GPU, which
    takes it in shards. Raises UserError for a model that does not
    exist or needs a missing GPU, RunError if the hub cannot be reached or when out of memory.
    """
    check_hardware(model)
    if model.dtype == "auto":
        print(auto_dtype(), file=sys.stderr, flush=True)
    source = base_source(model)
    with _loading_errors(model):
        if model.loader == "unsloth":
            base, tokenizer = _load_with_unsloth(source, model, max_seq_len)
        else:
            base = _load_with_transformers(source, model, on_cpu)
            tokenizer = tokenizer or _tokenizer(source, model)
    _set_padding_token(base, tokenizer)
    if tokenizer.chat_template is None:
        raise UserError(f"model.base: {model.base} has no chat template; wanted an instruction-tuned model")
    return base, tokenizer


class KeptBase:
    """`load_base` for many uses of one base: loads it once, and returns a copy each time, in memory beside it.

    With unsloth or in 4 bit it loads again each time: such models have parts that cannot be copied.
    """

    def __init__(self) -> None:
        self._params: ModelParams | None = None
        self._loaded: tuple[Any, Any] | None = None

    def __call__(self, model: ModelParams, max_seq_len: int = 2048) -> tuple[Any, Any]:
        """Return the base model and its tokenizer, to be changed at will. Raises as `load_base` does."""
        if model.loader == "unsloth" or model.quantization != "none":
            return load_base(model, max_seq_len)
        wanted = model.model_copy(update={"strength": 1})
        if wanted != self._params:
            self._loaded = None  # before the next takes its memory
            self._loaded, self._params = load_base(model, max_seq_len), wanted
        return copy.deepcopy(self._loaded)  # type: ignore[return-value]


def _set_padding_token(base: Any, tokenizer: Any) -> None:
    """Give `tokenizer` a padding token that has an embedding. Padding is masked, so that any special token serves."""
    embeddings = base.get_input_embeddings().weight.shape[0]
    special = sorted(token for token, added in tokenizer.added_tokens_decoder.items() if added.special)
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id, *special):
        if token is not None and token < embeddings:
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(token)
            return
    raise UserError("model.base: its tokenizer has no special token that could end a turn or pad a batch")


def load_tokenizer(model: ModelParams) -> Any:
    """Return the tokenizer of `load_base` alone, without its weights. Raises as that does."""
    source = base_source(model)
    with _loading_errors(model):
        tokenizer = _tokenizer(source, model)
    if tokenizer.chat_template is None:
        raise UserError(f"model.base: {model.base} has no chat template; wanted an instruction-tuned model")
    return tokenizer


def tokenizer_ahead(model: ModelParams) -> Any:
    """Return the tokenizer of `load_base`, to read prompts while the weights load; None where that has to wait.

    unsloth loads its own, and is imported before transformers. Of a base that does not load, `load_base` says why.
    """
    if model.loader == "unsloth":
        return None
    try:
        return load_tokenizer(model)
    except (UserError, RunError):
        return None


def _tokenizer(source: str, model: ModelParams) -> Any:
    with quick_imports("transformers"):
        from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(source, revision=model.revision, trust_remote_code=False)


def base_source(model: ModelParams) -> str:
    """Return the folder, or the hub's id, that `model.base` is loaded from; a carried base is fetched on first use.

    Raises UserError for a base that is not there, or not in a form that is read.
    """
    if model.base in CARRIED:
        return str(carried_base(CARRIED[model.base], model.source))
    path = Path(model.base).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(
                f"model.base: {model.base} has no config.json; wanted a model in Hugging Face's format{_found(path)}"
            )
        _check_weights(model.base, path)
        return str(path)
    if is_gguf(model.base):
        return str(local_gguf(path))
    if path.suffix in SINGLE_FILES and (is_local(model.base) or path.is_file()):
        raise UserError(f"model.base: {model.base} is not read: {SINGLE_FILES[path.suffix]}; takes {FORMS}")
    if is_local(model.base):
        raise UserError(
            f"model.base: {model.base} is no folder; takes {', '.join(CARRIED)}, a local folder or .gguf file, or a "
            f"hub id (owner/name){did_you_mean(model.base, CARRIED)}"
        )
    return model.base


def base_folder(model: ModelParams) -> Path:
    """Return the folder with the files of `model.base`; those of a hub's id are fetched. Raises as `load_base` does."""
    source = base_source(model)
    if Path(source).is_dir():
        return Path(source)
    with _loading_errors(model):
        from huggingface_hub import snapshot_download

        patterns = ["*.json", "*.jinja", "*.model", "*.safetensors", "*.txt"]
        folder = Path(snapshot_download(source, revision=model.revision, allow_patterns=patterns))
    _check_weights(model.base, folder)
    return folder


def _check_weights(base: str, folder: Path) -> None:
    """Raise UserError unless `folder` holds its weights as safetensors: nothing is loaded that could run code."""
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"model.base: {base} does not load: it has no *.safetensors{_found(folder)}; takes {FORMS}")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = read_object(index, {"weight_map": dict})["weight_map"].values()
        other = next((name for name in files if not str(name).endswith(".safetensors")), None)
        if other is not None:
            raise UserError(f"model.base: {base} does not load: {index.name} names {other!r}; takes {FORMS}")


def _found(folder: Path) -> str:
    """Return what of the forms that are not read lies in `folder`, in words."""
    found = sorted(file for file in folder.iterdir() if file.suffix in SINGLE_FILES)
    return f", found {found[0].name} ({SINGLE_FILES[found[0].suffix]})" if found else ""


def as_loaded(model: ModelParams) -> Any:
    """Return an object with the `dtype` and the `device` that `model` will have on this machine, without loading it."""
    import torch

    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    return SimpleNamespace(dtype=torch_dtype(model.dtype), device=device)


def free_memory() -> None:
    """Give back the memory of a model that is no longer named."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _load_with_transformers(source: str, model: ModelParams, on_cpu: bool) -> Any:
    with quick_imports("transformers.modeling_utils"):
        import torch
        import transformers.modeling_utils  # noqa: F401 (large, and imported by every model's own module)
        from transformers import AutoConfig, AutoModelForCausalLM
        from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    dtype = torch_dtype(model.dtype)
    config = AutoConfig.from_pretrained(source, revision=model.revision, trust_remote_code=False)
    options: dict[str, Any] = {}
    # A checkpoint that is already in 4 bit has its own settings.
    if model.quantization == "4bit" and not hasattr(config, "quantization_config"):
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    if torch.cuda.is_available() and not on_cpu:
        options["device_map"] = {"": torch.cuda.current_device()}
    base = AutoModelForCausalLM.from_pretrained(
        source, revision=model.revision, dtype=dtype, use_safetensors=True, trust_remote_code=False, **options
    )
    return base.eval()


def _load_with_unsloth(source: str, model: ModelParams, max_seq_len: int) -> tuple[Any, Any]:
    # unsloth writes the code that it generates, by default into the working directory.
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(user_cache() / "unsloth"))
    # Imported before transformers, which it patches.
    from unsloth import FastLanguageModel

    return FastLanguageModel.from_pretrained(
        model_name=source,
        revision=model.revision,
        max_seq_length=max_seq_len,
        dtype=torch_dtype(model.dtype),
        load_in_4bit=model.quantization == "4bit",
        trust_remote_code=False,
    )


@contextlib.contextmanager
def _loading_errors(model: ModelParams) -> Iterator[None]:
    """Turn what the loaders raise into one line that says what to change."""
    try:
        yield
    except (UserError, RunError):
        raise
    except MemoryError:
        raise RunError(f"model.base: {model.base} does not fit into this machine's memory") from None
    except Exception as error:
        cause = _root_cause(error)
        name = type(cause).__name__
        if name == "OutOfMemoryError":
            message = f"model.base: {model.base} does not fit into the GPU's memory; try quantization: 4bit"
            raise RunError(message) from error
        if name in ("RepositoryNotFoundError", "RevisionNotFoundError", "EntryNotFoundError", "GatedRepoError"):
            raise UserError(f"model.base: {model.base} (revision {model.revision}): {name} on the hub") from error
        if "trust_remote_code" in str(error):
            raise UserError(
                f"model.base: {model.base} needs code of its own repository, which is not run; takes a model of an "
                "architecture that transformers has"
            ) from error
        if "safetensors" in str(error) and "file named" in str(error):
            message = f"model.base: {model.base} does not load: it has no model.safetensors; takes {FORMS}"
            raise UserError(message) from error
        if isinstance(cause, OSError) and "/" in model.base and not Path(model.base).exists():
            raise RunError(
                f"model.base: {model.base} could not be fetched from the hub ({name}); name a local folder, or "
                f"{EMBEDDED_BASE}, which the package index has too"
            ) from error
        raise UserError(f"model.base: {model.base} does not load: {name}: {cause}") from error


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
