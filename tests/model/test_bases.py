"""Which base `model.base` names, and what of it stages depend on."""

import pytest

from text2sql.core.errors import UserError
from text2sql.core.params import BASE_TABLE, load_params
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
    for base, files, takes in (
        (local, BASE_TABLE, f"takes '{local}' for model.base: {local}"),
        ("owner/name", local, f"takes '{BASE_TABLE}' for model.base: owner/name"),
        (model.base, local, f"takes '{BASE_TABLE}'"),
    ):
        with pytest.raises(UserError, match="model.files: got ") as error:
            check_base(model.model_copy(update={"base": base, "files": files}))
        assert takes in str(error.value)


def test_a_carried_base_has_no_revision(model):
    with pytest.raises(UserError, match="model.revision: got 'main', takes null: the carried base smollm2"):
        check_base(model.model_copy(update={"revision": "main"}))


def test_a_folder_with_one_slash_is_local_where_it_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not is_local("owner/name") and not any(map(is_local, CARRIED))
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert is_local("owner/name") and is_local("./x") and is_local("nothing")
