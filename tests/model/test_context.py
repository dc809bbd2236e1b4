"""Prompts that the model was not made to read: one line before the first pass."""

import pytest

from testkit.tiny_models import write_tiny_model
from testkit.train_once import PAIRS, model_params, recipe
from text2sql.core.errors import UserError
from text2sql.core.journal import Journal
from text2sql.core.params import GenerationParams
from text2sql.evaluation.batching import JournaledRun
from text2sql.evaluation.spider import SpiderPrompt, predict
from text2sql.model.context import context_of
from text2sql.model.language_model import LanguageModel
from text2sql.training.fine_tune import train_adapter
from text2sql.training.job import TrainingJob

CONTEXTS = {"gpt2": {"n_positions": 64}, "llama": {"max_position_embeddings": 64}}


@pytest.fixture(scope="module", params=list(CONTEXTS))
def short(request, tmp_path_factory):
    """A model that reads 64 tokens: learned positions, which end there, and rotary ones, which turn into noise."""
    return write_tiny_model(tmp_path_factory.mktemp("short") / "model", request.param, **CONTEXTS[request.param])


def asked(lengths):
    return [
        {"index": index, "db_id": "x", "question": "one " * length, "query": "SELECT 1"}
        for index, length in enumerate(lengths)
    ]


def test_prompts_beyond_the_context_are_one_line_before_the_first_pass(short, tmp_path):
    from text2sql.core.dependencies import Key

    model = LanguageModel(model_params(short))
    generation = GenerationParams(max_new_tokens=8, batch_size=2)
    journal = Journal("predict", Key.of({}), folder=tmp_path)
    around = len(model.chat_ids([{"role": "user", "content": ""}]))
    room = 64 - 8 - around
    run = JournaledRun(journal, "predict")
    with pytest.raises(UserError) as error:
        predict(model, asked([3, room + 9, 5, room + 2]), SpiderPrompt({}, "none", []), generation, run)
    line = str(error.value)
    assert "2 of 4 prompts do not fit into its context of 64 tokens with 8 for the answer" in line and "\n" not in line
    assert "change prompt.schema, prompt.few_shot or generation.max_new_tokens" in line
    assert journal.records() == {}
    longest = asked([room])
    while len(model.chat_ids([{"role": "user", "content": longest[0]["question"]}])) > 56:
        longest[0]["question"] = longest[0]["question"].removesuffix("one ")
    answered = predict(model, longest, SpiderPrompt({}, "none", []), generation, run)
    assert len(answered) == 1


def test_training_examples_beyond_the_context_are_one_line(short, tmp_path):
    long = [*PAIRS, ([{"role": "user", "content": "one " * 60}], "SELECT 1")]
    with pytest.raises(
        UserError, match=r"of 8 training examples do not fit into its context of 64 tokens: the longest has"
    ):
        train_adapter(TrainingJob("m1", model_params(short), recipe(max_seq_len=512)), long, tmp_path)


@pytest.mark.parametrize(
    ("rope", "context"),
    [
        ({"rope_type": "default"}, 4096),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}, 16_384),
        ({"rope_type": "linear", "factor": 4.0}, 4096),
    ],
)
def test_qwens_way_to_a_longer_context_counts(rope, context, tmp_path):
    folder = write_tiny_model(
        tmp_path / "model", max_position_embeddings=4096, rope_parameters={**rope, "rope_theta": 1e4}
    )
    assert context_of(LanguageModel(model_params(folder)).model) == context


def test_a_state_space_model_has_no_limit(tmp_path):
    assert LanguageModel(model_params(write_tiny_model(tmp_path / "model", "mamba"))).context is None


def test_that_line_is_the_only_one(short):
    """transformers warns of texts beyond the tokenizer's own limit."""
    import logging

    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        model = LanguageModel(model_params(short))
        model.tokenizer.model_max_length = 64
        long = [model.chat_ids([{"role": "user", "content": "one " * 100}]), *model.text_ids(["one " * 100])]
        with pytest.raises(UserError, match="2 of 2 prompts do not fit"):
            model.check_prompts(long, 0, "the prompt")
    finally:
        logger.removeHandler(handler)
    assert said == []
