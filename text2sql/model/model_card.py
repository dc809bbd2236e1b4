"""The model card of an adapter: what it is, how it was trained, and what it is not."""

from pathlib import Path

from text2sql.core.params import ModelParams, Params
from text2sql.core.paths import SAMPLE_SPIDER
from text2sql.model.bases import CARRIED

# The licence of a base that is not carried, by what its name contains.
LICENSES = {"smollm2": "apache-2.0", "llama-3.2": "llama3.2", "llama-3.1": "llama3.1"}


def model_card(name: str, params: Params, metrics: dict) -> str:
    """Return the README of the adapter `name`: base, data, recipe, training metrics, limits."""
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
    if base in CARRIED:
        lines += [f"base_model: {CARRIED[base].origin}", f"license: {CARRIED[base].licence}"]
        return "\n".join(["---", *lines, "---"])
    if not Path(base).exists():
        lines.append(f"base_model: {base}")  # a hub id; a local folder would mean nothing to others
    for part, license_id in LICENSES.items():
        if part in base.lower():
            lines.append(f"license: {license_id}")
    return "\n".join(["---", *lines, "---"])


def _base_in_words(model: ModelParams) -> str:
    if model.base in CARRIED:
        carried = CARRIED[model.base]
        return f"{carried.origin} (its {carried.quantisation} quantisation, dequantised)"
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
