"""A base model, with or without an adapter, that generates answers and scores options.

Base and tuned models pass through the same code: an adapter is loaded on top of its base with PEFT. It stays unmerged,
except on a CPU in float32, where it is merged in memory.
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from text2sql.core.errors import RunError, is_out_of_memory
from text2sql.core.journal import STRENGTH
from text2sql.core.params import ModelParams
from text2sql.data.schema import Schema
from text2sql.model.adapter_tokens import has_tokenizer
from text2sql.model.adapters import cast_adapter_to_base, check_adapter, load_adapter, scale_adapter
from text2sql.model.chat_tokens import ChatTokens
from text2sql.model.context import check_embeddings, check_prompts, context_of
from text2sql.model.loading import check_hardware, load_base, tokenizer_ahead
from text2sql.model.merging import merge_on_cpu
from text2sql.model.output_layer import multiply_batch_at_once
from text2sql.model.streams import Sampled, Sampling
from text2sql.model.whole_model import is_whole, whole_params
from text2sql.prompts.chat import NO_VARIABLES

NOT_FINITE = (
    "this model's log-likelihoods are not finite: its training diverged (try a smaller learning rate, lr), or "
    "model.dtype is too narrow for it"
)


class LanguageModel:
    """A base model, with an adapter or without, for evaluation."""

    def __init__(
        self,
        model: ModelParams,
        adapter: str | Path | None = None,
        other_base: bool = False,
        template: Mapping[str, Any] = NO_VARIABLES,
        load: Callable[[ModelParams], tuple[Any, Any]] | None = None,
        texts: Callable[[ChatTokens], Sequence[str]] | None = None,
    ) -> None:
        """Load `model`, and `adapter` (a folder in PEFT's format, safetensors only) on top of it.

        The adapter is scaled by `model.strength`. A folder with a whole model takes the place of both.
        With `other_base`, also one that was trained on another base. `template` holds the chat template's variables.
        `load` takes the place of `load_base`. `texts` returns texts whose ids will be asked for: they are tokenised
        while the weights load, where that may be.

        Raises UserError for an adapter or a base that does not load, and for a variable that the template does not
        have; RunError as `load_base` does.
        """
        self._loader = model.loader
        self.strength = 1.0 if adapter is None else model.strength  # what the adapter is scaled by
        self.halvings = 0  # how often memory ran out, and a batch was halved
        if adapter is not None and is_whole(adapter):
            model, adapter, load = whole_params(adapter, model), None, None
        if adapter is not None:
            check_adapter(adapter)  # before the base, which may take minutes to load
        early = None
        if texts and load is None and (adapter is None or not has_tokenizer(Path(adapter))):
            check_hardware(model)
            early = tokenizer_ahead(model)
        if early is not None and texts:
            self._tokens = ChatTokens(early, template)
            self._tokens.read_ahead(texts)
            load = functools.partial(load_base, tokenizer=early)
        self.model, self.tokenizer = (load or load_base)(model)
        if adapter is not None:
            self.model, self.tokenizer = load_adapter(self.model, self.tokenizer, Path(adapter), model, other_base)
            scale_adapter(self.model, Path(adapter), model.strength)
            self.model = merge_on_cpu(self.model)
        if early is None:
            self._tokens = ChatTokens(self.tokenizer, template)
        if model.loader == "unsloth":
            from unsloth import FastLanguageModel

            FastLanguageModel.for_inference(self.model)
        else:
            from text2sql.model.attention import use_grouped_attention
            from text2sql.model.fused_norm import use_fused_norms

            use_grouped_attention(self.model)
            use_fused_norms(self.model)
            multiply_batch_at_once(self.model)
            if adapter is not None:
                cast_adapter_to_base(self.model)
        self.model.eval()

    @functools.cached_property
    def _end_ids(self) -> set[int]:
        """The token that ends an answer. Raises UserError if there is none, or the model has no embedding for it."""
        check_embeddings(self.model, [[self._tokens.end_id]])
        return {self._tokens.end_id}

    @functools.cached_property
    def _cache_layers(self) -> Any:
        """The kinds of cache layers that the model makes, or None; see `library_way`."""
        from text2sql.model.library_way import MASKED, cache_layers

        return MASKED if self._loader == "unsloth" else cache_layers(self.model)

    @functools.cached_property
    def _prefill(self) -> Any:
        """Our own way to a cache, or None where the library's takes its place."""
        from text2sql.model.library_way import is_plain_attention

        if self._loader == "unsloth" or not is_plain_attention(self.model, self._cache_layers):
            return None
        from text2sql.model.prefill import Prefill

        return Prefill(self.model, self.tokenizer.pad_token_id)

    @functools.cached_property
    def _constraints(self) -> Any:
        from text2sql.model.constrained import Constraints
        from text2sql.model.token_bytes import Vocabulary

        size = self.model.get_output_embeddings().weight.shape[0]
        return Constraints(Vocabulary.of(self.tokenizer, size, self._tokens.end_id))

    @functools.cached_property
    def _library(self) -> Any:
        from text2sql.model.library_way import LibraryWay

        return LibraryWay(self.model, self.tokenizer.pad_token_id, self._cache_layers)

    @property
    def context(self) -> int | None:
        """How many tokens the model was made to read, or None if its architecture sets no limit."""
        return context_of(self.model)

    @property
    def scaled(self) -> dict[str, float]:
        """What metrics say of an adapter that is scaled, `{"strength": 0.5}`; {} of any other."""
        return {STRENGTH: self.strength} if self.strength != 1 else {}

    @property
    def device(self) -> Any:
        """The torch device that the model's inputs go to."""
        return self.model.device

    @property
    def description(self) -> str:
        """Loader, dtype, device, and the adapter's strength if it is scaled, for a log line."""
        parameter = next(self.model.parameters())
        name = str(self.device)
        if self.device.type == "cuda":
            import torch

            name = torch.cuda.get_device_name(self.device)
        is_4bit = parameter.dtype.itemsize == 1 or getattr(self.model, "is_loaded_in_4bit", False)
        return (
            f"{self._loader}, {str(self.model.dtype).removeprefix('torch.')} on {name}"
            + (", 4 bit" if is_4bit else "")
            + (f", strength {self.strength:g}" if self.strength != 1 else "")
        )

    def chat_ids(self, messages: list[dict]) -> list[int]:
        """Return the token ids of `messages` in the chat template, up to the start of the assistant's answer."""
        return self._tokens.chat_ids(messages)

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each of the plain `texts`, after the model's BOS if it has one.

        What the tokenizer puts behind a text is left away: an end token there would end the text before its answer.
        """
        return self._tokens.text_ids(texts)

    def check_prompts(self, prompts: Sequence[list[int]], new_tokens: int, change: str) -> None:
        """Raise UserError unless `prompts`, with `new_tokens` after each, fit the model; `change` says what helps."""
        check_prompts(self.model, prompts, new_tokens, change)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated `ids` without the end token; other special tokens stay, and end the SQL."""
        ids = ids[:-1] if self.has_ended(ids) else ids
        return self.tokenizer.decode(ids)

    def has_ended(self, ids: Sequence[int]) -> bool:
        """Return whether generated `ids` come to an end token, rather than to the limit."""
        return bool(ids) and ids[-1] in self._end_ids

    def generate(
        self, prompts: list[list[int]], max_new_tokens: int, schemas: Sequence[Schema] | None = None
    ) -> list[list[int]]:
        """Return the greedy continuation of each of `prompts` (token ids), up to and including its end token.

        With `schemas`, one for each prompt, it is a query over the schema's tables: `text2sql.model.constrained`. One
        batch, halved when out of memory. Raises RunError if a single prompt does not fit, and UserError for a chat
        template that ends no turn, or a tokenizer or schema that no constraint can be made of.
        """
        generate = self._generate if self._prefill else self._generate_with_library
        if schemas is None:
            return self._halving(lambda part: generate(part, max_new_tokens), prompts)

        def work(part: list[tuple[list[int], Schema]]) -> list[list[int]]:
            pick = self._constraints.pick([schema for _, schema in part])
            return generate([prompt for prompt, _ in part], max_new_tokens, pick)

        return self._halving(work, list(zip(prompts, schemas, strict=True)))

    def sample(
        self,
        prompts: list[list[int]],
        streams: Sequence[int],
        sampling: Sampling,
        max_new_tokens: int,
        schemas: Sequence[Schema] | None = None,
    ) -> list[Sampled]:
        """Return a random continuation of each of `prompts` (token ids), drawn by the stream at its place.

        Streams are of `streams.stream`. Equal prompts in a row are read once. With `schemas`, a token that the
        constraint refuses is drawn again among those that it allows; log-likelihoods are the model's own all the same.
        One batch, halved when out of memory. Raises as `generate` does, and RunError where an answer has no finite
        log-likelihood.
        """
        from text2sql.model.sampler import Sampler

        generate = functools.partial(self._generate, repeated=True) if self._prefill else self._generate_with_library

        def work(part: list[tuple[list[int], int, Schema | None]]) -> list[Sampled]:
            sampler = Sampler([row for _, row, _ in part], sampling, max_new_tokens, self.device)
            held = [schema for _, _, schema in part if schema is not None]
            pick = self._constraints.pick(held, inner=sampler) if held else sampler
            answers = generate([prompt for prompt, _, _ in part], max_new_tokens, pick)
            return list(map(Sampled, answers, sampler.log_likelihoods(list(map(len, answers)))))

        about = schemas if schemas is not None else [None] * len(prompts)
        found = self._halving(work, list(zip(prompts, streams, about, strict=True)))
        if not all(math.isfinite(answer.log_likelihood) for answer in found):
            raise RunError(NOT_FINITE)
        return found

    def option_log_likelihoods(self, prompts: list[list[int]], options: Sequence[str]) -> list[list[float]]:
        """Return for each of `prompts` (token ids) the log-likelihood (nats) of each of `options` as the next token.

        One forward pass gives all options. Raises UserError if an option is not a single token of this model, RunError
        if one has no finite log-likelihood: the model's numbers overflow.
        """
        return self.begin_option_log_likelihoods(prompts, options)()

    def begin_option_log_likelihoods(
        self, prompts: list[list[int]], options: Sequence[str]
    ) -> Callable[[], list[list[float]]]:
        """Do as `option_log_likelihoods` without waiting for a GPU; the function that is returned waits."""
        return self._begin_log_likelihoods(prompts, self._option_ids(options))

    def begin_answer_log_likelihoods(
        self, prompts: list[list[int]], answers: Sequence[str]
    ) -> Callable[[], list[list[float]]]:
        """Return a function that gives, for each of `prompts` (of `chat_ids`), how likely (nats) each of `answers` is
        to begin: the log-likelihood of its first token.

        One forward pass, for which the function waits. Raises UserError if two answers begin alike; the function
        raises RunError as `option_log_likelihoods` does.
        """
        return self._begin_log_likelihoods(prompts, self._tokens.first_ids(answers))

    def _begin_log_likelihoods(self, prompts: list[list[int]], ids: list[int]) -> Callable[[], list[list[float]]]:
        parts = self._halving(lambda part: [self._log_likelihoods(part, ids)], prompts)
        return lambda: [row for part in parts for row in _read_log_likelihoods(part)]

    def _option_ids(self, options: Sequence[str]) -> list[int]:
        return self._tokens.option_ids(options)

    def _log_likelihoods(self, prompts: list[list[int]], option_ids: list[int]) -> Any:
        import torch

        with torch.inference_mode():
            logits = self._prefill.logits(prompts) if self._prefill else self._library.last_logits(prompts)
            return torch.log_softmax(logits.float(), dim=-1)[:, option_ids]

    def _generate(
        self, prompts: list[list[int]], max_new_tokens: int, pick: Any = None, repeated: bool = False
    ) -> list[list[int]]:
        """Return what `pick` makes of each of `prompts`; with `repeated`, equal ones in a row are read once."""
        import torch

        from text2sql.model.decoding import decode
        from text2sql.model.picking import GREEDY

        end_ids = self._end_ids  # before the first pass: there may be none
        with torch.inference_mode():
            if not repeated:
                return decode(self.model, self._prefill(prompts), max_new_tokens, end_ids, pick or GREEDY)
            runs = [(prompt, len(list(equal))) for prompt, equal in itertools.groupby(prompts)]
            prefilled = self._prefill([prompt for prompt, _ in runs]).repeated([count for _, count in runs])
            return decode(self.model, prefilled, max_new_tokens, end_ids, pick or GREEDY)

    def _generate_with_library(
        self, prompts: list[list[int]], max_new_tokens: int, pick: Any = None
    ) -> list[list[int]]:
        import torch

        from text2sql.model.decoding import up_to_end
        from text2sql.model.picking import GREEDY

        with torch.inference_mode():
            rows = self._library.generate(prompts, max_new_tokens, sorted(self._end_ids), pick or GREEDY)
        return [up_to_end(row, self._end_ids) for row in rows]

    def _halving(self, work: Callable[[list], list], prompts: list) -> list:
        """Return `work(prompts)`, computed in halves when out of memory."""
        import torch

        from text2sql.model.decoding import release

        try:
            return work(prompts)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if len(prompts) == 1:
                raise RunError("one prompt does not fit into memory; try model.quantization: 4bit on a GPU") from None
        # Outside the except block, where no traceback holds the tensors of the failed attempt.
        release(self.model)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.halvings += 1
        middle = len(prompts) // 2
        print(f"Out of memory at a batch of {len(prompts)}: going on with {middle}", flush=True)
        return self._halving(work, prompts[:middle]) + self._halving(work, prompts[middle:])


def _read_log_likelihoods(values: Any) -> list[list[float]]:
    if not values.isfinite().all():
        raise RunError(NOT_FINITE)
    return [[round(value, 6) for value in row] for row in values.tolist()]
