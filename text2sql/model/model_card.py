"""The model card of an adapter or a whole model: what it is, how it was trained, and what it is not."""

from pathlib import Path

from text2sql.core.models import SPIDER
from text2sql.core.params import DataParams, ModelParams, Params, TrainParams
from text2sql.core.paths import SAMPLE_SPIDER
from text2sql.model.base_identity import base_identity
from text2sql.model.bases import CARRIED, is_gguf, is_local

# The licence of a base that is not carried, by what its name contains.
LICENSES = {"smollm2": "apache-2.0", "llama-3.2": "llama3.2", "llama-3.1": "llama3.1"}


def model_card(name: str, params: Params, metrics: dict) -> str:
    """Return the README of the tuned model `name`: base, data, recipe, training metrics, limits."""
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
    whole = recipe.method == "full"
    if whole:
        del rows["LoRA"]
    if recipe.method == "dora":
        rows["LoRA"] += "; DoRA: a trained magnitude for each output beside it"
    if recipe.augment != "none":
        rows["augmentation"] = "each epoch shows an example's tables in an order drawn anew"
    if recipe.objective != "sft":
        rows["objective"] = _OBJECTIVES[recipe.objective].format(teacher=params.models[str(recipe.from_)].title)
        number = f"at most {recipe.per_question}"
        rows["answers a question"] = f"{recipe.group} a step" if recipe.objective == "grpo" else number
    if recipe.objective in ("dpo", "grpo"):
        rows["beta"] = f"{recipe.beta:g}"
    if recipe.sft_weight:
        rows["sft_weight"] = f"{recipe.sft_weight:g}"
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    english = "English " if params.data.name == SPIDER else ""  # own data may be in any language
    return f"""{front_matter(params.model, whole)}
# {title}: {_KINDS[recipe.method]} for text-to-SQL

A fine-tune of {base_in_words(params.model)} that answers a question about a database with one SQLite query.
{_other_models(params.model)}
## Data

{_data_in_words(params.data)} The prompt in training is {_prompt_in_words(params)}. The loss counts the answer
and its end token alone.

## Recipe

| | |
| --- | --- |
{table}

## How to use it

{(_USE_WHOLE if whole else _USE_ADAPTER).format(name=name)}

## Limits

Trained on {english}questions and SQLite. Its SQL may be wrong, name tables or columns that do not exist, or return
what nobody asked for: run it read-only, with limits, and look at the result. What the fine-tune costs in general
knowledge stands in the experiment's report, beside what it gains.
"""


_OBJECTIVES = {
    "rejection": "right ones of the executed answers of {teacher} to training questions, beside gold",
    "dpo": "pairs of right and wrong ones of its executed answers to training questions, from {teacher} on",
    "grpo": "verdicts on answers that it draws to training questions (GRPO), from {teacher} on",
}


def verifier_card(params: Params, recipe: TrainParams, metrics: dict) -> str:
    """Return the README of a verifier: what it answers, and what it was trained on."""
    whole = recipe.method == "full"
    return f"""{front_matter(params.model, whole)}
# A verifier of text-to-SQL answers: {_KINDS[recipe.method]}

A fine-tune of {base_in_words(params.model)} that says whether a query answers a question, given the schema and the
first rows of its result. It writes no SQL. Its score is the log-likelihood of Yes less that of No.

Trained on {metrics["right_answers"]:,} right and {metrics["wrong_answers"]:,} wrong answers of {recipe.from_} to
{metrics["questions_used"]:,} questions, {metrics["steps"]:,} steps at a learning rate of {recipe.lr:g}.
{_data_in_words(params.data)} It was not tried on answers of other kinds of models, and is often wrong.
"""


_KINDS = {"full": "a whole model", "lora": "a LoRA adapter", "dora": "a DoRA adapter"}
_USE_ADAPTER = """Load it unmerged on its base: a merge into 4-bit weights would round a small adapter away.

    from peft import PeftModel
    model = PeftModel.from_pretrained(base, "models/{name}")"""
_USE_WHOLE = """All weights of the base were trained: it needs no base beside it.

    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained("models/{name}")"""


def front_matter(model: ModelParams, whole: bool) -> str:
    """Return what the hub reads of a card: library, task, tags, base and licence; `whole` for one with no adapter."""
    library, kind = ("transformers", "") if whole else ("peft", ", lora")
    lines = [f"library_name: {library}", "pipeline_tag: text-generation", f"tags: [text-to-sql{kind}]"]
    if not is_local(model.base):  # a local folder would mean nothing to others
        lines.append(f"base_model: {base_identity(model).name}")
    licence = licence_of(model)
    lines += [f"license: {licence}"] if licence else []
    return "\n".join(["---", *lines, "---"])


def licence_of(model: ModelParams) -> str | None:
    """Return the licence of `model.base` by its identifier, or None where it is not known."""
    if model.base in CARRIED:
        return CARRIED[model.base].licence
    return next((license_id for part, license_id in LICENSES.items() if part in model.base.lower()), None)


def base_in_words(model: ModelParams) -> str:
    """Return the base that was trained on, by what anyone can look up."""
    base = base_identity(model)
    if model.base in CARRIED:
        return f"{base.name}, file `{base.file}` (sha256 `{base.sha256}`), dequantised,"
    if is_gguf(model.base):
        return f"a local GGUF file, `{base.name}` (sha256 `{base.sha256}`), dequantised,"
    known = [f"revision {base.revision}"] if base.revision else []
    known += [f"sha256 of its weights `{base.sha256}`"] if base.sha256 else []
    return (f"a local base, {base.name}" if is_local(model.base) else base.name) + (
        f" ({', '.join(known)})" if known else ""
    )


def _other_models(model: ModelParams) -> str:
    """Return a paragraph on what is not the base though its name says so; nothing where there is no such model."""
    if is_gguf(model.base):
        return "\nThe weights that were quantised to make that file are another model, on which nothing was measured.\n"
    if model.base not in CARRIED:
        return ""
    carried = CARRIED[model.base]
    return (
        f"\nThe base is a {carried.quantisation} quantisation of {carried.origin}. The unquantised {carried.origin} is "
        "another model,\non which nothing was measured: `text2sql ask --other-base` loads the adapter on it all the "
        "same.\n"
    )


def _data_in_words(data: DataParams) -> str:
    if data.name != SPIDER:
        return f"The train split of {data.name}, a data set of its own."
    if Path(data.spider) == SAMPLE_SPIDER:
        return "The project's own small sample in Spider's format: it is not Spider."
    if data.spider == "hub":
        return "The train split of Spider (Yu et al., 2018; CC BY-SA 4.0)."
    return "The train split of a local data set in Spider's format."


def _prompt_in_words(params: Params) -> str:
    prompt = params.prompt
    question = "question and its evidence" if prompt.evidence else "question"
    if prompt.training == "bare":
        return f"the bare {question}"
    schema = {
        "none": "without the schema",
        "name": "with the database's name",
        "tables": "with one line a table and its columns",
        "ddl": "with the CREATE TABLE statements",
        "rich": f"with types, keys and values of its columns in {prompt.schema_tokens:,} tokens at most",
    }[prompt.schema_]
    if prompt.schema_ in ("tables", "ddl", "rich") and prompt.table_order != "given":
        schema += f" ({prompt.table_order} tables)"
    if prompt.training == "zero_shot":
        return f"that of evaluation without its worked examples: the {question} {schema}"
    return f"that of evaluation: the {question} {schema}, and {prompt.few_shot} worked examples"
