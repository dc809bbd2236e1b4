"""What a base is called: by what anyone can look up."""

import hashlib

import pytest

from testkit.train_once import model_params
from text2sql.core.params import load_params
from text2sql.model.base_identity import BaseIdentity, base_identity, weights_sha256
from text2sql.model.bases import CARRIED
from text2sql.model.model_card import model_card

COMMIT = "0123456789abcdef0123456789abcdef01234567"
METRICS = {
    "trainable_parameters": 1, "total_parameters": 100, "trainable_share": 0.01, "examples": 1,
    "examples_left_out": 0, "steps": 1, "final_loss": 1.0, "mean_loss": 1.0,
}  # fmt: skip


def test_a_base_on_the_hub_is_its_id_commit_and_digest(repository, tmp_path, monkeypatch):
    from huggingface_hub import constants

    cached = tmp_path / "models--owner--name-Instruct"
    snapshot = cached / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text(COMMIT)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    digest = hashlib.sha256(b"weights").hexdigest()
    params = model_params("owner/name-Instruct")
    assert base_identity(params) == BaseIdentity("owner/name-Instruct", COMMIT, None, digest)
    card = model_card("m1", load_params(repository / "params.yaml").model_copy(update={"model": params}), METRICS)
    assert "base_model: owner/name-Instruct\n" in card and COMMIT in card and digest in card
    assert str(tmp_path) not in card
    assert base_identity(model_params("owner/other")) == BaseIdentity("owner/other")


@pytest.mark.parametrize("name", sorted(CARRIED))
def test_a_carried_base_is_its_repository_file_and_sum_and_not_the_unquantised_model(name, repository):
    row, params = CARRIED[name], load_params(repository / "params.yaml")
    params = params.model_copy(update={"model": model_params(name)})
    assert base_identity(params.model) == BaseIdentity(row.repository, row.commit, row.file, row.sha256)
    card = model_card("m1", params, METRICS)
    assert f"base_model: {row.repository}\nlicense: apache-2.0\n" in card
    assert f"{row.repository}, file `{row.file}` (sha256 `{row.sha256}`), dequantised" in card
    assert f"{row.quantisation} quantisation of {row.origin}. The unquantised {row.origin} is another model" in card


def test_the_card_of_own_data_names_them_and_no_language(repository):
    params = load_params(repository / "params.yaml")
    assert "Trained on English questions" in model_card("m1", params, METRICS)
    own = params.model_copy(update={"data": params.data.model_copy(update={"name": "Läden"})})
    card = model_card("m1", own, METRICS)
    assert "The train split of Läden, a data set of its own." in card and "English" not in card


def test_the_digest_is_of_the_weights_alone_in_one_file_or_several(tmp_path):
    assert weights_sha256(tmp_path) is None
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"first")
    one = weights_sha256(tmp_path)
    assert one == hashlib.sha256(b"first").hexdigest()
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"second")
    both = weights_sha256(tmp_path)
    assert both not in (one, None)
    for name in ("README.md", "tokenizer.json", "consolidated.safetensors", "adapter_model.safetensors"):
        (tmp_path / name).write_text("beside them")
    assert weights_sha256(tmp_path) == both
