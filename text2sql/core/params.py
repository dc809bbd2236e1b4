"""The one typed view of `params.yaml`.

Read with ruamel (YAML 1.2), since PyYAML reads the `2e-08` that DVC writes as a string. An unknown key, a wrong
type or an impossible value is refused before anything slow starts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from text2sql.core.errors import UserError, shown

SAMPLE_SPIDER = "data/sample/spider"
SAMPLE_MMLU = "data/sample/mmlu"
EMBEDDED_BASE = "smollm2-135m-instruct"


def _number(value: Any) -> Any:
    """Let a number through however YAML or a command line wrote it: `2e-8`, `2E-08`, `"2e-8"`, `8.0` for 8."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _takes(number_type: type, description: str, **bounds: float) -> Any:
    return Annotated[number_type, BeforeValidator(_number), Field(description=description, **bounds)]


Seed = _takes(int, "a whole number from 0 to 2**32 - 1", ge=0, le=2**32 - 1)
LearningRate = _takes(float, "a number above 0 and at most 1", gt=0, le=1, allow_inf_nan=False)
Positive = _takes(int, "a whole number from 1 to 10**12", ge=1, le=10**12)
Count = _takes(int, "a whole number from 0 to 1000", ge=0, le=1000)
Share = _takes(float, "a number from 0 to below 1", ge=0, lt=1, allow_inf_nan=False)
NotNegative = _takes(float, "a number of at least 0", ge=0, allow_inf_nan=False)
Above0 = _takes(float, "a number above 0 and at most 1000000", gt=0, le=1_000_000)
Limit = Annotated[
    Annotated[int, Field(ge=1)] | None,
    BeforeValidator(_number),
    Field(description="a whole number of at least 1, or null for all"),
]
_LINE = r"^[^\x00-\x1f]*[^\x00-\x20][^\x00-\x1f]*$"
Text = Annotated[str, Field(pattern=_LINE, description="one line of text, not empty")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ModelParams(_Section):
    """Which base model, and how it is loaded."""

    base: Text
    revision: Annotated[Text | None, Field(description="a revision of the hub's repository, or null")] = None
    loader: Literal["transformers", "unsloth"]
    quantization: Literal["none", "4bit"]
    dtype: Literal["auto", "float32", "bfloat16", "float16"]

    @field_validator("revision")
    @classmethod
    def _embedded_base_has_none(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("base") == EMBEDDED_BASE:
            raise ValueError(f"got {value!r}, takes null: the embedded base {EMBEDDED_BASE} has no revisions")
        return value


class DataParams(_Section):
    """Where the raw benchmarks lie, and how much of them is used."""

    spider: Text
    mmlu: Text
    train_limit: Limit
    dev_limit: Limit


class PromptParams(_Section):
    """What the model is told besides the question (the paper: nothing; its section III.D mends that)."""

    schema_: Annotated[Literal["none", "name", "tables", "ddl"], Field(alias="schema")]
    few_shot: Count
    few_shot_file: Text
    training: Literal["evaluation", "zero_shot", "bare"]


class LoraParams(_Section):
    """The adapter's shape (the paper's Table I)."""

    r: Positive
    alpha: Positive
    dropout: Share
    target_modules: Annotated[list[Text], Field(min_length=1, description="a list of module names")]


class TrainParams(_Section):
    """Model 1's recipe (the paper's Table I, first column)."""

    lr: LearningRate
    epochs: Above0
    batch_size: Positive
    grad_accum: Positive
    optim: Literal["adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "sgd"]
    seed: Seed
    scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup"]
    warmup: Annotated[
        float,
        BeforeValidator(_number),
        Field(ge=0, description="a share of all steps below 1, or a number of steps", allow_inf_nan=False),
    ]
    weight_decay: NotNegative
    max_seq_len: Annotated[int, BeforeValidator(_number), Field(ge=8, description="a whole number of at least 8")]
    checkpoint_minutes: Above0
    lora: LoraParams

    @field_validator("warmup")
    @classmethod
    def _share_or_steps(cls, value: float) -> float:
        if value > 1 and not value.is_integer():
            raise ValueError(f"got {value}, takes a share of all steps below 1, or a whole number of steps")
        return value


class TrainM2Params(_Section):
    """What Model 2 changes of Model 1's recipe (the paper's Table I, second column)."""

    lr: LearningRate
    epochs: Above0
    batch_size: Positive
    seed: Seed


class GenerationParams(_Section):
    """How answers are generated: greedily, always."""

    max_new_tokens: Positive
    batch_size: Positive


class MmluParams(_Section):
    """Which questions of MMLU are asked."""

    subjects: Any  # checked by `text2sql.data.mmlu.subject_categories`
    limit: Limit
    shots: Annotated[int, BeforeValidator(_number), Field(ge=0, le=5, description="a whole number from 0 to 5")]
    batch_size: Positive


class ExecutionParams(_Section):
    """Limits on one query, the same for gold and predictions."""

    max_steps: Positive
    timeout_s: Above0
    max_rows: Positive
    max_megabytes: Positive


class CompareParams(_Section):
    """The limits that `python -m stages.compare --gate` holds a fine-tune to."""

    max_mmlu_loss_pts: NotNegative
    min_spider_gain_pts: NotNegative
    bootstrap_samples: Annotated[
        int, BeforeValidator(_number), Field(ge=100, description="a whole number of at least 100")
    ]
    seed: Seed


class Params(_Section):
    """All of `params.yaml`."""

    model: ModelParams
    data: DataParams
    prompt: PromptParams
    train: TrainParams
    train_m2: TrainM2Params
    generation: GenerationParams
    mmlu: MmluParams
    execution: ExecutionParams
    compare: CompareParams

    def train_for(self, model: str) -> TrainParams:
        """Return the whole recipe of `m1` or `m2`."""
        if model == "m1":
            return self.train
        return self.train.model_copy(update=self.train_m2.model_dump())


def read_yaml(path: str | Path, own: bool = False) -> dict:
    """Return the mapping that the YAML file `path` holds. Raises UserError where it is missing or something else.

    `own`: a program wrote the file for this project, and ruamel's parser in C may read it, which is faster.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        # ruamel's parser in C says less of what is wrong, and a file nested deeply enough ends the process.
        value = YAML(typ="safe", pure=not own).load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, wanted a YAML file") from None
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {' '.join(str(error.problem).split())}") from None
    except (YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: found {shown(value)}, wanted a mapping of sections")
    return value


def load_params(path: str | Path = "params.yaml") -> Params:
    """Return the validated params in `path`.

    Raises UserError with every problem in one line: the key, what it got and what it takes.
    """
    return validate(read_yaml(path), path)


def validate(value: dict, path: str | Path) -> Params:
    """Return the params that a mapping read from `path` holds. Raises UserError as `load_params` does."""
    try:
        return Params.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{path}: " + "; ".join(_problem(problem) for problem in error.errors())) from None


def _problem(problem: dict) -> str:
    """Say one of pydantic's errors as `key: got …, takes …`."""
    location = problem["loc"]
    key = ".".join(part if isinstance(part, str) and part.isprintable() else repr(part) for part in location)
    key = key or "(top level)"
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; the keys here are {', '.join(_fields_at(location[:-1]))}"
    if problem["type"] == "invalid_key":
        return f"{key}: unknown key; the keys here are texts"
    if problem["type"] == "missing":
        return f"{key}: missing"
    if problem["type"] == "value_error":
        return f"{key}: {problem['msg'].removeprefix('Value error, ')}"
    takes = _description(location)
    if takes is None and _fields_at(location):
        takes = "a mapping of " + ", ".join(_fields_at(location))
    if takes is None:
        takes = problem["msg"].replace("Input should be ", "").replace("a valid string", "a text")
    return f"{key}: got {shown(problem['input'])}, takes {takes}"


def _section_at(location: Sequence) -> type[BaseModel] | None:
    section: Any = Params
    for part in location:
        fields = {field.alias or name: field for name, field in section.model_fields.items()}
        field = fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return None
        section = field.annotation
    return section


def _fields_at(location: Sequence) -> list[str]:
    section = _section_at(location)
    return [field.alias or name for name, field in section.model_fields.items()] if section else []


def _description(location: Sequence) -> str | None:
    section = _section_at(location[:-1])
    if section is None:
        return None
    for name, field in section.model_fields.items():
        if (field.alias or name) == location[-1]:
            return field.description
    return None
