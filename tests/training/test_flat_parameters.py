"""An optimizer of one tensor takes the steps of one that goes tensor by tensor."""

import pytest


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused", "sgd"])
def test_an_adapter_in_one_tensor_trains_as_tensor_by_tensor(trainer, optim, tmp_path):
    import torch

    options = {"optim": optim, "lr": 0.5 if optim == "sgd" else 1e-2, "weight_decay": 0.1}
    one_tensor, many = trainer(**options), trainer(**options, checkpoints=tmp_path / "others")
    many.flat = many.passes = None  # our own passes are always of one tensor
    for each in (one_tensor, many):
        each.train()
    assert len(one_tensor.optimizer.param_groups[0]["params"]) == 1
    assert sum(len(group["params"]) for group in many.optimizer.param_groups) > 1
    one_curve, many_curve = (
        [row["loss"] for row in each.state.log_history if "loss" in row] for each in (one_tensor, many)
    )
    epoch = len(one_curve) // 2
    assert sum(one_curve[epoch:]) < sum(one_curve[:epoch]) and one_curve == pytest.approx(many_curve, rel=1e-4)
    for (name, one), (_, other) in zip(one_tensor.model.named_parameters(), many.model.named_parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5), name
