"""Texts and token ids of one model, without its weights: prompts in, and where an answer ends."""

import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.params import ModelParams
from text2sql.core.startup import in_background
from text2sql.model.adapter_tokens import adapter_tokenizer
from text2sql.model.loading import load_tokenizer
from text2sql.model.whole_model import is_whole, whole_params
from text2sql.prompts.chat import NO_VARIABLES, assistant_turn, chat_text, check_variables


class ChatTokens:
    """A tokenizer with the variables of its chat template."""

    def __init__(self, tokenizer: Any, template: Mapping[str, Any] = NO_VARIABLES) -> None:
        """Raises UserError for a variable that the template does not have."""
        check_variables(tokenizer, template)
        self.tokenizer, self.template = tokenizer, template
        self._ahead: Future[dict[str, list[int]]] | None = None

    @classmethod
    def of(cls, model: ModelParams, adapter: Path | None, template: Mapping[str, Any] = NO_VARIABLES) -> "ChatTokens":
        """Return those that `LanguageModel` has for the same arguments. Raises UserError as it does."""
        if adapter is not None and is_whole(adapter):
            model, adapter = whole_params(adapter, model), None
        tokenizer = load_tokenizer(model)
        return cls(tokenizer if adapter is None else adapter_tokenizer(tokenizer, adapter), template)

    @functools.cached_property
    def end_id(self) -> int:
        """The token that ends an answer: where the chat template ends a turn, as in training, whatever else names one.

        Raises UserError if there is none.
        """
        return assistant_turn(self.tokenizer, self.template).end_id

    def chat_text(self, messages: list[dict]) -> str:
        """Return the text of `messages` in the chat template, up to the start of the assistant's answer."""
        return chat_text(self.tokenizer, messages, True, self.template)

    def chat_ids(self, messages: list[dict]) -> list[int]:
        """Return the token ids of `messages` in the chat template, up to the start of the assistant's answer."""
        return self._ids(self.chat_text(messages))

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each of the plain `texts`, after the model's BOS if it has one.

        What the tokenizer puts behind a text is left away: an end token there would end the text before its answer.
        """
        ids = self._ids(list(texts))
        return [[*self._start_ids, *text] for text in ids]

    def read_ahead(self, texts: "Callable[[ChatTokens], Sequence[str]]") -> None:
        """Begin to tokenise `texts(self)` in the background, all in one go; who asks for one of them later waits.

        Until then nothing else is asked: a tokenizer that is being changed cannot be read. What `texts` raises comes
        when the first ids are asked for.
        """
        tokenizer = self.tokenizer

        def read() -> dict[str, list[int]]:
            found = list(texts(self))
            return dict(zip(found, ids_of(tokenizer, found), strict=True))

        ids_of(tokenizer, ["Answer:"])  # what the tokenizer imports on first use, it imports here
        self._ahead = in_background(read)

    def option_ids(self, options: Sequence[str]) -> list[int]:
        """Return the token of each of `options` after "Answer:". Raises UserError if one is more than one token."""
        before = self._ids("Answer:")
        ids = []
        for option in options:
            whole = self._ids("Answer:" + option)
            if whole[:-1] != before:
                raise UserError(f"model.base: {option!r} is not one token of this model, which MMLU's scoring needs")
            ids.append(whole[-1])
        return ids

    def first_ids(self, answers: Sequence[str]) -> list[int]:
        """Return the token that an assistant's turn begins with which gives each of `answers`, as in training.

        Raises UserError where two begin with the same token: the next token does not tell them apart.
        """
        turn = assistant_turn(self.tokenizer, self.template)
        prompt = self.chat_text([{"role": "user", "content": "How many?"}])
        asked = self._ids(prompt)
        firsts = []
        for answer in answers:
            completion = turn.completion(answer)
            whole = self._ids(prompt + completion)
            firsts.append(whole[len(asked)] if whole[: len(asked)] == asked else self._ids(completion)[0])
        if len(set(firsts)) < len(firsts):
            raise UserError(f"model.base: answers of {' or '.join(answers)} begin with one and the same token")
        return firsts

    def _ids(self, text: Any) -> Any:
        """Return the token ids of a text, or of each of a list of texts, without what a tokenizer adds around them."""
        texts = [text] if isinstance(text, str) else text
        known = self._ahead.result() if self._ahead else {}
        if all(one in known for one in texts):
            ids = [list(known[one]) for one in texts]
        else:
            ids = ids_of(self.tokenizer, texts)
        return ids[0] if isinstance(text, str) else ids

    @functools.cached_property
    def _start_ids(self) -> list[int]:
        """What the tokenizer itself puts before a text."""
        bare = self.tokenizer("Answer:", add_special_tokens=False)["input_ids"]
        whole = self.tokenizer("Answer:")["input_ids"]
        starts = range(len(whole) - len(bare) + 1)
        return whole[: next((start for start in starts if whole[start : start + len(bare)] == bare), 0)]


def ids_of(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each of `texts` as they stand; long beginnings that neighbours share are read once.

    A tokenizer of byte pairs first cuts a text into words, by rules that look at what lies ahead, never back. Between a
    letter or digit and a line's end they cut whatever else there is, so that both sides can be read alone. Each
    beginning is tried on one whole text; where one disagrees, all texts are read whole.
    """
    places = _shared_beginnings(texts) if len(texts) > MANY and _reads_words(tokenizer) else {}
    if not places:
        return _read(tokenizer, texts)
    tried: dict[str, int] = {}  # a text of each beginning
    for position, cut in places.items():
        tried.setdefault(texts[position][:cut], position)
    rests = [text[places.get(position, 0) :] for position, text in enumerate(texts)]
    found = _read(tokenizer, [*tried, *(texts[position] for position in tried.values()), *rests])
    begun, wholes, ids = dict(zip(tried, found, strict=False)), found[len(tried) :], found[2 * len(tried) :]
    for (beginning, position), whole in zip(tried.items(), wholes, strict=False):
        if begun[beginning] + ids[position] != whole:
            return _read(tokenizer, texts)
    return [
        begun[texts[position][: places[position]]] + rest if position in places else rest
        for position, rest in enumerate(ids)
    ]


def _read(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each of `texts`, by all cores at once."""
    if not texts:
        return []
    # Not verbose: `check_prompts` says in one line what is too long, and what to change.
    return tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]


# A beginning is read apart if it has so many characters, and so many texts share it.
LONG, MANY = 400, 4
_LINE_ENDS = re.compile(r"[A-Za-z0-9]\n")


def _shared_beginnings(texts: Sequence[str]) -> dict[int, int]:
    """Return for each text that shares a long beginning with its neighbours where to cut it."""
    places: dict[int, int] = {}
    start = 0
    while start < len(texts):
        shared, end = len(texts[start]), start + 1
        while end < len(texts):
            alike = texts[end].startswith(texts[start][:shared])
            common = shared if alike else len(os.path.commonprefix([texts[start][:shared], texts[end]]))
            if common < LONG or (end - start >= MANY and common < shared // 2):
                break  # another group
            shared, end = common, end + 1
        ends = [found.start() + 1 for found in _LINE_ENDS.finditer(texts[start], 0, shared)]
        if end - start >= MANY and ends and ends[-1] >= LONG:
            places |= dict.fromkeys(range(start, end), ends[-1])
        start = end
    return places


def _reads_words(tokenizer: Any) -> bool:
    """Whether `tokenizer` merges byte pairs within words that rules cut, and at most composes characters before."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or type(backend.model).__name__ != "BPE" or backend.pre_tokenizer is None:
        return False
    change = backend.normalizer
    return change is None or type(change).__name__ == "NFC" or (type(change).__name__ == "Sequence" and not len(change))
