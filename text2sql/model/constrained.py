"""Constrained decoding: each row of a batch answers with a query over its own schema, or not at all.

Two things judge a token: the schema's grammar (`text2sql.prompts.grammar`), by llguidance, and the tables of each
SELECT (`text2sql.prompts.scope`). What is picked without constraint comes first and is only checked, which takes some
15 microseconds. Where it is refused, the mask of the grammar is computed, for all such rows of the step in threads, and
the pick is made again under the mask. So an answer that the constraint accepts is never changed, token by token.
"""

import codecs
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from text2sql.core.errors import UserError
from text2sql.data.schema import Schema
from text2sql.model.picking import GREEDY, ReplaceablePick
from text2sql.model.token_bytes import Vocabulary
from text2sql.prompts.grammar import sql_grammar
from text2sql.prompts.scope import Names, columns_of

# How many tokens that the grammar allows are picked, one after the other, which name what a SELECT does not have. After
# so many the most likely that does not is taken, of the next ones; where there is none among them either, the rest of
# the answer is held to the grammar alone. Rare: a FROM that no further table can mend.
MOST_PICKS, MOST_LOOKED_AT = 20, 16_384
MOST_COMPILED = 256  # schemas
MOST_PLACES = 2**16  # that are kept of a schema
MOST_THREADS = 16


class Constraints:
    """Makes the picks of a model's constrained batches; keeps the compiled grammars of the last schemas."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Raises UserError where llguidance is not installed."""
        try:
            from llguidance import LLExecutor, LLTokenizer
        except ImportError:
            raise UserError("generation.grammar: needs the package llguidance, of the extra `train`") from None
        self.bytes_of, self.end_id = vocabulary.tokens, vocabulary.eos_token_id
        self.tokens = LLTokenizer(vocabulary)  # type: ignore[arg-type]  # it reads attributes, of any class
        self.executor = LLExecutor(min(os.cpu_count() or 1, MOST_THREADS))
        self._compiled: OrderedDict[Schema, _Judged] = OrderedDict()

    @classmethod
    def of_texts(cls) -> "Constraints":
        """Return constraints that judge texts: each byte is a token, and there is no model."""
        tokens = [bytes([number]) for number in range(256)] + [b"<|end|>"]
        return cls(Vocabulary(tokens, [256], 256, len(tokens), lambda text: list(text.encode())))

    def accepts(self, answer: str, schema: Schema) -> bool:
        """Return whether `answer` may be given about `schema`. For constraints of texts; raises as `row` does."""
        row = self.row(schema)
        return all(map(row.take, answer.encode())) and row.take(self.end_id)

    def row(self, schema: Schema) -> "Row":
        """Return the state of an answer about `schema` at its beginning.

        Raises UserError for a schema that no grammar can be made of.
        """
        if schema not in self._compiled:
            self._compiled[schema] = _Judged(self._compile(schema), schema)
            if len(self._compiled) > MOST_COMPILED:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(schema)
        return Row(self, self._compiled[schema])

    def pick(self, schemas: Sequence[Schema], inner: ReplaceablePick = GREEDY) -> "Constrained":
        """Return the pick of a batch whose rows are asked about `schemas`; `inner` chooses among what is allowed."""
        return Constrained(self, [self.row(schema) for schema in schemas], inner)

    def _compile(self, schema: Schema) -> Any:
        from llguidance import LLMatcher

        matcher = LLMatcher(self.tokens, sql_grammar(schema), log_level=0)
        if matcher.is_error():
            reason = " ".join(matcher.get_error().split())
            raise UserError(f"generation.grammar: the schema of {schema.db_id} gives no grammar: {reason:.200}")
        return matcher


class _Place:
    """Where answers about one schema have come to: the state of their names, and what was judged of further tokens."""

    __slots__ = ("decoder", "names", "next")

    def __init__(self, names: Names | None, decoder: Any) -> None:
        self.names = names  # None: held to the grammar alone
        self.decoder = decoder  # a token may end amid a character
        self.next: dict[int, _Place | None] = {}  # by token; None: it is refused


class _Judged:
    """A schema's compiled grammar, and the places that answers about it have come to, from the `beginning` on.

    Samples of a question begin alike, and so do questions about one database: what they share is judged once.
    """

    def __init__(self, matcher: Any, schema: Schema) -> None:
        self.matcher = matcher
        self.beginning = _Place(Names(columns_of(schema)), codecs.getincrementaldecoder("utf-8")(errors="ignore"))
        self.places = 1

    def keep(self, place: _Place, token: int, after: _Place | None) -> None:
        if self.places < MOST_PLACES:
            self.places += 1
            place.next[token] = after


class Row:
    """How far one answer has come."""

    def __init__(self, constraints: Constraints, judged: _Judged) -> None:
        self._constraints, self._judged, self._place = constraints, judged, judged.beginning
        self._free = False  # the grammar's own limits were reached: held to nothing
        self._matcher = judged.matcher.deep_copy()
        self._waiting: list[int] = []  # tokens that were judged before, and that the matcher has yet to see
        self.ended = False

    @property
    def matcher(self) -> Any:
        """The state of the grammar."""
        if self._waiting:
            self._matcher.try_consume_tokens(self._waiting)
            self._waiting = []
        return self._matcher

    def take(self, token: int) -> bool:
        """Append `token` if the answer can go on with it, or end by it; return whether it can."""
        place = self._place
        if token in place.next and not self._free:
            after = place.next[token]
            if after is not None and token != self._constraints.end_id:
                self._waiting.append(token)
        else:
            after = self._judge(token)
            if not self._free:
                self._judged.keep(place, token, after)
        if after is None:
            return False
        self._place, self.ended = after, token == self._constraints.end_id
        return True

    def _judge(self, token: int) -> _Place | None:
        """Return where `token` leads, which the matcher has then seen, or None where it is refused."""
        after = self._names_after(token)
        if after is None:
            return None
        if token == self._constraints.end_id:
            return after if self._free or self.matcher.is_accepting() else None
        if not self._free and self.matcher.try_consume_tokens([token]) != 1:
            self._free = self.matcher.is_error()
            return after if self._free else None
        return after

    def take_first_of(self, tokens: Sequence[int]) -> int:
        """Append the first of `tokens`, all of which the grammar allows, whose names are there; return it.

        Without any the first of all is taken, and the rest of the answer is held to the grammar alone.
        """
        for token in tokens:
            if self.take(token):
                return token
        self._place = _Place(None, self._place.decoder)
        return tokens[0] if self.take(tokens[0]) else self._constraints.end_id

    def _names_after(self, token: int) -> _Place | None:
        """Return where `token` leads by the names alone, or None if it names what is not there."""
        names, decoder = self._place.names, self._place.decoder
        if names is None:
            return _Place(None, decoder)
        if token == self._constraints.end_id:
            return self._place if names.can_end() else None
        new_decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
        new_decoder.setstate(decoder.getstate())
        text = new_decoder.decode(self._constraints.bytes_of[token])
        after = names.after(text, begun=bool(new_decoder.getstate()[0]))
        return None if after is None else _Place(after, new_decoder)


class Constrained:
    """Picks for each row of a batch a token with which its answer can go on to a query."""

    def __init__(self, constraints: Constraints, rows: Sequence[Row], inner: ReplaceablePick) -> None:
        self._constraints, self._rows, self._inner = constraints, rows, inner

    def __call__(self, logits: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Return the tokens (rows, 1); of a row that has ended, the end token."""
        found = self._inner(logits, position).flatten().tolist()
        refused = []
        for place, row in enumerate(self._rows):
            if row.ended:
                found[place] = self._constraints.end_id
            elif not row.take(found[place]):
                refused.append(place)
        if refused:
            places = torch.tensor(refused, device=logits.device)
            under_mask = self._inner.select(places)
            again = self._allowed([self._rows[place] for place in refused], logits[places], position, under_mask)
            for place, token in zip(refused, again, strict=True):
                found[place] = token
            under_mask.replaced(logits[places], position, torch.tensor(again, device=logits.device)[:, None])
        return torch.tensor(found, device=logits.device)[:, None]

    def select(self, rows: torch.Tensor) -> "Constrained":
        """Return the pick of a batch that holds these `rows` of this one's, and no others."""
        return Constrained(self._constraints, [self._rows[place] for place in rows.tolist()], self._inner.select(rows))

    def _allowed(
        self, rows: list[Row], logits: torch.Tensor, position: torch.Tensor, inner: ReplaceablePick
    ) -> list[int]:
        """Return for each of `rows` a token that it can go on with, picked from its `logits`; it is taken."""
        logits = logits.masked_fill(~self._masks(rows, logits), -torch.inf)
        allowed = logits.clone()
        found: dict[int, int] = {}
        still = list(range(len(rows)))
        for _ in range(MOST_PICKS):
            places = torch.tensor(still, device=logits.device)
            tokens = inner.select(places)(logits[places], position)
            logits[places[:, None], tokens] = -torch.inf
            for place, token in zip(still, tokens.flatten().tolist(), strict=True):
                if rows[place].take(token):
                    found[place] = token
            still = [place for place in still if place not in found]
            if not still:
                break
        for place in still:
            likely = allowed[place].topk(min(MOST_LOOKED_AT, allowed.shape[1]))
            found[place] = rows[place].take_first_of(likely.indices[likely.values.isfinite()].tolist())
        return [found[place] for place in range(len(rows))]

    def _masks(self, rows: list[Row], logits: torch.Tensor) -> torch.Tensor:
        """Return which tokens the grammar allows in each of `rows`: bool, of the shape of `logits`."""
        width = -(-max(logits.shape[1], self._constraints.tokens.vocab_size) // 32)
        packed = np.zeros((len(rows), width), dtype=np.int32)
        matchers = [(row.matcher, place) for place, row in enumerate(rows)]
        self._constraints.executor.unsafe_compute_mask_ptr(matchers, packed.ctypes.data, width * 4, len(rows))
        # Spread on the device: as bits they are an eighth to send.
        bits = torch.from_numpy(packed.view(np.uint8)).to(logits.device)
        shifts = torch.arange(8, dtype=torch.uint8, device=logits.device)
        return ((bits[:, :, None] >> shifts) & 1).flatten(1)[:, : logits.shape[1]].bool()
