"""The one typed view of `params.yaml`.

Read with ruamel (YAML 1.2), since PyYAML reads the `2e-08` that DVC writes as a string. An unknown key, a wrong
type or an impossible value is refused before anything slow starts.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
)

from text2sql.core.errors import UserError, shown
from text2sql.core.files import read_yaml
from text2sql.core.models import SPIDER, ModelTable, name_clash
from text2sql.core.params_versions import upgraded

VERSION = 2
AUTO_MODULES = "auto"  # `target_modules`: the projections that the architecture has
BASE_TABLE = "text2sql/model/bases.py"  # what `model.files` names for a base that is not local


def _number(value: Any) -> Any:
    """Accept a number in any spelling of YAML or a command line: `2e-8`, `2E-08`, `"2e-8"`, `8.0` for 8."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


NUMBER = BeforeValidator(_number)
Seed = Annotated[int, NUMBER, Field(description="a whole number from 0 to 2**32 - 1", ge=0, le=2**32 - 1)]
LearningRate = Annotated[
    float, NUMBER, Field(description="a number above 0 and at most 1", gt=0, le=1, allow_inf_nan=False)
]
Positive = Annotated[int, NUMBER, Field(description="a whole number from 1 to 10**12", ge=1, le=10**12)]
Count = Annotated[int, NUMBER, Field(description="a whole number from 0 to 1000", ge=0, le=1000)]
Share = Annotated[float, NUMBER, Field(description="a number from 0 to below 1", ge=0, lt=1, allow_inf_nan=False)]
HeldOut = Annotated[
    Annotated[float, Field(gt=0, lt=1)] | None,
    NUMBER,
    Field(description="a share above 0 and below 1, or null"),
]
NotNegative = Annotated[float, NUMBER, Field(description="a number of at least 0", ge=0, allow_inf_nan=False)]
Strength = Annotated[float, NUMBER, Field(description="a number from 0 to 100", ge=0, le=100, allow_inf_nan=False)]
Above0 = Annotated[float, NUMBER, Field(description="a number above 0 and at most 1000000", gt=0, le=1_000_000)]
SampleCount = Annotated[int, NUMBER, Field(description="a whole number from 1 to 256", ge=1, le=256)]
Temperature = Annotated[
    float, NUMBER, Field(description="a number above 0 and at most 10", gt=0, le=10, allow_inf_nan=False)
]
TopP = Annotated[float, NUMBER, Field(description="a number above 0 and at most 1", gt=0, le=1)]
Limit = Annotated[
    Annotated[int, Field(ge=1)] | None,
    NUMBER,
    Field(description="a whole number of at least 1, or null for all"),
]


def _share_or_steps(value: float) -> float:
    if value > 1 and not value.is_integer():
        raise ValueError(f"got {value}, takes a share of all steps below 1, or a whole number of steps")
    return value


Warmup = Annotated[
    float,
    NUMBER,
    AfterValidator(_share_or_steps),
    Field(ge=0, description="a share of all steps below 1, or a number of steps", allow_inf_nan=False),
]
_LINE = r"^[^\x00-\x1f]*[^\x00-\x20][^\x00-\x1f]*$"
Text = Annotated[str, Field(pattern=_LINE, description="one line of text, not empty")]


Form = TypeVar("Form", bound=BaseModel)


class Section(BaseModel):
    """A mapping of a YAML file: its keys, and no others, each of its type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ModelParams(Section):
    """Which base model, and how it is loaded."""

    base: Text
    files: Text = BASE_TABLE  # a local base's folder or file, which stages depend on
    source: Literal["auto", "index", "hub"] = "auto"  # where a carried base's bytes come from; they are the same
    revision: Annotated[Text | None, Field(description="a revision of the hub's repository, or null")] = None
    loader: Literal["transformers", "unsloth"]
    quantization: Literal["none", "4bit"]
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    strength: Strength = 1  # what a tuned model's adapter is scaled by in evaluation


# What `apply_chat_template` sets itself.
_TAKEN = frozenset(
    "messages conversation tools documents add_generation_prompt continue_final_message chat_template tokenize padding "
    "truncation max_length return_tensors return_dict return_assistant_tokens_mask tokenizer_kwargs "
    "strftime_now".split()
)


def _template_variables(value: Any) -> Any:
    """Check `prompt.template`: names of variables with plain values."""
    for name, content in value.items() if isinstance(value, dict) else ():
        if not isinstance(name, str) or not name.isidentifier() or name in _TAKEN:
            raise ValueError(f"got the name {shown(name)}, takes variables of the base's chat template")
        if not isinstance(content, (str, bool, int)):
            raise ValueError(f"{name}: got {shown(content)}, takes a text, a whole number, true or false")
    return value


TemplateVariables = Annotated[
    dict[str, Any],
    BeforeValidator(_template_variables),
    Field(description="a mapping of variables of the base's chat template"),
]


# The tables of a schema as the prompt shows them: as the database has them, the other way round, or by chance.
TableOrder = Literal["given", "reversed", "shuffled"]


FailingGold = Literal["refuse", "skip", "wrong"]


class AlsoSet(Section):
    """A further evaluation set: the dev split of data in Spider's layout, its tables maybe in an order of its own."""

    spider: Text  # a folder or zip, or `hub`, as in `data.spider`, whose databases it may use
    table_order: Annotated[TableOrder | None, Field(description="given, reversed or shuffled")] = None
    failing_gold: Annotated[FailingGold | None, Field(description="refuse, skip or wrong")] = None


def _sets(value: Any) -> Any:
    """Check what a further evaluation set is named, and that it is a mapping."""
    for name, entry in value.items() if isinstance(value, dict) else ():
        if not isinstance(name, str) or not re.fullmatch("[a-z][a-z0-9]*", name) or name == "all":
            raise ValueError(f"got the name {shown(name)}, takes small letters and digits, and not `all`")
        if not isinstance(entry, dict):
            raise ValueError(f"{name}: got {shown(entry)}, takes a mapping such as {{spider: FOLDER}}")
    return value


class DataParams(Section):
    """Where the raw benchmarks lie, what the first is called, and how much of them is used."""

    spider: Text  # Spider, or own data: `data.sources` says which a folder is
    name: Text = SPIDER  # what reports call it
    holdout: HeldOut = None  # of own data whose questions name no split
    mmlu: Text
    train_limit: Limit
    dev_limit: Limit
    failing_gold: FailingGold  # what becomes of examples whose gold query fails
    also: Annotated[
        dict[str, AlsoSet],
        BeforeValidator(_sets),
        Field(description="a mapping of further evaluation sets, each {spider: FOLDER}, or {} for none"),
    ] = {}


class PromptParams(Section):
    """What the prompt holds besides the question (the paper: nothing; its section III.D proposes the schema's name)."""

    schema_: Annotated[Literal["none", "name", "tables", "ddl", "rich"], Field(alias="schema")]
    schema_tokens: Positive = 1536  # with rich: what schema and values may take, see docs/prompt.md
    few_shot: Count
    few_shot_file: Text
    training: Literal["evaluation", "zero_shot", "bare"]
    answer: Literal["standard", "paper"]  # what counts as the SQL in an answer: docs/answers.md
    template: TemplateVariables = {}
    table_order: TableOrder = "given"
    evidence: bool = False  # what BIRD gives a reader to know besides the question
    descriptions: bool = False  # what BIRD says of columns, with the schema as ddl or rich


class LoraParams(Section):
    """The adapter's shape (the paper's Table I)."""

    r: Positive
    alpha: Positive
    dropout: Share
    target_modules: Annotated[
        list[Text],
        BeforeValidator(lambda value: [AUTO_MODULES] if value == AUTO_MODULES else value),
        Field(min_length=1, description=f"a list of module names, or {AUTO_MODULES}"),
    ]


class TrainParams(Section):
    """Model 1's recipe (the paper's Table I, first column)."""

    method: Literal["lora", "dora", "full"] = "lora"  # an adapter, one with magnitudes of its own, or all weights
    lr: LearningRate
    epochs: Above0
    batch_size: Positive
    grad_accum: Positive
    optim: Literal["adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "sgd"]
    seed: Seed
    scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup"]
    warmup: Warmup
    weight_decay: NotNegative
    max_seq_len: Annotated[int, BeforeValidator(_number), Field(ge=8, description="a whole number of at least 8")]
    augment: Literal["none", "table_order"] = "none"  # each epoch shows a schema's tables in an order drawn anew
    checkpoint_minutes: Above0
    lora: LoraParams
    # What is learnt from: gold alone, or executed answers of another model too (docs/learning.md); then which model's,
    # how many of them (or pairs of them) a question at most, how strongly dpo and grpo are held to that model, how much
    # a right answer's own likelihood counts in dpo, and how many answers to a question grpo draws (docs/rewards.md).
    objective: Literal["sft", "rejection", "dpo", "grpo"] = "sft"
    from_: Annotated[Text | None, Field(alias="from", description="the name of a tuned model of `models`")] = None
    per_question: Positive = 4
    beta: Above0 = 0.1
    sft_weight: NotNegative = 0
    group: Annotated[int, NUMBER, Field(description="a whole number from 2 to 256", ge=2, le=256)] = 8


# What a further tuned model changes of Model 1's recipe, such as `train_m2` (the paper's Table I, second column).
TrainChanges = create_model(
    "TrainChanges",
    __base__=Section,
    **{  # type: ignore[call-overload]
        name: (field.rebuild_annotation(), Field(default=None, alias=field.alias, description=field.description))
        for name, field in TrainParams.model_fields.items()
    },
)


def augment_problem(train: TrainParams, prompt: PromptParams) -> str | None:
    """Return why examples with this prompt cannot be augmented as `train` wants it, or None."""
    if train.augment == "none":
        return None
    if prompt.schema_ in ("none", "name") or prompt.training == "bare":
        return f"augment: {train.augment} draws orders of tables, and the prompt in training shows none"
    if prompt.table_order != "given":
        return f"augment: {train.augment} draws orders of tables; takes prompt.table_order: given"
    return None


class ModelEntry(Section):
    """One model of the experiment: its title in reports, and the section that its recipe comes from."""

    title: Text
    recipe: Annotated[Text | None, Field(description="a section's name, such as train, or null for the base")] = None


LEARN = "learn."  # what the recipe of a model begins with that the table `learn` holds, by the model's name


def learn_problem(learn: Mapping[str, Any], models: Mapping[str, ModelEntry], sampled: Sequence[str]) -> str | None:
    """Return why the table `learn` and the models do not go together, or None. `sampled`: names of `sample_train`."""
    by_recipe = {name: entry.recipe for name, entry in models.items() if (entry.recipe or "").startswith(LEARN)}
    for name, recipe in by_recipe.items():
        if recipe != f"{LEARN}{name}":
            return f"models.{name}.recipe: got {recipe}, takes {LEARN}{name}"
        if name not in learn:
            return f"has no entry {name}, which models.{name}.recipe names"
    for name, entry in learn.items():
        if name not in by_recipe:
            return f"{name}: is none of `models`: takes an entry there, {name}: {{title: …, recipe: {LEARN}{name}}}"
        if entry.objective not in ("rejection", "dpo", "grpo"):
            return f"{name}.objective: got {entry.objective or 'none'}, takes rejection, dpo or grpo"
        if entry.from_ == name or entry.from_ not in sampled:
            names = ", ".join(other for other in sampled if other != name) or "none yet"
            return f"{name}.from: got {entry.from_ or 'none'}, takes another model that sample_train names: {names}"
    return None


def verifier_problem(verifier: Mapping[str, Any], others: Mapping[str, Any]) -> str | None:
    """Return why the table `verifier` does not go together with the `others` of params.yaml, or None."""
    sampled = list(others["sample_train"])
    for name, entry in verifier.items():
        if name in others.get("models", {}):
            return f"{name}: is one of `models`; takes another name"
        if entry.from_ not in sampled:
            return f"{name}.from: got {entry.from_ or 'none'}, takes a model that sample_train names: " + (
                ", ".join(sampled) or "none yet"
            )
        if entry.objective not in (None, "sft"):
            return f"{name}.objective: got {entry.objective}, takes sft: a verifier is trained on verdicts"
        if entry.augment not in (None, "none"):
            return f"{name}.augment: got {entry.augment}, takes none"
    generation = others.get("generation")
    if generation is not None and generation.choice in BY_VERIFIER and not verifier:
        return f"names none, and generation.choice: {generation.choice} chooses by one; takes {{v1: {{from: m1}}}}"
    return None


ChoiceRule = Literal["majority", "first_executable", "verifier", "weighted_majority"]
BY_VERIFIER: tuple[ChoiceRule, ...] = ("verifier", "weighted_majority")  # which need one
ChoiceTime = Literal["always", "failed"]


class GenerationParams(Section):
    """How answers are generated: greedily, and where more than one sample is drawn, by a choice among those too."""

    max_new_tokens: Positive
    batch_size: Positive
    grammar: bool = False  # only queries over the tables and columns that a database has: docs/grammar.md
    samples: SampleCount = 1
    temperature: Temperature = 0.8
    top_p: TopP = 0.95
    seed: Seed = 0
    choice: Annotated[
        ChoiceRule | None,
        Field(
            description="majority, first_executable, verifier, weighted_majority, or null for majority where there are "
            "samples"
        ),
    ] = None
    when: ChoiceTime = "always"

    @field_validator("choice", "when")
    @classmethod
    def _has_samples(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("samples") == 1 and value not in (None, "always"):
            rest = "null" if info.field_name == "choice" else "always"
            raise ValueError(f"got {value}, which chooses among samples, and generation.samples is 1: takes {rest}")
        return value

    @property
    def rule(self) -> ChoiceRule:
        """By which rule an answer is chosen among samples."""
        return self.choice or "majority"


class TrainSamplesParams(Section):
    """Which answers a tuned model is asked for to training questions, to learn from (docs/learning.md)."""

    samples: SampleCount = 8  # to each question
    temperature: Temperature = 0.8
    top_p: TopP = 0.95
    seed: Seed = 0
    limit: Limit = None  # the first so many training questions
    # 1: the model answers what it was trained on. Of more, each part of the training databases is asked of a model that
    # the same recipe trained on the other parts.
    folds: Annotated[int, NUMBER, Field(description="a whole number from 1 to 20", ge=1, le=20)] = 1


class MmluParams(Section):
    """Which questions of MMLU are asked."""

    subjects: Any  # checked by `text2sql.data.mmlu.subject_categories`
    limit: Limit
    shots: Annotated[int, BeforeValidator(_number), Field(ge=0, le=5, description="a whole number from 0 to 5")]
    batch_size: Positive
    rotations: Annotated[Literal[1, 4], NUMBER] = 1  # of the options
    chat: Annotated[list[Text], Field(description="a list of models' names, or [] for none")] = []
    chat_limit: Limit = None


class ExecutionParams(Section):
    """Limits on one query, the same for gold and predictions."""

    max_steps: Positive
    timeout_s: Above0
    max_rows: Positive
    max_megabytes: Positive


class CompareParams(Section):
    """The limits that `python -m stages.compare --gate` holds a fine-tune to."""

    max_mmlu_loss_pts: NotNegative
    min_spider_gain_pts: NotNegative
    max_export_loss_pts: NotNegative = 1  # what an export may answer worse than what was evaluated
    bootstrap_samples: Annotated[
        int, BeforeValidator(_number), Field(ge=100, description="a whole number of at least 100")
    ]
    seed: Seed


FORMATS = ("adapter", "merged", "gguf", "vllm")
ENGINES = ("transformers", "llama.cpp", "vllm")


class ExportEntry(Section):
    """One export: of which model, in which form, and what asks it in the proof (docs/export.md)."""

    model: Text
    format: Literal["adapter", "merged", "gguf", "vllm"]
    dtype: Literal["bfloat16", "float32"] = "bfloat16"  # of merged weights
    quantization: Literal["f16", "q8_0", "q4_0", "q4_k_m"] = "q8_0"  # of a GGUF file
    engine: Annotated[
        Literal["transformers", "llama.cpp", "vllm"] | None,
        Field(description=f"one of {', '.join(ENGINES)}, or null for the format's own"),
    ] = None
    questions: Limit = None  # of the evaluated ones, evenly spread
    mmlu: bool = True  # ask MMLU's questions too, where the engine gives log-likelihoods


class Params(Section):
    """All of `params.yaml`. A section of changes, such as `train_m2`, is a field where `models` names it."""

    version: Literal[2]  # VERSION
    model: ModelParams
    data: DataParams
    prompt: PromptParams
    models: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], ModelEntry],
        Field(description="a mapping of models, the base first, each with title and recipe"),
    ]
    train: TrainParams
    generation: GenerationParams
    mmlu: MmluParams
    execution: ExecutionParams
    compare: CompareParams
    export: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], ExportEntry],
        Field(description="a mapping of exports, each with model and format, or {} for none"),
    ] = {}
    sample_train: Annotated[
        dict[str, TrainSamplesParams], Field(description="a mapping of tuned models, each {samples: 8}, or {} for none")
    ] = {}
    learn: Annotated[
        dict[str, TrainChanges],  # type: ignore[valid-type]
        Field(
            description="a mapping of models, each {objective: rejection, from: m1}, or {} for none",
            validate_default=True,
        ),
    ] = {}
    verifier: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], TrainChanges],  # type: ignore[valid-type]
        Field(
            max_length=1,
            description="a mapping of one verifier, such as {v1: {from: m1}}, or {} for none",
            validate_default=True,
        ),
    ] = {}

    @field_validator("models")
    @classmethod
    def _base_first(cls, value: dict[str, ModelEntry]) -> dict[str, ModelEntry]:
        without = [name for name, entry in value.items() if entry.recipe is None]
        if len(value) < 2 or without != list(value)[:1]:
            raise ValueError("takes the base first, without a recipe, and then one model or more, each with its recipe")
        clash = name_clash(list(value))
        if clash is not None:
            raise ValueError(clash)
        return value

    @field_validator("prompt")
    @classmethod
    def _sets_ask_something_else(cls, value: PromptParams, info: ValidationInfo) -> PromptParams:
        if "data" not in info.data:  # it is wrong itself
            return value
        data: DataParams = info.data["data"]
        for name, entry in data.also.items():
            place = f"data.also.{name}"
            if entry.table_order and value.schema_ in ("none", "name"):
                raise ValueError(f"schema: {value.schema_} shows no tables, which {place}.table_order would reorder")
            if entry.spider == data.spider and (entry.table_order or value.table_order) == value.table_order:
                raise ValueError(f"{place} asks what the dev split asks: it takes other data or another table_order")
        return value

    @field_validator("train")
    @classmethod
    def _augments_what_is_shown(cls, value: TrainParams, info: ValidationInfo) -> TrainParams:
        problem = augment_problem(value, info.data["prompt"]) if "prompt" in info.data else None
        if problem:
            raise ValueError(problem)
        return value

    @field_validator("mmlu")
    @classmethod
    def _chat_names_models(cls, value: MmluParams, info: ValidationInfo) -> MmluParams:
        known = list(info.data.get("models", {}))  # empty where they are wrong themselves
        for place, name in enumerate(value.chat):
            if known and name not in known:
                raise ValueError(f"chat: got {shown(name)}, takes names of `models`: {', '.join(known)}")
            if name in value.chat[:place]:
                raise ValueError(f"chat: {name} is named twice")
        return value

    @field_validator("export")
    @classmethod
    def _export_names_models(cls, value: dict[str, ExportEntry], info: ValidationInfo) -> dict[str, ExportEntry]:
        known = list(info.data.get("models", {}))
        for name, entry in value.items():
            if known and entry.model not in known:
                raise ValueError(f"{name}.model: got {shown(entry.model)}, takes names of `models`: {', '.join(known)}")
        return value

    @field_validator("sample_train")
    @classmethod
    def _samples_name_tuned_models(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        tuned = list(info.data.get("models", {}))[1:]
        for name, entry in value.items() if tuned else ():
            if name not in tuned:
                raise ValueError(f"got {shown(name)}, takes tuned models of `models`: {', '.join(tuned)}")
            if entry.folds > 1 and (info.data["models"][name].recipe or "").startswith(LEARN):
                raise ValueError(
                    f"{name}.folds: got {entry.folds}, takes 1: {name} learns from answers itself, to questions of all "
                    "folds"
                )
        return value

    @field_validator("learn")
    @classmethod
    def _learns_from_samples(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "models" in info.data and "sample_train" in info.data:
            problem = learn_problem(value, info.data["models"], list(info.data["sample_train"]))
            if problem:
                raise ValueError(problem)
        return value

    @field_validator("verifier")
    @classmethod
    def _judges_by_samples(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        problem = verifier_problem(value, info.data) if "sample_train" in info.data else None
        if problem:
            raise ValueError(problem)
        return value

    @property
    def model_table(self) -> ModelTable:
        """The models' names and titles, the base first, and what the questions are called."""
        return ModelTable({name: entry.title for name, entry in self.models.items()}, self.data.name)

    def failing_gold_in(self, evaluation_set: str) -> FailingGold:
        """Return what becomes of examples of one of `data.also` whose gold query fails."""
        return self.data.also[evaluation_set].failing_gold or self.data.failing_gold

    def order_in(self, evaluation_set: str) -> TableOrder:
        """Return the order of a schema's tables in the prompts of one of `data.also`."""
        return self.data.also[evaluation_set].table_order or self.prompt.table_order

    def train_for(self, model: str) -> TrainParams:
        """Return the whole recipe of a tuned model. Raises UserError where `models` names no such tuned model."""
        entry = self.models.get(model)
        if entry is None or entry.recipe is None:
            raise UserError(f"models: no tuned model {model!r}; there are {', '.join(self.model_table.tuned)}")
        if entry.recipe == "train":
            return self.train
        own = self.learn[model] if entry.recipe == f"{LEARN}{model}" else getattr(self, entry.recipe)
        return self.train.model_copy(update=_set_fields(own))

    def train_for_verifier(self, name: str) -> TrainParams:
        """Return the whole recipe of a verifier: `train` with its changes, plain fine-tuning on what it is shown."""
        return self.train.model_copy(update={"augment": "none", "objective": "sft"} | _set_fields(self.verifier[name]))


def _set_fields(section: BaseModel) -> dict[str, Any]:
    return {name: getattr(section, name) for name in section.model_fields_set}


def load_params(path: str | Path = "params.yaml", older: bool = False) -> Params:
    """Return the validated params in `path`.

    `older`: a file of an earlier version, such as a result set's, is read with what was implied then. Raises UserError
    with every problem in one line: the key, what it got and what it takes.
    """
    value = read_yaml(path)
    if older:
        value = upgraded(value)
    return validate(value, path)


def validate(value: dict, path: str | Path) -> Params:
    """Return the params that a mapping read from `path` holds. Raises UserError as `load_params` does."""
    return checked(_form(value.get("models")), value, path)


def checked(form: type[Form], value: dict, path: str | Path) -> Form:
    """Return the `form` that a mapping read from `path` holds. Raises UserError as `load_params` does."""
    try:
        return form.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{path}: " + "; ".join(_problem(problem, form) for problem in error.errors())) from None


def changed(params: Params, changes: Mapping[str, Any], where: str | Path) -> Params:
    """Return `params` with other values at dotted keys, {"train.lr": 2e-4}.

    Raises UserError as `load_params` does, `where` in place of the path; an unknown key is one of its problems.
    """
    values = params.model_dump(by_alias=True, exclude_unset=True)
    for key, value in changes.items():
        *sections, last = key.split(".")
        place: Any = values
        for section in sections:
            place = place.setdefault(section, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise UserError(f"{where}: {key}: names no param")
        place[last] = value
    return validate(values, where)


def _form(models: Any) -> type[Params]:
    """Return `Params` with a field for each section of changes that `models`, as it was read, names."""
    entries = models.values() if isinstance(models, dict) else ()
    named = [entry.get("recipe") for entry in entries if isinstance(entry, dict)]
    sections = frozenset(name for name in named if isinstance(name, str) and not name.startswith(LEARN))
    return _form_with(sections - set(Params.model_fields))


@functools.cache
def _form_with(sections: frozenset[str]) -> type[Params]:
    return create_model("Params", __base__=Params, **{name: (TrainChanges, ...) for name in sections})  # type: ignore


def _problem(problem: Mapping[str, Any], form: type[BaseModel]) -> str:
    """Say one of pydantic's errors as `key: got …, takes …`."""
    location = problem["loc"]
    key = ".".join(part if isinstance(part, str) and part.isprintable() else repr(part) for part in location)
    key = key or "(top level)"
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; the keys here are {', '.join(_fields_at(form, location[:-1]))}"
    if problem["type"] == "invalid_key":
        return f"{key}: unknown key; the keys here are texts"
    if problem["type"] == "missing" and key == "version":
        return f"version: missing: a file of an earlier form; takes {VERSION} and its keys, as in recipes/"
    if problem["type"] == "missing":
        return f"{key}: missing"
    if problem["type"] == "value_error":
        return f"{key}: {problem['msg'].removeprefix('Value error, ')}"
    takes = _description(form, location)
    if takes is None and _fields_at(form, location):
        takes = "a mapping of " + ", ".join(_fields_at(form, location))
    if takes is None:
        takes = problem["msg"].replace("Input should be ", "").replace("a valid string", "a text")
    return f"{key}: got {shown(problem['input'])}, takes {takes}"


def _section_at(form: type[BaseModel], location: Sequence) -> type[BaseModel] | None:
    section: Any = form
    for part in location:
        if get_origin(section) is dict:
            section = get_args(section)[1]
        elif isinstance(section, type) and issubclass(section, BaseModel):
            fields = {field.alias or name: field for name, field in section.model_fields.items()}
            section = fields[part].annotation if part in fields else None
    return section if isinstance(section, type) and issubclass(section, BaseModel) else None


def _fields_at(form: type[BaseModel], location: Sequence) -> list[str]:
    section = _section_at(form, location)
    return [field.alias or name for name, field in section.model_fields.items()] if section else []


def _description(form: type[BaseModel], location: Sequence) -> str | None:
    section = _section_at(form, location[:-1])
    if section is None:
        return None
    for name, field in section.model_fields.items():
        if (field.alias or name) == location[-1]:
            return field.description
    return None
