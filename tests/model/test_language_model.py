"""Generation and log-likelihoods on a real (micro) model: batches change no answer."""

import shutil

import pytest

from testkit.train_once import model_params
from tests.model.conftest import OPTIONS, QUESTIONS
from text2sql.core.errors import RunError, UserError
from text2sql.model.language_model import LanguageModel


def test_a_batch_answers_as_one_by_one(model, prompts):
    together = model.generate(prompts, 24)
    assert together == [model.generate([prompt], 24)[0] for prompt in prompts]


def test_answers_are_those_of_transformers_generate(model, prompts):
    import torch

    for prompt, answer in zip(prompts, model.generate(prompts, 16), strict=True):
        reference = model.model.generate(
            input_ids=torch.tensor([prompt]), max_new_tokens=16, do_sample=False, pad_token_id=2
        )
        assert answer == reference[0, len(prompt) :].tolist()


def test_an_answer_ends_with_its_end_token_and_leaves_the_others_alone(micro_model, prompts):
    ending = LanguageModel(model_params(micro_model))
    before = ending.generate(prompts, 12)
    # Let the third token of one answer be an end token: some answers now end earlier than others.
    end = before[0][2]
    ending._end_ids = {end}
    for old, new in zip(before, ending.generate(prompts, 12), strict=True):
        expected = old[: old.index(end) + 1] if end in old else old
        assert new == expected


def test_options_are_scored_alike_in_any_batch(model, prompts):
    together = model.option_log_likelihoods(prompts, OPTIONS)
    alone = [model.option_log_likelihoods([prompt], OPTIONS)[0] for prompt in prompts]
    for row, reference in zip(together, alone, strict=True):
        assert row == pytest.approx(reference, abs=1e-4)
        assert row.index(max(row)) == reference.index(max(reference))


def test_one_pass_chooses_as_four_full_prompts_do(model):
    """The paper's method: four prompts, each ending in one option, the whole sequence's likelihood compared."""
    import torch

    texts = [f"The following are multiple choice questions.\n\n{question}\nAnswer:" for question in QUESTIONS]
    rows = model.option_log_likelihoods(model.text_ids(texts), OPTIONS)
    for text, row in zip(texts, rows, strict=True):
        totals = []
        for option in OPTIONS:
            ids = torch.tensor(model.text_ids([text + option]))
            with torch.inference_mode():
                log_probabilities = torch.log_softmax(model.model(ids).logits[0, :-1].float(), dim=-1)
            totals.append(log_probabilities.gather(1, ids[0, 1:, None]).sum().item())
        assert row.index(max(row)) == totals.index(max(totals))


def test_an_option_must_be_one_token(model, prompts):
    with pytest.raises(UserError, match="not one token"):
        model.option_log_likelihoods(prompts, [" Aardvark of the north"])


def test_answers_that_begin_with_the_same_token_cannot_be_told_apart(model, prompts):
    with pytest.raises(UserError, match="answers of Yes or Yesterday begin with one and the same token"):
        model.begin_answer_log_likelihoods(prompts, ["Yes", "Yesterday"])


def test_a_space_belongs_to_the_option(model):
    with_space = model.option_log_likelihoods(model.text_ids(["Answer:"]), OPTIONS)
    without = model.option_log_likelihoods(model.text_ids(["Answer:"]), ["A", "B", "C", "D"])
    assert with_space != without


def test_the_chat_template_is_applied_once(model):
    ids = model.chat_ids([{"role": "user", "content": "Hi"}])
    text = model.tokenizer.decode(ids)
    assert text.startswith("<|im_start|>system") and text.endswith("<|im_start|>assistant\n")
    assert text.count("<|im_start|>system") == 1


def test_a_batch_is_halved_where_gpu_memory_runs_out(model, prompts, monkeypatch, capsys):
    import torch

    expected = model.generate(prompts, 6)
    whole = model._generate

    def small_gpu(part, max_new_tokens):
        if len(part) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return whole(part, max_new_tokens)

    monkeypatch.setattr(model, "_generate", small_gpu)
    assert model.generate(prompts, 6) == expected
    assert "going on with 3" in capsys.readouterr().out


def test_a_single_prompt_too_large_for_the_gpu_stops(model, prompts, monkeypatch):
    import torch

    def no_memory(part, max_new_tokens):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model, "_generate", no_memory)
    with pytest.raises(RunError, match="does not fit"):
        model.generate(prompts, 6)


def test_the_micro_model_answers_differently_to_different_questions(model, prompts):
    """Else the comparisons above would show nothing."""
    answers = model.generate(prompts, 16)
    assert len({tuple(answer) for answer in answers}) == len(prompts)
    assert all(len(set(answer)) > 3 for answer in answers)


def test_numbers_do_not_depend_on_what_was_asked_before(micro_model, prompts):
    fresh, used = (LanguageModel(model_params(micro_model)) for _ in range(2))
    used.option_log_likelihoods([prompt[:-1] for prompt in prompts], OPTIONS)
    used.generate(prompts[2:5], 3)
    assert used.option_log_likelihoods(prompts, OPTIONS) == fresh.option_log_likelihoods(prompts, OPTIONS)


def test_a_model_with_a_sliding_window_answers_through_transformers(micro_model, prompts, model, tmp_path):
    """Its cache is of another kind; a window wider than the prompts changes nothing else."""
    import json

    shutil.copytree(micro_model, tmp_path / "windowed")
    config = json.loads((micro_model / "config.json").read_text())
    config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 4096}
    (tmp_path / "windowed" / "config.json").write_text(json.dumps(config))
    windowed = LanguageModel(model_params(tmp_path / "windowed"))
    assert windowed.generate(prompts, 8) == model.generate(prompts, 8)
    for row, other in zip(
        windowed.option_log_likelihoods(prompts, OPTIONS), model.option_log_likelihoods(prompts, OPTIONS), strict=True
    ):
        assert row == pytest.approx(other, abs=1e-4)
