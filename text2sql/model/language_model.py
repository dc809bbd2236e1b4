"""Loading a base model with or without an adapter, generating, and log-likelihoods of options.

The only file that imports unsloth, bitsandbytes (through transformers) and peft. Base and tuned models pass through
the same code: an adapter is loaded on top of its base with PEFT and stays unmerged, since a merge into 4-bit weights
would round a small adapter away.
"""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from text2sql.core.errors import RunError, UserError, is_out_of_memory
from text2sql.core.files import user_cache
from text2sql.core.params import LoraParams, ModelParams
from text2sql.core.startup import quick_imports
from text2sql.model.adapters import check_adapter
from text2sql.model.bases import EMBEDDED_BASE

# Llama 3.2's chat template writes today's date into the prompt unless it is given one; this is the template's own.
TEMPLATE_DATE = "26 Jul 2024"


def check_hardware(model: ModelParams, optim: str | None = None) -> None:
    """Raise UserError where `model` (or the optimizer `optim`) needs a GPU or a package that this machine lacks."""
    needs = [
        (model.loader == "unsloth", f"model.loader: {model.loader}", "unsloth"),
        (model.quantization == "4bit", f"model.quantization: {model.quantization}", "bitsandbytes"),
        (bool(optim) and optim.endswith("_8bit"), f"train.optim: {optim}", "bitsandbytes"),
    ]
    for needed, setting, package in needs:
        if not needed:
            continue
        import torch

        if not torch.cuda.is_available():
            raise UserError(f"{setting} needs a GPU, and PyTorch {torch.__version__} sees none on this machine")
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{setting} needs the package {package}: pip install '.[gpu]' -c constraints.txt")


def load_base(model: ModelParams, max_seq_len: int = 2048) -> tuple[Any, Any]:
    """Return the base model and its tokenizer, on the GPU where there is one.

    Weights load from safetensors only, and no code from the hub runs. Raises UserError for a model that is not
    there or needs a GPU that is missing, RunError where the hub cannot be reached or memory does not suffice.
    """
    check_hardware(model)
    source = _source(model)
    loader = _load_with_unsloth if model.loader == "unsloth" else _load_with_transformers
    with _loading_errors(model):
        base, tokenizer = loader(source, model, max_seq_len)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template is None:
        raise UserError(f"model.base: {model.base} has no chat template; wanted an instruction-tuned model")
    return base, tokenizer


def _source(model: ModelParams) -> str:
    if model.base == EMBEDDED_BASE:
        from text2sql.model.bases import embedded_base

        return str(embedded_base())
    looks_local = model.base.startswith((".", "/", "~")) or model.base.count("/") != 1
    path = Path(model.base).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"model.base: {model.base} has no config.json; wanted a model in Hugging Face's format")
        return str(path)
    if looks_local:
        raise UserError(
            f"model.base: {model.base} is no folder; takes {EMBEDDED_BASE}, a local folder, or a hub id (owner/name)"
        )
    return model.base


def _dtype(name: str) -> Any:
    import torch

    if name != "auto":
        return getattr(torch, name)
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    # Without matrix units (AMX) a CPU trains and decodes faster in float32, and answers alike at any batch size.
    return torch.bfloat16 if torch.cpu._is_amx_tile_supported() else torch.float32


def _load_with_transformers(source: str, model: ModelParams, max_seq_len: int) -> tuple[Any, Any]:
    with quick_imports("transformers"):
        import torch
        import transformers.modeling_utils  # noqa: F401 (a model's own module needs it, and it is large as well)
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

    del max_seq_len  # unsloth alone asks for it
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    dtype = _dtype(model.dtype)
    config = AutoConfig.from_pretrained(source, revision=model.revision, trust_remote_code=False)
    options: dict[str, Any] = {}
    # A checkpoint that is already in 4 bit carries its own settings.
    if model.quantization == "4bit" and not hasattr(config, "quantization_config"):
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    if torch.cuda.is_available():
        options["device_map"] = {"": torch.cuda.current_device()}
    base = AutoModelForCausalLM.from_pretrained(
        source, revision=model.revision, dtype=dtype, use_safetensors=True, trust_remote_code=False, **options
    )
    tokenizer = AutoTokenizer.from_pretrained(source, revision=model.revision, trust_remote_code=False)
    return base.eval(), tokenizer


def _load_with_unsloth(source: str, model: ModelParams, max_seq_len: int) -> tuple[Any, Any]:
    # unsloth writes code that it generates, by default into the folder that one happens to be in.
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(user_cache() / "unsloth"))
    # First of all: unsloth patches transformers when it is imported.
    from unsloth import FastLanguageModel

    return FastLanguageModel.from_pretrained(
        model_name=source,
        revision=model.revision,
        max_seq_length=max_seq_len,
        dtype=_dtype(model.dtype),
        load_in_4bit=model.quantization == "4bit",
        trust_remote_code=False,
    )


@contextlib.contextmanager
def _loading_errors(model: ModelParams) -> Any:
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
        if isinstance(cause, OSError) and "/" in model.base and not Path(model.base).exists():
            raise RunError(
                f"model.base: {model.base} could not be fetched from the hub ({name}); name a local folder, or "
                f"{EMBEDDED_BASE}, which needs no connection"
            ) from error
        raise UserError(f"model.base: {model.base} does not load: {name}: {cause}") from error


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def add_adapter(base: Any, lora: LoraParams, seed: int, loader: str) -> Any:
    """Return `base` with a fresh LoRA adapter whose weights are float32, initialised from `seed`."""
    import torch

    options = {
        "r": lora.r,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": list(lora.target_modules),
        "bias": "none",
    }
    torch.manual_seed(seed)
    if loader == "unsloth":
        from unsloth import FastLanguageModel

        model = FastLanguageModel.get_peft_model(base, random_state=seed, use_gradient_checkpointing=False, **options)
    else:
        from peft import LoraConfig, get_peft_model

        try:
            model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **options))
        except ValueError as error:
            raise UserError(f"train.lora.target_modules: {error}") from None
    return adapter_in_float32(model)


def adapter_in_float32(model: Any) -> Any:
    """Cast the trainable weights of `model` to float32: bfloat16 cannot hold a step of 2e-8."""
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return model


def without_needless_casts(model: Any) -> Any:
    """Return a context in which an adapter under bfloat16 autocast does not widen its inputs to float32 first.

    Autocast narrows them again at once: the same products, with less memory and fewer steps.
    """
    if model.device.type != "cuda":
        return contextlib.nullcontext()  # no autocast there
    from peft.helpers import disable_input_dtype_casting

    return disable_input_dtype_casting(model)


def chat_text(tokenizer: Any, messages: list[dict], add_generation_prompt: bool) -> str:
    """Return `messages` in the model's chat template, with any date in it pinned.

    The text holds all special tokens: tokenise it with `add_special_tokens=False`, or BOS comes twice.
    """
    return tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=add_generation_prompt, date_string=TEMPLATE_DATE
    )


class LanguageModel:
    """A base model, with an adapter or without, for evaluation."""

    def __init__(self, model: ModelParams, adapter: str | Path | None = None) -> None:
        """Load `model`, and `adapter` (a folder in PEFT's format, safetensors only) on top of it."""
        self._loader = model.loader
        if adapter is not None:
            check_adapter(adapter)  # before the base, which may take minutes to load
        self.model, self.tokenizer = load_base(model)
        if adapter is not None:
            self.model = _with_adapter(self.model, Path(adapter), model.base)
        if model.loader == "unsloth":
            from unsloth import FastLanguageModel

            FastLanguageModel.for_inference(self.model)
        else:
            from text2sql.model.attention import use_grouped_attention

            use_grouped_attention(self.model)
            if adapter is not None:
                _adapter_as_in_training(self.model)
        self.model.eval()
        self._end_ids = _end_ids(self.model, self.tokenizer)
        self._prefill: Any = None
        if model.loader != "unsloth" and getattr(self.model.config, "sliding_window", None) is None:
            from text2sql.model.prefill import Prefill

            self._prefill = Prefill(self.model, self.tokenizer.pad_token_id)

    @property
    def device(self) -> Any:
        """The torch device that the model's inputs go to."""
        return self.model.device

    @property
    def description(self) -> str:
        """What runs where, for a log line."""
        parameter = next(self.model.parameters())
        name = str(self.device)
        if self.device.type == "cuda":
            import torch

            name = torch.cuda.get_device_name(self.device)
        return f"{self._loader}, {str(self.model.dtype).removeprefix('torch.')} on {name}" + (
            ", 4 bit" if parameter.dtype.itemsize == 1 or getattr(self.model, "is_loaded_in_4bit", False) else ""
        )

    def chat_ids(self, messages: list[dict]) -> list[int]:
        """Return the token ids of `messages` in the chat template, ending where the assistant's answer begins."""
        text = chat_text(self.tokenizer, messages, add_generation_prompt=True)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each of the plain `texts`, with the model's BOS in front where it has one."""
        return self.tokenizer(list(texts))["input_ids"]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated `ids`, without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def generate(self, prompts: list[list[int]], max_new_tokens: int) -> list[list[int]]:
        """Return the greedy continuation of each of `prompts` (token ids), up to and with its end token.

        One batch: where memory does not suffice, it is halved until it does.
        """
        generate = self._generate if self._prefill else self._generate_with_library
        return _halving(lambda part: generate(part, max_new_tokens), prompts)

    def option_log_likelihoods(self, prompts: list[list[int]], options: Sequence[str]) -> list[list[float]]:
        """Return for each of `prompts` (token ids) the natural-log likelihood of each of `options` as the next token.

        One forward pass gives all options. Raises UserError where an option is not a single token of this model.
        """
        option_ids = self._option_ids(options)
        return _halving(lambda part: self._log_likelihoods(part, option_ids), prompts)

    def _option_ids(self, options: Sequence[str]) -> list[int]:
        before = self.tokenizer("Answer:", add_special_tokens=False)["input_ids"]
        ids = []
        for option in options:
            whole = self.tokenizer("Answer:" + option, add_special_tokens=False)["input_ids"]
            if whole[:-1] != before:
                raise UserError(f"model.base: {option!r} is not one token of this model, which MMLU's scoring needs")
            ids.append(whole[-1])
        return ids

    def _log_likelihoods(self, prompts: list[list[int]], option_ids: list[int]) -> list[list[float]]:
        import torch

        with torch.inference_mode():
            logits = self._prefill(prompts)[0] if self._prefill else self._last_logits(prompts)
            chosen = torch.log_softmax(logits.float(), dim=-1)[:, option_ids]
        return [[round(value, 6) for value in row] for row in chosen.tolist()]

    def _generate(self, prompts: list[list[int]], max_new_tokens: int) -> list[list[int]]:
        import torch

        from text2sql.model.decoding import decode

        with torch.inference_mode():
            logits, mask, cache = self._prefill(prompts)
            return decode(self.model, logits, mask, cache, max_new_tokens, self._end_ids)

    def _generate_with_library(self, prompts: list[list[int]], max_new_tokens: int) -> list[list[int]]:
        """Generate as unsloth or transformers do it, for models whose cache is of another kind than ours."""
        import torch

        ids, mask = self._padded(prompts)
        with torch.inference_mode():
            sequences = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=sorted(self._end_ids),
                pad_token_id=self.tokenizer.pad_token_id,
            )
        from text2sql.model.decoding import up_to_end

        return [up_to_end(row, self._end_ids) for row in sequences[:, ids.shape[1] :].tolist()]

    def _last_logits(self, prompts: list[list[int]]) -> Any:
        ids, mask = self._padded(prompts)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        return self.model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=1).logits[:, -1]

    def _padded(self, prompts: list[list[int]]) -> tuple[Any, Any]:
        """Return ids and mask of `prompts`, padded on the left, each of shape (batch, longest)."""
        import torch

        width = max(map(len, prompts))
        padding = [width - len(prompt) for prompt in prompts]
        pad = self.tokenizer.pad_token_id
        ids = [[pad] * missing + prompt for missing, prompt in zip(padding, prompts, strict=True)]
        mask = [[0] * missing + [1] * (width - missing) for missing in padding]
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)


def _with_adapter(base: Any, adapter: Path, name: str) -> Any:
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(base, str(adapter))
    except Exception as error:
        raise UserError(
            f"{adapter}: does not load onto model.base {name}, wanted an adapter that was trained on it: {error!s:.400}"
        ) from error


def _adapter_as_in_training(model: Any) -> None:
    """Have the adapter's products in bfloat16 where those of training were, under autocast on a GPU.

    PEFT would widen each layer's inputs to float32, and narrow its outputs again: a quarter of a small model's time.
    Nothing is lost of an adapter that hardly moved: its second matrices begin at zero, and bfloat16 keeps the digits of
    any size.
    """
    import torch

    if model.device.type == "cuda" and model.dtype == torch.bfloat16:
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.to(torch.bfloat16)


def _end_ids(model: Any, tokenizer: Any) -> set[int]:
    """Return all tokens that end an answer: the model's own list, and the tokenizer's end token."""
    configured = model.generation_config.eos_token_id
    configured = configured if isinstance(configured, list) else [configured]
    return {token for token in (*configured, tokenizer.eos_token_id) if token is not None}


def _halving(work: Any, prompts: list[list[int]]) -> list:
    """Return `work(prompts)`, in halves where memory does not suffice for the whole."""
    import torch

    try:
        return work(prompts)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if len(prompts) == 1:
            raise RunError("one prompt does not fit into memory; try model.quantization: 4bit on a GPU") from None
    # Outside the except block, where the traceback no longer holds the tensors of the failed attempt.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(prompts) // 2
    print(f"Out of memory at a batch of {len(prompts)}: going on with {middle}", flush=True)
    return _halving(work, prompts[:middle]) + _halving(work, prompts[middle:])
