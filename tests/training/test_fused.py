"""Fused kernels are taken where they compute what they stand for."""

import pytest

from testkit.train_once import model_params


def silu_and_product(x, y):
    import torch

    return torch.nn.functional.silu(x) * y


def rotated(query, key, cos, sin, *arguments, **options):
    import torch

    def turn(x):
        first, second = x.chunk(2, dim=-1)
        return x * cos[:, None] + torch.cat([-second, first], dim=-1) * sin[:, None]

    return turn(query), turn(key)


@pytest.fixture
def model(micro_model):
    from text2sql.model.loading import load_base

    return load_base(model_params(micro_model))[0]


def logits(model):
    import torch

    with torch.no_grad():
        return model(input_ids=torch.tensor([[3, 1, 4, 1, 5]])).logits


def test_a_model_computes_the_same_with_fused_kernels_and_its_own_afterwards(model):
    import torch
    from transformers.models.llama import modeling_llama

    from text2sql.training.fused import fused_kernels

    calls = []

    def noted(x, y):
        calls.append("gate")
        return silu_and_product(x, y)

    def noted_rotation(*arguments, **options):
        calls.append("rotary embedding")
        return rotated(*arguments, **options)

    before, function = logits(model), modeling_llama.apply_rotary_pos_emb
    with fused_kernels(model, noted, noted_rotation) as taken:
        calls.clear()
        assert torch.allclose(logits(model), before, rtol=1e-4, atol=1e-5)
    assert taken == ["gate", "rotary embedding"]
    layers = model.config.num_hidden_layers
    assert calls.count("gate") == calls.count("rotary embedding") == layers
    assert modeling_llama.apply_rotary_pos_emb is function
    calls.clear()
    assert torch.equal(logits(model), before) and not calls


def test_what_computes_something_else_is_not_taken(model):
    import torch

    from text2sql.training.fused import fused_kernels

    before = logits(model)
    with fused_kernels(model, lambda x, y: x * y, lambda query, key, cos, sin: (query, key)) as taken:
        assert taken == []
        assert torch.equal(logits(model), before)


def test_random_numbers_are_those_without(model):
    import torch

    from text2sql.training.fused import fused_kernels

    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    with fused_kernels(model, silu_and_product, rotated):
        assert torch.equal(torch.randn(3), expected)
