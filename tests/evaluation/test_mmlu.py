"""MMLU's prompts: worked examples are dropped until a prompt fits the model's context."""

import pytest

from testkit.tiny_models import write_tiny_model
from testkit.train_once import model_params
from text2sql.core.dependencies import Key
from text2sql.core.errors import UserError
from text2sql.core.journal import Journal
from text2sql.data.mmlu import Question
from text2sql.evaluation.batching import JournaledRun
from text2sql.evaluation.mmlu import answer_questions, prompts_that_fit
from text2sql.model.language_model import LanguageModel
from text2sql.prompts.messages import mmlu_prompt

CHOICES = ("one", "two", "three", "four")
SHOTS = {
    "music": [Question("music", index, f"Which of these is number {index}?", CHOICES, index) for index in range(4)]
}
QUESTIONS = [Question("music", index, "a " * length + "?", CHOICES, 1) for index, length in enumerate((5, 150, 200))]


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A model that reads 256 tokens."""
    return LanguageModel(
        model_params(write_tiny_model(tmp_path_factory.mktemp("mmlu") / "m", max_position_embeddings=256))
    )


def test_worked_examples_are_dropped_one_by_one_from_the_last_until_a_prompt_fits(short):
    prompts, dropped = prompts_that_fit(short, QUESTIONS, SHOTS)
    shown = []
    for question, prompt in zip(QUESTIONS, prompts, strict=True):
        (kept,) = [n for n in range(5) if prompt == short.text_ids([mmlu_prompt(question, SHOTS["music"][:n])])[0]]
        shown.append(kept)
        assert len(prompt) <= 256
        if kept < 4:
            more = short.text_ids([mmlu_prompt(question, SHOTS["music"][: kept + 1])])[0]
            assert len(more) > 256
    assert shown[0] == 4 and 4 > shown[1] > shown[2] and dropped == sum(4 - kept for kept in shown)


def test_their_number_stands_beside_the_choices(short, tmp_path):
    run = JournaledRun(Journal("mmlu", Key.of({}), folder=tmp_path), "mmlu")
    choices = answer_questions(short, QUESTIONS, SHOTS, {"music": "humanities"}, 2, run)
    assert choices.shots_dropped == prompts_that_fit(short, QUESTIONS, SHOTS)[1] > 0
    assert len(choices.records) == 3 and choices.prompt_tokens <= 3 * 256


def test_a_question_that_is_too_long_without_any_is_one_line(short):
    long = Question("music", 0, "a " * 300, CHOICES, 1)
    with pytest.raises(UserError, match="1 of 4 prompts do not fit into its context of 256 tokens: the longest has 3"):
        prompts_that_fit(short, [*QUESTIONS, long], SHOTS)


def test_questions_asked_in_halved_batches_are_counted_in_the_metrics(short, tmp_path, monkeypatch):
    import torch

    def ask(name):
        run = JournaledRun(Journal(name, Key.of({}), folder=tmp_path), name)
        return answer_questions(short, QUESTIONS, SHOTS, {"music": "humanities"}, 2, run).metrics()

    undisturbed = ask("undisturbed")
    assert "questions_in_halved_batches" not in undisturbed
    whole = short._log_likelihoods

    def small_gpu(prompts, option_ids):
        if len(prompts) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(prompts, option_ids)

    monkeypatch.setattr(short, "_log_likelihoods", small_gpu)
    assert ask("halved") == {**undisturbed, "questions_in_halved_batches": 2}
