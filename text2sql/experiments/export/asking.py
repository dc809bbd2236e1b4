"""The export asked by an engine, and the adapter asked itself: answers as texts, in the order of the questions."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text2sql.core.digests import digest_of, digest_of_tree
from text2sql.core.errors import UserError
from text2sql.core.files import read_object, user_cache, write_json
from text2sql.evaluation.answering import opened_by
from text2sql.experiments.export.engines import Asked as Said
from text2sql.experiments.export.engines import Engine, ask, run_worker
from text2sql.experiments.export.evaluated import Asked, Evaluated, Machine
from text2sql.experiments.export.write import GGUF, max_lora_rank
from text2sql.model.adapters import CONFIG
from text2sql.model.dtypes import torch_dtype
from text2sql.model.loading import as_loaded, base_source
from text2sql.model.run_key import weights_and_runtime

CODE = Path(__file__).parents[2]  # all of text2sql/
_ROOM = 256  # an engine's context is a multiple of this
_OWN = [sys.executable, "-m", "text2sql.experiments.export.own_answers"]


@dataclass(frozen=True)
class EngineAnswers:
    """An engine's answers as texts, what it said of itself, and what it computed on."""

    texts: list[str]
    said: Said
    used: Machine


def ask_engine(engine: Engine, case: Evaluated, base: str | None) -> EngineAnswers:
    """Ask `engine` all questions; an adapter is loaded on `base` in place of its own where one is named.

    Raises RunError where the engine reads other token ids than were evaluated, or ends.
    """
    # By database, whose schema the prompts share: an engine that keeps what it has read reads it once.
    order = sorted(range(len(case.asked)), key=lambda position: (case.asked[position].example.db_id, position))
    in_order = [case.asked[position] for position in order]
    shown = [f"question {one.example.index} ({one.example.question!r:.60})" for one in in_order]
    said = ask(engine, _job(case, in_order, base), shown)
    ids = dict(zip(order, said.answers, strict=True))
    ends = {case.tokens.end_id, *said.also_stop}
    texts = [_text(ids[position], one, case, ends) for position, one in enumerate(case.asked)]
    return EngineAnswers(texts, said, Machine(_computed_in(said.dtype), said.device))


def _job(case: Evaluated, asked: Sequence[Asked], base: str | None) -> dict[str, Any]:
    import torch

    on = case.model if base is None else case.model.model_copy(update={"base": base, "revision": None})
    record, prompt, mmlu = case.record, case.prompt, case.mmlu
    is_adapter = record.form == "adapter"
    longest = max(len(one.ids) for one in asked) + prompt.max_new_tokens
    longest = max([longest, *(len(ids) + 1 for ids in mmlu.prompts)] if mmlu else [longest])
    return {
        "folder": str(case.folder.resolve()),
        "file": str((case.folder / GGUF).resolve()),
        "base": base_source(on) if is_adapter else None,
        "revision": on.revision,
        "in_4bit": on.quantization == "4bit" and base is None,
        "max_lora_rank": max_lora_rank(read_object(case.folder / CONFIG, {"r": int})["r"]) if is_adapter else 0,
        "dtype": str(torch_dtype(case.model.dtype)).removeprefix("torch.") if is_adapter else record.dtype,
        "context": -(-longest // _ROOM) * _ROOM,
        "threads": torch.get_num_threads(),  # OMP_NUM_THREADS holds for all engines
        "variables": dict(prompt.variables),
        "messages": [one.messages for one in asked],
        "expected": [one.ids for one in asked],
        "end_id": prompt.end_id,
        "max_new_tokens": prompt.max_new_tokens,
        "batch_size": case.params.generation.batch_size,
        "mmlu": {"prompts": mmlu.prompts if mmlu else [], "options": mmlu.options if mmlu else []},
    }


def _computed_in(dtype: str) -> str:
    """Return the dtype that an engine computes in: llama.cpp multiplies by float32, whatever a file holds."""
    return dtype if dtype in ("float32", "bfloat16", "float16") else "float32"


def _text(ids: list[int], one: Asked, case: Evaluated, ends: set[int]) -> str:
    """Return an answer's text as evaluation has it: what the template opened, and no end token."""
    tokenizer = case.tokens.tokenizer
    return opened_by(tokenizer, one.ids) + tokenizer.decode(ids[:-1] if ids and ids[-1] in ends else ids)


def ask_adapter(case: Evaluated, dtype: str | None, say: Callable[[str], object] = lambda text: None) -> list[str]:
    """Return the adapter's own answers by transformers on this machine, in `dtype`; `say` is told whether it is asked.

    They are kept in the user's cache: all exports of one model are held against the same.
    """
    model = case.model.model_copy(update={"dtype": dtype})
    job = {
        "model": model.model_dump(),
        "variables": dict(case.tokens.template),
        "prompts": [one.ids for one in case.asked],
        "batch_size": case.params.generation.batch_size,
        "max_new_tokens": case.prompt.max_new_tokens,
    }
    depends = [job, case.record.adapter, digest_of_tree(CODE), weights_and_runtime(model, as_loaded(model))]
    kept = user_cache() / "own_answers" / f"{digest_of(depends)}.json"
    try:
        answers = read_object(kept, {"answers": list})["answers"]
        say(f"the adapter itself was asked before, in {dtype}")
    except UserError:
        say(f"asking the adapter itself, in {dtype}: the scored answers are in {case.scored}")
        found = run_worker(_OWN, {**job, "adapter": str(case.adapter) if case.adapter else None}, "the adapter itself")
        ids = {record["position"]: record["ids"] for record in found}
        answers = [ids[position] for position in range(len(case.asked))]
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
            write_json(kept, {"answers": answers})
    return [_text(ids, one, case, {case.tokens.end_id}) for ids, one in zip(answers, case.asked, strict=True)]
