"""Predictions: what they keep beside the SQL of how they came about."""

import pytest

from testkit.tiny_models import write_tiny_model
from testkit.train_once import model_params
from text2sql.core.dependencies import Key
from text2sql.core.errors import UserError
from text2sql.core.files import write_jsonl
from text2sql.core.journal import Journal
from text2sql.core.params import GenerationParams
from text2sql.data.schema import Column, Schema, Table
from text2sql.evaluation.batching import JournaledRun
from text2sql.evaluation.spider import SpiderPrompt, predict
from text2sql.model.language_model import LanguageModel
from text2sql.prompts.answers import extract_sql
from text2sql.scoring.predictions import asked_in_halves

THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' + OPENED }}{% endif %}"
)
GENERATION = GenerationParams(max_new_tokens=3, batch_size=2)


def asked(model, folder, number=3, schemas=None, generation=GENERATION):
    examples = [{"index": i, "db_id": "x", "question": f"Number {i}?", "query": "SELECT 1"} for i in range(number)]
    run = JournaledRun(Journal("predict", Key.of({}), folder=folder), "predict")
    return predict(model, examples, SpiderPrompt(schemas or {}, "none", []), generation, run)


def test_the_first_prediction_shows_what_the_template_and_its_variables_added(tmp_path):
    def own_system_prompt(tokenizer):
        tokenizer.chat_template = (
            "{{ '<|im_start|>system\nYou are Qwen, ' + manner + '.<|im_end|>\n' }}"
            "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
        )

    base = write_tiny_model(tmp_path / "base", change=own_system_prompt)
    model = LanguageModel(model_params(base), template={"manner": "at night"})
    first, *rest = asked(model, tmp_path / "journals")
    assert first["prompt"] == (
        "<|im_start|>system\nYou are Qwen, at night.<|im_end|>\n<|im_start|>user\nNumber 0?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert not any("prompt" in prediction for prediction in rest)


@pytest.mark.parametrize(
    ("opened", "kept"), [("'<think>\n'", "<think>\n"), ("'<think>\n\n</think>\n\n'", ""), ("''", "")]
)
def test_a_reasoning_that_the_template_opened_and_that_does_not_end_is_no_sql(tmp_path, monkeypatch, opened, kept):
    """Kept answers tell as much to `text2sql score --answer`."""

    def thinking(tokenizer):
        tokenizer.chat_template = THINKING.replace("OPENED", opened)

    model = LanguageModel(model_params(write_tiny_model(tmp_path / "base", change=thinking)))
    said = ["SELECT 1 FROM t", "Hm.\n</think>\n\nSELECT 1 FROM t"]
    texts = {text: model.tokenizer(text)["input_ids"] + [2] for text in said}
    for text in said:
        monkeypatch.setattr(model, "generate", lambda prompts, most, ids=texts[text]: [ids] * len(prompts))
        folder = tmp_path / f"journals-{said.index(text)}"
        (prediction,) = asked(model, folder, 1)
        assert prediction["raw"] == kept + text
        ended = not kept or "</think>" in text
        assert prediction["sql"] == extract_sql(prediction["raw"]) == ("SELECT 1 FROM t" if ended else "")


def test_predictions_of_a_halved_batch_say_so_to_the_metrics(tmp_path, monkeypatch):
    import torch

    model = LanguageModel(model_params(write_tiny_model(tmp_path / "base")))
    undisturbed = asked(model, tmp_path / "undisturbed")
    whole = model._generate

    def small_gpu(prompts, most):
        if len(prompts) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(prompts, most)

    monkeypatch.setattr(model, "_generate", small_gpu)
    halved = asked(model, tmp_path / "halved")
    marked = [prediction.pop("halved_batch", False) for prediction in halved]
    assert halved == undisturbed and sorted(marked) == [False, True, True]
    file = tmp_path / "predictions.jsonl"
    write_jsonl(file, [{**line, "halved_batch": True} if mark else line for line, mark in zip(halved, marked)])
    assert asked_in_halves(file) == 2


HELD = GenerationParams(max_new_tokens=12, batch_size=2, grammar=True)


def test_with_a_grammar_answers_begin_as_queries_and_the_files_stay_as_they_are(tmp_path):
    schema = Schema("x", (Table("crew", (Column("captain", "TEXT"),)),))
    model = LanguageModel(model_params(write_tiny_model(tmp_path / "base")))
    free = asked(model, tmp_path / "free")
    held = asked(model, tmp_path / "held", schemas={"x": schema}, generation=HELD)
    assert [list(one) for one in held] == [list(one) for one in free]
    assert all(one["raw"].strip().lower().startswith(("select", "```")) for one in held)
    assert not any(one["raw"].strip().lower().startswith(("select", "```")) for one in free)


def test_a_grammar_needs_a_schema_and_no_reasoning_before_the_answer(tmp_path):
    def thinking(tokenizer):
        tokenizer.chat_template = THINKING.replace("OPENED", "'<think>\n'")

    model = LanguageModel(model_params(write_tiny_model(tmp_path / "plain")))
    with pytest.raises(UserError, match="needs a schema, and the database x has none"):
        asked(model, tmp_path / "none", generation=HELD)
    model = LanguageModel(model_params(write_tiny_model(tmp_path / "thinking", change=thinking)))
    with pytest.raises(UserError, match="begins the answer with <think>"):
        asked(model, tmp_path / "thinks", generation=HELD)
