"""A finished adapter on disk: PEFT's own format, with a model card that says what it is and what it is not."""

import json
from pathlib import Path
from typing import Any

from text2sql.core.errors import DISK_FULL, RunError, UserError
from text2sql.core.files import atomic_directory, read_object
from text2sql.core.params import ModelParams, Params
from text2sql.core.paths import SAMPLE_SPIDER
from text2sql.model.bases import EMBEDDED_BASE

EMBEDDED_ORIGIN = "HuggingFaceTB/SmolLM2-135M-Instruct"
# The licence of a base, by what its name contains.
LICENSES = {"smollm2": "apache-2.0", "llama-3.2": "llama3.2", "llama-3.1": "llama3.1"}


CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def check_adapter(folder: str | Path) -> None:
    """Raise UserError unless `folder` holds a LoRA adapter in PEFT's format with whole weights, as safetensors only."""
    from safetensors import SafetensorError, safe_open

    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; wanted an adapter in PEFT's format")
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: has no {name}; wanted an adapter in PEFT's format, as safetensors")
    kind = read_object(folder / CONFIG, {"peft_type": str})["peft_type"]
    if kind != "LORA":
        raise UserError(f"{folder / CONFIG}: found peft_type {kind!r}, wanted 'LORA'")
    try:
        with safe_open(folder / WEIGHTS, framework="np") as weights:
            names = list(weights.keys())
    except SafetensorError as error:
        raise UserError(f"{folder / WEIGHTS}: damaged: {error}; wanted safetensors") from None
    if not names:
        raise UserError(f"{folder / WEIGHTS}: holds no weights")


def adapter_on_cpu(model: Any) -> dict[str, Any]:
    """Return copies of the trained weights of `model` by name, in the CPU's memory.

    PEFT would copy those that share one tensor on the GPU, where no memory may be left.
    """
    return {
        name: parameter.detach().to("cpu", copy=True)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def save_adapter(model: Any, folder: str | Path, base: ModelParams, card: str) -> None:
    """Write the adapter of `model` to `folder`, whole or not at all.

    The folder then holds `adapter_model.safetensors`, `adapter_config.json` and `README.md`, with `card` in it, and
    nothing else. Equal weights give equal bytes. Raises RunError where the disk is full.
    """
    from safetensors import SafetensorError

    try:
        with atomic_directory(folder) as temporary:
            model.save_pretrained(temporary, state_dict=adapter_on_cpu(model), save_embedding_layers=False)
            config_file = temporary / CONFIG
            config = json.loads(config_file.read_text(encoding="utf-8"))
            # The base as params.yaml names it: not where it lies on this machine.
            config["base_model_name_or_path"] = base.base
            config["revision"] = base.revision
            # PEFT keeps a set, whose order changes from run to run.
            config["target_modules"] = sorted(config["target_modules"])
            config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            (temporary / "README.md").write_text(card, encoding="utf-8")
            for path in temporary.iterdir():
                path.chmod(0o644)  # safetensors writes for its owner alone
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise RunError(f"{folder}: not enough disk space for the adapter") from None
    except SafetensorError as error:
        raise RunError(f"{folder}: cannot write the adapter; is there disk space enough? ({error})") from None


def model_card(name: str, params: Params, metrics: dict) -> str:
    """Return the README of the adapter `name` (`m1`, `m2`): base, data, recipe, figures of its training, limits."""
    base = params.model.base
    recipe = params.train_for(name)
    lora = recipe.lora
    title = params.models[name].title
    rows = {
        "learning rate": f"{recipe.lr:g}, {recipe.scheduler}, warmup {recipe.warmup:g}",
        "epochs": f"{recipe.epochs:g}",
        "batch": f"{recipe.batch_size} × {recipe.grad_accum} accumulated",
        "optimizer": f"{recipe.optim}, weight decay {recipe.weight_decay:g}",
        "seed": str(recipe.seed),
        "longest example": f"{recipe.max_seq_len} tokens",
        "LoRA": f"r {lora.r}, alpha {lora.alpha}, dropout {lora.dropout:g}, on {', '.join(lora.target_modules)}",
        "quantisation of the base": params.model.quantization,
        "loader": params.model.loader,
        "trained parameters": (
            f"{metrics['trainable_parameters']:,} of {metrics['total_parameters']:,} ({metrics['trainable_share']:.2%})"
        ),
        "examples": f"{metrics['examples']:,} ({metrics['examples_left_out']:,} too long and left out)",
        "steps": f"{metrics['steps']:,}",
        "loss of the last step": f"{metrics['final_loss']:.4f}",
        "mean loss": f"{metrics['mean_loss']:.4f}",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"""{_front_matter(base)}
# {title}: a LoRA adapter for text-to-SQL

A fine-tune of {_base_in_words(params.model)} that answers a question about a database with one SQLite query.

## Data

{_data_in_words(params.data.spider)} The prompt in training is {_prompt_in_words(params)}. The loss counts the answer
and its end token alone.

## Recipe

| | |
| --- | --- |
{table}

## How to use it

Load it unmerged on its base: a merge into 4-bit weights would round a small adapter away.

    from peft import PeftModel
    model = PeftModel.from_pretrained(base, "models/{name}")

## Limits

Trained on English questions and SQLite. Its SQL may be wrong, name tables or columns that do not exist, or return
what nobody asked for: run it read-only, with limits, and look at the result. What the fine-tune costs in general
knowledge stands in the experiment's report, beside what it gains.
"""


def _front_matter(base: str) -> str:
    lines = ["library_name: peft", "pipeline_tag: text-generation", "tags: [text-to-sql, lora]"]
    if base == EMBEDDED_BASE:
        lines.append(f"base_model: {EMBEDDED_ORIGIN}")
    elif not Path(base).exists():
        lines.append(f"base_model: {base}")  # a hub id; a local folder would mean nothing to others
    for part, license_id in LICENSES.items():
        if part in base.lower():
            lines.append(f"license: {license_id}")
    return "\n".join(["---", *lines, "---"])


def _base_in_words(model: ModelParams) -> str:
    if model.base == EMBEDDED_BASE:
        return f"{EMBEDDED_ORIGIN} (its Q4_1 quantisation, dequantised)"
    if Path(model.base).exists():
        return f"a local base, {Path(model.base).name}"
    return model.base + (f" at revision {model.revision}" if model.revision else "")


def _data_in_words(spider: str) -> str:
    if Path(spider) == SAMPLE_SPIDER:
        return "The project's own small sample in Spider's format: it is not Spider."
    if spider == "hub":
        return "The train split of Spider (Yu et al., 2018; CC BY-SA 4.0)."
    return "The train split of a local data set in Spider's format."


def _prompt_in_words(params: Params) -> str:
    prompt = params.prompt
    if prompt.training == "bare":
        return "the bare question"
    schema = {
        "none": "without the schema",
        "name": "with the database's name",
        "tables": "with one line a table and its columns",
        "ddl": "with the CREATE TABLE statements",
    }[prompt.schema_]
    if prompt.training == "zero_shot":
        return f"that of evaluation without its worked examples: the question {schema}"
    return f"that of evaluation: the question {schema}, and {prompt.few_shot} worked examples"
