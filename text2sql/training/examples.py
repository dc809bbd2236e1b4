"""From conversations to token ids with a label for each token that the loss counts.

The prompt is that of evaluation, in the base's chat template up to the start of the assistant's turn; the completion
is the answer and the end-of-turn token, with the white space that the template puts around the answer. The prompt's
tokens are those of generation, where the model reads them and then adds its own.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from text2sql.core.errors import UserError
from text2sql.core.params import PromptParams, TrainParams, augment_problem
from text2sql.data.schema import Schema
from text2sql.model.chat_tokens import ids_of
from text2sql.prompts.chat import NO_VARIABLES, Turn, assistant_turn, chat_text, check_variables
from text2sql.prompts.messages import FewShot, bare_messages, in_drawn_order, spider_messages, with_evidence
from text2sql.prompts.rich import RichSchemas

# The label of a token that the loss ignores: PyTorch's and transformers' convention.
IGNORED = -100


@dataclass(frozen=True)
class TrainingExample:
    """Token ids of prompt and completion, and as many labels: a token's own id, or IGNORED."""

    input_ids: list[int]
    labels: list[int]

    @property
    def counted_tokens(self) -> int:
        """How many of its tokens the loss counts."""
        return sum(label != IGNORED for label in self.labels)


def variants(recipe: TrainParams) -> int:
    """Return in how many ways each example is written: an epoch's number of them, where examples are augmented."""
    return math.ceil(recipe.epochs) if recipe.augment != "none" else 1


def training_pairs(
    conversations: Iterable[dict],
    schemas: Mapping[str, Schema],
    prompt: PromptParams,
    few_shot: Sequence[FewShot],
    rich: RichSchemas | None = None,
    recipe: TrainParams | None = None,
) -> list[tuple[list[dict], str]]:
    """Return chat messages and the reference answer for each of `conversations` (records of `qa_sharegpt.jsonl`).

    Where `recipe` augments, all of them once for each of its `variants`, those of the first epoch first: the order of
    an example's tables is drawn by seed, epoch and number. `rich` shows the databases, see `rich_schemas`.

    With `prompt.training: evaluation` the messages are those of evaluation, with schema and worked examples; with
    `zero_shot` the same without the examples; with `bare` they hold the question alone (the paper). Raises UserError
    for a record without a question and its answer, or without a schema if the prompt needs one.
    """
    shown = few_shot if prompt.training == "evaluation" else []
    if recipe is not None and (problem := augment_problem(recipe, prompt)):
        raise UserError(f"train.{problem}")
    augmented = recipe is not None and recipe.augment != "none"
    epochs = range(variants(recipe)) if recipe is not None else range(1)
    conversations = list(conversations)
    pairs = []
    for epoch, (number, record) in itertools.product(epochs, enumerate(conversations, start=1)):
        place = f"training example {number}"
        question, query = _question_and_query(record, place)
        question = with_evidence(question, record.get("evidence") if prompt.evidence else None)
        if prompt.training == "bare":
            pairs.append((bare_messages(question), query))
            continue
        schema = schemas.get(record.get("db_id", ""))
        if schema is None and prompt.schema_ != "none":
            raise UserError(f"{place}: database {record.get('db_id')!r} has no schema, which prompt.schema wants")
        if augmented and schema is not None:
            assert recipe is not None
            schema = in_drawn_order(schema, f"{recipe.seed} {epoch} {number}")
        pairs.append((spider_messages(question, schema, prompt.schema_, shown, prompt.table_order, rich), query))
    return pairs


def _question_and_query(record: dict, place: str) -> tuple[str, str]:
    turns = record.get("conversations")
    wanted = "wanted two turns, from `human` and from `gpt`, each with a text as `value`"
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise UserError(f"{place}: found {turns!r:.60} as 'conversations', {wanted}")
    if [turn.get("from") for turn in turns] != ["human", "gpt"]:
        raise UserError(f"{place}: found turns from {[turn.get('from') for turn in turns]!r:.60}, {wanted}")
    values = [turn.get("value") for turn in turns]
    if not all(isinstance(value, str) and value.strip() for value in values):
        raise UserError(f"{place}: found an empty turn, {wanted}")
    return values[0], values[1].strip()


def encode(
    tokenizer: Any,
    pairs: Sequence[tuple[list[dict], str]],
    max_seq_len: int,
    template: Mapping[str, Any] = NO_VARIABLES,
    ways: int = 1,
) -> tuple[list, int]:
    """Return the TrainingExamples of `pairs`, and how many were left out as longer than `max_seq_len` tokens.

    The pairs are as many examples in so many `ways`, all in the first way first: one that is too long in any is left
    out in all. `template` holds the chat template's variables. Long pairs are left out whole: a truncated answer would
    teach the model to stop in the middle. Raises UserError if none remains.
    """
    if not pairs:
        raise UserError("there are no training examples: the train split is empty")
    check_variables(tokenizer, template)
    turn = assistant_turn(tokenizer, template)
    examples = _encode_pairs(tokenizer, pairs, turn, template)
    count = len(examples) // ways
    fits = [
        all(len(example.input_ids) <= max_seq_len for example in examples[number::count]) for number in range(count)
    ]
    kept = [example for place, example in enumerate(examples) if fits[place % count]]
    if not kept:
        shortest = min(len(example.input_ids) for example in examples)
        raise UserError(
            f"train.max_seq_len: none of {count} training examples fits into {max_seq_len} tokens; "
            f"the shortest takes {shortest}"
        )
    return kept, fits.count(False)


def _encode_pairs(
    tokenizer: Any, pairs: Sequence[tuple[list[dict], str]], turn: Turn, template: Mapping[str, Any]
) -> list[TrainingExample]:
    # The template writes the special tokens, BOS among them: the tokenizer must not add them again.
    prompts = [chat_text(tokenizer, messages, True, template) for messages, _ in pairs]
    completions = [turn.completion(answer) for _, answer in pairs]
    examples = []
    asked = ids_of(tokenizer, prompts)
    whole = ids_of(tokenizer, [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)])
    for ids, both, completion in zip(asked, whole, completions, strict=True):
        if both[: len(ids)] == ids:
            rest = both[len(ids) :]
        else:  # a token that spans both: the model reads the prompt's tokens and then adds its own
            (rest,) = ids_of(tokenizer, [completion])
        examples.append(TrainingExample(ids + rest, [IGNORED] * len(ids) + rest))
    return examples
