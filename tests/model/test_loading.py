"""What loads, and what a base that does not load says."""

import shutil

import pytest

from testkit.train_once import model_params
from text2sql.core.errors import RunError, UserError
from text2sql.model.loading import load_base


def test_pickled_weights_are_refused(micro_model, tmp_path):
    import torch

    pickled = tmp_path / "pickled"
    shutil.copytree(micro_model, pickled)
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(UserError, match="does not load"):
        load_base(model_params(pickled))


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("smollm3", "is no folder; takes smollm2-135m-instruct, a local folder, or a hub id"),
        ("./nowhere", "is no folder"),
        ("a/b/c", "is no folder"),
    ],
)
def test_an_unknown_base_is_named(base, message):
    with pytest.raises(UserError, match=message):
        load_base(model_params(base))


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(UserError, match="has no config.json"):
        load_base(model_params(tmp_path))


def test_a_hub_model_without_a_connection_says_what_to_do():
    with pytest.raises(RunError, match="could not be fetched from the hub"):
        load_base(model_params("nobody/no-such-model"))


@pytest.mark.parametrize("changes", [{"loader": "unsloth"}, {"quantization": "4bit"}], ids=["unsloth", "4bit"])
def test_what_needs_a_gpu_says_so(micro_model, changes, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="needs a GPU"):
        load_base(model_params(micro_model, **changes))
