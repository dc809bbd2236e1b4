"""Texts that share a beginning: tokenised as whole ones, whatever tokenizer there is."""

import random

import pytest

from testkit.short_tokenizer import short_tokenizer
from text2sql.model.chat_tokens import ids_of

SHOTS = "".join(f"Which is number {n}?\nA. one\nB. two\nC. 3\nD. four\nAnswer: {'ABCD'[n % 4]}\n\n" for n in range(12))
ENDS = [
    "Which?",
    " a space first",
    "\n\nlines first",
    "\tand a tab",
    "12 apples",
    "é",
    "́ combining",
    "",
    "Answer:",
    "…",
]


def texts(seed):
    drawn = random.Random(seed)
    subjects = [f"About {name}.\n\n{SHOTS}" for name in ("law", "physics")]
    return [
        f"{subject}{drawn.choice(ENDS)}{drawn.choice(ENDS)} {number}" for subject in subjects for number in range(9)
    ]


def tokenizer_of(model, pre_tokenizer=None, normalizer=None):
    """A tokenizer trained on the texts."""
    from tokenizers import Tokenizer, models, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(getattr(models, model)())
    if pre_tokenizer is not None:
        made.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        made.normalizer = normalizer
    kinds = {"BPE": trainers.BpeTrainer, "Unigram": trainers.UnigramTrainer}
    made.train_from_iterator(texts(7), kinds[model](vocab_size=300, special_tokens=["<unk>"], show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


def kinds():
    from tokenizers import Regex, normalizers, pre_tokenizers
    from transformers import AutoTokenizer

    qwen = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    return {
        "SmolLM2": AutoTokenizer.from_pretrained(short_tokenizer()),
        "GPT-2": tokenizer_of("BPE", pre_tokenizers.ByteLevel(add_prefix_space=False)),
        "a space before": tokenizer_of("BPE", pre_tokenizers.ByteLevel(add_prefix_space=True)),
        "Qwen": tokenizer_of("BPE", pre_tokenizers.Split(Regex(qwen), "isolated"), normalizers.NFC()),
        "no words": tokenizer_of("BPE"),
        "Unigram": tokenizer_of("Unigram", pre_tokenizers.Metaspace()),
    }


@pytest.mark.parametrize("kind", ["SmolLM2", "GPT-2", "a space before", "Qwen", "no words", "Unigram"])
def test_shared_beginnings_change_no_token(kind):
    tokenizer = kinds()[kind]
    for seed in range(3):
        expected = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts(seed)]
        assert ids_of(tokenizer, texts(seed)) == expected


def test_a_shared_beginning_is_read_once():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(short_tokenizer())
    read = []

    class Counting:
        backend_tokenizer = tokenizer.backend_tokenizer

        def __call__(self, texts, **options):
            read.append(sum(map(len, texts)))
            return tokenizer(texts, **options)

    together = texts(1)
    assert ids_of(Counting(), together) == [tokenizer(text, add_special_tokens=False)["input_ids"] for text in together]
    assert len(read) == 1 and read[0] < sum(map(len, together)) / 3
