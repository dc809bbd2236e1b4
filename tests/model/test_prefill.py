"""Shared prefixes: computed once, they change no answer."""

import pytest

from tests.model.conftest import OPTIONS, QUESTIONS


def test_prompts_are_grouped_by_prefix():
    from text2sql.model.prefill import groups_by_prefix, shared_prefix

    first, second = list(range(100)), [*range(40), *range(200, 260)]
    prompts = [[*first, 1, 2], [*second, 5], [*first, 3], [7], [*second, 4, 4], [*first, 1, 9]]
    groups = groups_by_prefix(prompts)
    assert sorted(map(sorted, groups)) == [[0, 2, 5], [1, 4], [3]]
    assert shared_prefix([prompts[0], prompts[5]]) == first[:96]  # in whole steps
    assert shared_prefix([first, first]) == first[:96]  # a token remains
    assert shared_prefix([first]) == first[:96] and shared_prefix([[1, 2], [1, 3]]) == []


def test_prefixes_are_computed_once_if_that_saves_tokens():
    from text2sql.model.prefill import groups_by_prefix, padded_tokens

    prompts = [[*([schema] * 160), question, question] for schema in range(3) for question in range(10)]
    assert padded_tokens(prompts, [list(range(30))]) == 30 * 162
    assert padded_tokens(prompts, groups_by_prefix(prompts)) == 3 * 160 + 30 * 2


@pytest.fixture(scope="module")
def prompts_with_schemas(model):
    schemas = ["singer(id, name, age, country), concert(id, singer_id, year, stadium)", "ferry(id, name, built, owner)"]
    return [
        model.chat_ids([{"role": "user", "content": f"{schemas[number % 2]}\n\n{question}"}])
        for number, question in enumerate(QUESTIONS)
    ]


def test_prompts_with_several_shared_prefixes_are_answered_as_alone(model, prompts_with_schemas):
    prompts = prompts_with_schemas
    assert model.generate(prompts, 12) == [model.generate([prompt], 12)[0] for prompt in prompts]
    likelihoods = model.option_log_likelihoods(prompts, OPTIONS)
    for row, prompt in zip(likelihoods, prompts, strict=True):
        assert row == pytest.approx(model.option_log_likelihoods([prompt], OPTIONS)[0], abs=1e-4)


def test_prefixes_of_different_lengths_are_computed_in_one_pass(model, prompts_with_schemas):
    """As on a GPU; one of the prompts shares its prefix with no other."""
    import torch

    from text2sql.model.decoding import decode
    from text2sql.model.prefill import groups_by_prefix

    prompts = [*prompts_with_schemas, model.text_ids(["One that begins in a way of its own, and at some length."])[0]]
    groups = groups_by_prefix(prompts)
    assert len(groups) == 3
    with torch.inference_mode():
        answers = decode(model.model, model._prefill._read(prompts, groups), 12, model._end_ids)
    assert answers == [model.generate([prompt], 12)[0] for prompt in prompts]
