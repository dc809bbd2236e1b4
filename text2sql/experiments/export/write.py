"""Write an export: an adapter as others load it, merged weights, a GGUF file, or either of the first two for vLLM.

The folder appears whole, or not at all. Beside the weights it holds tokenizer, chat template, generation_config, card,
`prompt.json` and `export.json`.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from text2sql.core.digests import file_sha256
from text2sql.core.errors import DISK_FULL, RunError, UserError
from text2sql.core.files import atomic_directory, read_object, write_json, write_text
from text2sql.core.params import ExportEntry
from text2sql.experiments.export.card import CARD, export_card
from text2sql.experiments.export.engines import ENGINES, run_worker
from text2sql.experiments.export.modelfile import MODELFILE, modelfile
from text2sql.experiments.export.record import RECORD, Record
from text2sql.experiments.export.source import Source
from text2sql.model.adapters import CONFIG, WEIGHTS, check_scalable
from text2sql.model.base_identity import base_identity, check_trained_on
from text2sql.model.chat_tokens import ChatTokens
from text2sql.model.whole_model import CHECKPOINT
from text2sql.prompts.chat import TEMPLATE_CLOCK, default_system
from text2sql.prompts.messages import load_few_shot
from text2sql.prompts.prompt_file import PromptFile

GGUF = "model.gguf"
SERVE = "serve.sh"
_QUANTIZER = {"q4_k_m": "MOSTLY_Q4_K_M"}  # made by llama.cpp of an f16 file
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what `--max-lora-rank` takes
# What vLLM's own LoRA layers do not take.
_NOT_BY_VLLM = ("use_dora", "modules_to_save", "trainable_token_indices", "rank_pattern", "alpha_pattern")


def export(source: Source, entry: ExportEntry, out: Path, replace: bool = False) -> str:
    """Write `source` in the form that `entry` names to the folder `out`; return a line about it.

    Raises UserError for a folder that holds something else, for a source that has no such form, and where the disk has
    no room or a package is missing.
    """
    check_target(out, replace)
    if entry.format == "gguf" and entry.quantization in _QUANTIZER:
        ENGINES["llama.cpp"].require()
    form = _form(source, entry)
    tokens = ChatTokens.of(source.params.model, source.folder, source.params.prompt.template)
    prompt = prompt_of(source, tokens)
    with _disk_errors(out), atomic_directory(out) as folder:
        dtype = _write_weights(source, entry, form, folder, tokens, prompt)
        prompt.write(folder, tokens.chat_text(prompt.example), tokens.chat_ids(prompt.example))
        if entry.format == "vllm":
            write_text(folder / SERVE, serve_command(source, form, prompt))
        write_text(folder / CARD, export_card(source, entry, form != "adapter"))
        _record(source, entry, form, dtype).write(folder)
    size = sum(path.stat().st_size for path in out.iterdir())
    return f"{out}: {source.name} as {entry.format}, {dtype}, {size / 1e6:.1f} MB; `text2sql verify {out}` asks it"


def check_target(out: Path, replace: bool) -> None:
    """Raise UserError unless `out` is free, or holds an export that may be replaced."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out}: is a file, wanted a folder")
    if out.is_dir() and any(out.iterdir()):
        if not (out / RECORD).is_file():
            raise UserError(f"--out: {out}: holds something else than an export; name another folder")
        if not replace:
            raise UserError(f"--out: {out}: is there already; --replace puts this export in its place")


def _form(source: Source, entry: ExportEntry) -> str:
    """Return what is written: adapter, merged or gguf."""
    if entry.format == "adapter" and not source.is_adapter:
        raise UserError(f"--to adapter: {source.name} has none; takes merged or gguf")
    if entry.format != "vllm":
        return entry.format
    if not source.is_adapter or source.folder is None:
        return "merged"
    config = read_object(source.folder / CONFIG, {})
    more = any(config.get(name) for name in _NOT_BY_VLLM) or config.get("bias", "none") != "none"
    return "merged" if more or config.get("r", 0) > VLLM_RANKS[-1] else "adapter"


def prompt_of(source: Source, tokens: ChatTokens) -> PromptFile:
    """Return the prompt that `source` was evaluated with; its messages give the evaluated token ids.

    Raises UserError for a template that writes today's date by the clock, which no client can hold still.
    """
    params = source.params
    variables = dict(params.prompt.template)
    template = tokens.tokenizer.get_chat_template()
    if "date_string" in template:
        variables.setdefault("date_string", TEMPLATE_CLOCK.strftime("%d %b %Y"))
    elif "strftime_now" in template:
        raise UserError("model.base: its chat template writes today's date, so that no two days have one prompt")
    return PromptFile(
        system=default_system(tokens.tokenizer, tokens.template),
        form=params.prompt.schema_,
        few_shot=load_few_shot(params.prompt.few_shot_file, params.prompt.few_shot),
        variables=variables,
        rule=params.prompt.answer,
        max_new_tokens=params.generation.max_new_tokens,
        end=tokens.tokenizer.convert_ids_to_tokens(tokens.end_id),
        end_id=tokens.end_id,
        schema_tokens=params.prompt.schema_tokens,
    )


def _write_weights(
    source: Source, entry: ExportEntry, form: str, folder: Path, tokens: ChatTokens, prompt: PromptFile
) -> str:
    """Write weights with what loads them; return their dtype."""
    if form == "adapter":
        _write_adapter(source, folder)
        _write_tokenizer(tokens, folder)
        return "float32"
    from text2sql.model.merged_model import MergedModel

    merged = MergedModel(source.params.model, source.folder)
    if form == "merged":
        merged.write_weights(folder, entry.dtype)
        _write_tokenizer(tokens, folder)
        return entry.dtype
    _write_gguf(merged, entry.quantization, folder, prompt, source.name)
    context = merged.config.max_position_embeddings
    write_text(folder / MODELFILE, modelfile(prompt, tokens, GGUF, min(context, 4096)))
    return entry.quantization


def _write_adapter(source: Source, folder: Path) -> None:
    """Copy the adapter; its config names the base as the project's own do, and its strength is in its alpha."""
    assert source.folder is not None
    config = json.loads((source.folder / CONFIG).read_text(encoding="utf-8"))
    check_trained_on(source.folder, config, source.params.model)
    identity = base_identity(source.params.model)
    config |= {"base_model_name_or_path": identity.name, "revision": identity.revision}
    strength = source.params.model.strength
    if strength != 1:
        check_scalable(source.folder, strength)
        config["lora_alpha"] = _scaled(config["lora_alpha"], strength)
        patterns = config.get("alpha_pattern") or {}
        config["alpha_pattern"] = {name: _scaled(value, strength) for name, value in patterns.items()}
    shutil.copyfile(source.folder / WEIGHTS, folder / WEIGHTS)
    write_json(folder / CONFIG, config)


def _scaled(alpha: float, strength: float) -> float:
    value = alpha * strength
    return int(value) if float(value).is_integer() else value


def _write_tokenizer(tokens: ChatTokens, folder: Path) -> None:
    """Write the tokenizer with its template, and a generation_config.json: greedy, to the evaluated end token."""
    from transformers import GenerationConfig

    tokenizer = tokens.tokenizer
    tokenizer.save_pretrained(folder)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokens.end_id
    ends = {"eos_token_id": tokens.end_id, "pad_token_id": pad, "bos_token_id": tokenizer.bos_token_id}
    GenerationConfig(do_sample=False, **ends).save_pretrained(folder)


def _write_gguf(merged: Any, quantization: str, folder: Path, prompt: PromptFile, name: str) -> None:
    from text2sql.model.gguf_file import read_header
    from text2sql.model.gguf_writer import write_gguf

    if quantization not in _QUANTIZER:
        write_gguf(merged, folder / GGUF, quantization, prompt.end_id, name)
        return
    whole = folder / "f16.gguf"
    write_gguf(merged, whole, "f16", prompt.end_id, name)
    job = {"source": str(whole), "target": str(folder / GGUF), "file_type": _QUANTIZER[quantization]}
    (found,) = run_worker(ENGINES["llama.cpp"].command, {"quantise": job}, "llama.cpp's quantizer")
    # It returns a code where it fails, and may leave a file that is not whole.
    if found["returned"] != 0:
        raise RunError(f"llama.cpp's quantizer: it returned {found['returned']}; is there room on the disk?")
    written = read_header(folder / GGUF)
    if written.tensors.keys() != read_header(whole).tensors.keys():
        raise RunError("llama.cpp's quantizer: it left out tensors")
    whole.unlink()


def serve_command(source: Source, form: str, prompt: PromptFile) -> str:
    """Return a shell script with vLLM's command line for the folder that it lies in."""
    head = '#!/bin/sh\nset -eu\nhere=$(cd "$(dirname "$0")" && pwd)\n'
    # The template of the folder; its generation_config stops where the evaluated answers did.
    common = '--tokenizer "$here" --generation-config "$here"'
    if form == "merged":
        return f'{head}exec vllm serve "$here" --served-model-name text2sql --generation-config "$here" "$@"\n'
    assert source.folder is not None
    rank = max_lora_rank(read_object(source.folder / CONFIG, {"r": int})["r"])
    identity = base_identity(source.params.model)
    return (
        f"{head}# BASE: a folder or a hub id with the weights of {identity}\n"
        f'exec vllm serve "${{BASE:?}}" --enable-lora --max-lora-rank {rank} --lora-modules text2sql="$here" '
        f'{common} "$@"\n'
    )


def max_lora_rank(rank: int) -> int:
    """Return the least rank that vLLM takes for an adapter of `rank`."""
    return next(most for most in VLLM_RANKS if most >= rank)


def _record(source: Source, entry: ExportEntry, form: str, dtype: str) -> Record:
    model = source.params.model
    weights = None if source.folder is None else source.folder / (WEIGHTS if source.is_adapter else CHECKPOINT)
    return Record(
        name=source.name,
        model=source.model,
        format=entry.format,
        form=form,
        dtype=dtype,
        base=base_identity(model).known(),
        loaded=model.model_dump(),
        adapter=file_sha256(weights) if weights is not None and weights.is_file() else None,
        source=source.folder.as_posix() if source.folder is not None else None,
    )


@contextlib.contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    """Turn what is raised where the disk is full into one line that is the user's to mend."""
    from safetensors import SafetensorError

    full = UserError(f"--out: {out}: not enough disk space; make room, or name a folder on another disk")
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise full from None
    except SafetensorError as error:
        if "No space" in str(error) or "os error 28" in str(error):
            raise full from None
        raise
