"""An optimizer of one tensor takes the steps of one that goes tensor by tensor."""

import pytest


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused", "sgd"])
def test_an_adapter_in_one_tensor_trains_as_tensor_by_tensor(train, monkeypatch, optim, tmp_path):
    import torch

    import text2sql.training.trainer
    from text2sql.training.flat_parameters import FlatParameters

    made = []

    def flat(model):
        made.append(FlatParameters(model))
        return made[-1]

    # On a GPU as well: recorded passes are always of one tensor.
    monkeypatch.setattr(text2sql.training.trainer, "can_be_recorded", lambda model: False)
    monkeypatch.setattr(text2sql.training.trainer, "FlatParameters", flat)
    recipe = {"optim": optim, "lr": 0.5 if optim == "sgd" else 1e-2, "weight_decay": 0.1}
    one_tensor = train(**recipe)
    assert len(made) == 1
    monkeypatch.setattr(text2sql.training.trainer, "FlatParameters", lambda model: None)
    many = train(**recipe, checkpoints=tmp_path / "others")
    assert one_tensor.loss_curve[-1]["loss"] < one_tensor.loss_curve[0]["loss"]
    for one, other in zip(one_tensor.loss_curve, many.loss_curve, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
    for (name, one), (_, other) in zip(one_tensor.model.named_parameters(), many.model.named_parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5), name
