"""What the benchmarks work on: questions, prompts, models with an adapter that changes something."""

import argparse
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import text2sql
from benchmarks.machine import dtype_name
from testkit.random_models import source_folder
from text2sql.core.params import ModelParams, Params, load_params
from text2sql.data.schema import Schema, schema_from_sqlite
from text2sql.data.spider import open_spider
from text2sql.model.bases import EMBEDDED_BASE
from text2sql.prompts.messages import FewShot, load_few_shot, spider_messages

REPOSITORY = Path(__file__).parent.parent
SAMPLE_SPIDER = REPOSITORY / "data" / "sample" / "spider"
SAMPLE_MMLU = REPOSITORY / "data" / "sample" / "mmlu"
FEW_SHOT = REPOSITORY / "data" / "few_shot.json"


def params() -> Params:
    """Return the experiment's params, of the build that is measured (`measuring.of_build`)."""
    return load_params(Path(text2sql.__file__).parents[1] / "params.yaml")


def model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which model is measured."""
    parser.add_argument("--model", default=EMBEDDED_BASE, metavar="BASE", help="a carried base, or a local folder")
    parser.add_argument("--quantization", choices=["none", "4bit"], default="none")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], help="default: bfloat16 on a GPU")


def numbers(text: str) -> list[int]:
    """Return the numbers of an option such as `8,16,32`."""
    return [int(part) for part in text.split(",")]


def model_params(base: str, quantization: str = "none", dtype: str | None = None, loader: str = "transformers") -> Any:
    """Return ModelParams of `base`."""
    return ModelParams(base=str(base), loader=loader, quantization=quantization, dtype=dtype or dtype_name())


def model_name(base: str, quantization: str) -> str:
    """Return what the model is called in results."""
    name = "SmolLM2-135M" if base == EMBEDDED_BASE else Path(base).name
    return name + (", 4 bit" if quantization == "4bit" else "")


def spider_questions(
    path: str | Path, count: int, split: str = "dev"
) -> tuple[list[tuple[str, str, str, int]], dict[str, Schema]]:
    """Return `count` tuples (db_id, question, query, round) of a split, and the schemas.

    A smaller split is repeated, its questions numbered so that no two are alike.
    """
    with open_spider(path) as source, tempfile.TemporaryDirectory() as folder:
        examples = source.examples(split)
        known = source.database_ids()
        examples = [example for example in examples if example.db_id in known][:count]
        schemas = {}
        for db_id in {example.db_id for example in examples}:
            file = Path(folder) / f"{db_id}.sqlite"
            source.extract_database(db_id, file)
            schemas[db_id] = schema_from_sqlite(file, db_id)
    rounds = itertools.cycle(examples)
    questions = []
    for number, example in zip(range(count), rounds):
        again = number // len(examples)
        text = example.question if again == 0 else f"({again + 1}) {example.question}"
        questions.append((example.db_id, text, example.query, again))
    return questions, schemas


def spider_prompts(
    model: Any, path: str | Path, count: int, schema: str, few_shot: int
) -> tuple[list[list[int]], list[FewShot]]:
    """Return the token ids of `count` prompts as the stage `predict_spider` makes them."""
    shots = load_few_shot(FEW_SHOT, few_shot)
    questions, schemas = spider_questions(path, count)
    prompts = [
        model.chat_ids(spider_messages(question, schemas[db_id], schema, shots)) for db_id, question, _, _ in questions
    ]
    return prompts, shots


def plain_base(model: ModelParams) -> tuple[Any, Any]:
    """Return base and tokenizer as anyone loads them with transformers, untouched by this project."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    source = source_folder(model.base)
    dtype = getattr(torch, model.dtype)
    options: dict[str, Any] = {}
    if model.quantization == "4bit" and not hasattr(AutoConfig.from_pretrained(source), "quantization_config"):
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    if torch.cuda.is_available():
        options["device_map"] = {"": torch.cuda.current_device()}
    base = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **options).eval()
    tokenizer = AutoTokenizer.from_pretrained(source)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return base, tokenizer


def plain_model(model: ModelParams, adapter: Path | None) -> tuple[Any, Any]:
    """Return the plain base with `adapter` on it, unmerged, and its tokenizer."""
    base, tokenizer = plain_base(model)
    if adapter is None:
        return base, tokenizer
    from peft import PeftModel

    return PeftModel.from_pretrained(base, str(adapter)).eval(), tokenizer


def end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Return all tokens that end an answer."""
    configured = model.generation_config.eos_token_id
    configured = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in (*configured, tokenizer.eos_token_id) if token is not None})


def generate_batch(
    model: Any, prompts: Sequence[list[int]], new_tokens: int, ends: Sequence[int], pad: int
) -> list[list[int]]:
    """Return greedy continuations by transformers' own `generate`, padded on the left, each up to its end token."""
    import torch

    from text2sql.model.decoding import up_to_end

    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    with torch.inference_mode():
        sequences = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=list(ends) or None,
            pad_token_id=pad,
        )
    return [up_to_end(row, set(ends)) for row in sequences[:, width:].tolist()]


def in_batches(prompts: Sequence[list[int]], size: int, answer: Any) -> list:
    """Return `answer(batch)` for batches of `size` prompts, the longest first, in the order of `prompts`."""
    order = sorted(range(len(prompts)), key=lambda position: -len(prompts[position]))
    found: list = [None] * len(prompts)
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        for position, one in zip(batch, answer([prompts[position] for position in batch]), strict=True):
            found[position] = one
    return found


def spread(prompts: Sequence[list[int]], count: int) -> list[int]:
    """Return `count` positions that stand for all: evenly spread over the prompts as sorted by length."""
    order = sorted(range(len(prompts)), key=lambda position: len(prompts[position]))
    count = min(count, len(order))
    return sorted(order[int((index + 0.5) * len(order) / count)] for index in range(count))


def sizes(base: str, quantization: str, dtype: str) -> dict[str, float]:
    """Return parameters that multiply each token (`body`), those of the output (`head`), and bytes of a token's cache.

    A parameter takes the bytes of `dtype`, or about half a byte in 4 bit.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(source_folder(base))
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    embedding = model.get_input_embeddings().weight.numel()
    total = sum(parameter.numel() for parameter in model.parameters())
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight or config.tie_word_embeddings
    body = total - embedding - (0 if tied else embedding)
    width = getattr(torch, dtype).itemsize
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return {
        "body": body,
        "head": embedding,
        "weight_bytes": body * (0.5 if quantization == "4bit" else width) + embedding * width,
        "cache_bytes_per_token": 2 * config.num_hidden_layers * config.num_key_value_heads * head_size * width,
    }
