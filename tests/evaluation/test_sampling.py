"""Samples of a real (micro) model: neither batches nor kills nor the number of processes change a byte."""

import json
import re

import pytest

from testkit.train_once import model_params
from text2sql.core.dependencies import Key
from text2sql.core.files import json_line
from text2sql.core.journal import Journal
from text2sql.core.params import GenerationParams
from text2sql.core.processes import Processes
from text2sql.data.schema import Column, Schema, Table
from text2sql.evaluation import sampling
from text2sql.evaluation.batching import JournaledRun
from text2sql.evaluation.sampling import draw, sample_answers
from text2sql.evaluation.spider import Predictor, SpiderPrompt
from text2sql.model.language_model import LanguageModel
from text2sql.prompts.answers import extract_sql

QUESTIONS = ("How many singers are there?", "Hi", "List all ferries, newest first.", "Count the dogs.", "Who?")
EXAMPLES = [
    {"index": index, "db_id": "x", "question": question, "query": "SELECT 1"}
    for index, question in enumerate(QUESTIONS)
]
ALONE = Processes()


@pytest.fixture(scope="module")
def predictor(micro_model):
    return Predictor(LanguageModel(model_params(micro_model)), SpiderPrompt({}, "none", []), 12)


def generation(**changes):
    return GenerationParams(**{"max_new_tokens": 12, "batch_size": 6, "samples": 3, **changes})


def drawn(predictor, folder, examples=EXAMPLES, processes=ALONE, **changes):
    run = JournaledRun(Journal("sample", Key.of({}), processes.index, folder), "sample", processes)
    return sample_answers(predictor, examples, generation(**changes), run)


def texts(lines):
    return [[sample["raw"] for sample in line["samples"]] for line in lines]


def test_a_sample_has_its_text_sql_and_log_likelihood(predictor, tmp_path):
    lines = drawn(predictor, tmp_path)
    assert [line["index"] for line in lines] == [0, 1, 2, 3, 4]
    assert all(len(line["samples"]) == 3 for line in lines)
    assert len({raw for of_one in texts(lines) for raw in of_one}) == 15
    for line in lines:
        for sample in line["samples"]:
            assert sample["sql"] == extract_sql(sample["raw"]) and 0 < sample["new_tokens"] <= 12
            assert sample["log_likelihood"] < 0 and round(sample["log_likelihood"], 4) == sample["log_likelihood"]


def test_batches_other_questions_and_the_number_of_samples_change_no_answer(predictor, tmp_path):
    lines = drawn(predictor, tmp_path / "one")
    assert texts(drawn(predictor, tmp_path / "two", batch_size=100)) == texts(lines)
    assert texts(drawn(predictor, tmp_path / "three", batch_size=1)) == texts(lines)
    assert texts(drawn(predictor, tmp_path / "four", examples=EXAMPLES[3:])) == texts(lines[3:])
    more = drawn(predictor, tmp_path / "five", samples=5)
    assert [of_one[:3] for of_one in texts(more)] == texts(lines)
    assert texts(drawn(predictor, tmp_path / "six", seed=1)) != texts(lines)


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_bytes(predictor, tmp_path, monkeypatch):
    whole = "".join(map(json_line, drawn(predictor, tmp_path / "whole")))
    asked = []

    def killed_in_the_second_batch(predictor, prompts, db_ids, questions, generation):
        asked.append(questions)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return draw(predictor, prompts, db_ids, questions, generation)

    monkeypatch.setattr(sampling, "draw", killed_in_the_second_batch)
    with pytest.raises(KeyboardInterrupt):
        drawn(predictor, tmp_path / "cut")
    assert "".join(map(json_line, drawn(predictor, tmp_path / "cut"))) == whole
    assert len(asked) == 4 and asked[0] not in asked[1:] and asked[1] == asked[2]


def test_two_processes_end_with_the_same_bytes(predictor, tmp_path, monkeypatch):
    whole = "".join(map(json_line, drawn(predictor, tmp_path / "whole")))
    monkeypatch.setattr(Processes, "wait", lambda self: None)
    assert drawn(predictor, tmp_path / "both", processes=Processes(1, 2)) is None
    lines = drawn(predictor, tmp_path / "both", processes=Processes(0, 2))
    assert "".join(map(json_line, lines)) == whole
    journals = sorted((tmp_path / "both").glob("*.jsonl"))
    assert len(journals) == 2 and all(journal.read_text() for journal in journals)


def test_with_a_grammar_each_sample_is_held_to_its_own_database(predictor, tmp_path):
    names = ("crew", "ships")
    schemas = {name: Schema(name, (Table(name, (Column(f"{name}_id", "TEXT"),)),)) for name in names}
    held = Predictor(predictor.model, SpiderPrompt(schemas, "none", []), 40, grammar=True)
    examples = [{**example, "db_id": names[place % 2]} for place, example in enumerate(EXAMPLES)]
    lines = drawn(held, tmp_path, examples)
    assert texts(lines) == texts(drawn(held, tmp_path / "alone", examples, batch_size=1))
    for line in lines:
        (other,) = {*names} - {line["db_id"]}
        for sample in line["samples"]:
            assert sample["raw"].strip().lower().startswith(("select", "```"))
            assert not re.search(rf"\bfrom\s+{other}\b", sample["raw"].lower())


def test_no_question_to_ask_is_no_error(predictor, tmp_path):
    """As where `when` is `failed` and every greedy answer runs."""
    assert drawn(predictor, tmp_path, examples=[]) == []


def test_samples_of_a_halved_batch_say_so(predictor, tmp_path, monkeypatch):
    import torch

    undisturbed = drawn(predictor, tmp_path / "undisturbed", batch_size=15)
    model = predictor.model
    whole = model._generate

    def small_gpu(prompts, *rest, **options):
        if len(prompts) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(prompts, *rest, **options)

    monkeypatch.setattr(model, "_generate", small_gpu)
    halved = drawn(predictor, tmp_path / "halved", batch_size=15)
    assert all(line.pop("halved_batch") for line in halved)
    assert texts(halved) == texts(undisturbed)
    assert json.dumps(halved).count("raw") == 15
