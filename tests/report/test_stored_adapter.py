"""An adapter that is kept in git: rounded, with its sum and its params, and asked without any other file."""

import contextlib
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from text2sql.cli import ask
from text2sql.cli.results import main
from text2sql.core.errors import UserError
from text2sql.core.files import read_json, write_json
from text2sql.report import result_sets
from text2sql.report.stored_adapter import check_adapters

pytestmark = pytest.mark.usefixtures("finished_project")  # one of the processes has it

STORED = Path("adapters/micro")


@pytest.fixture
def exported(project):
    """The project, its set, and the set's adapter."""
    result_sets.export("micro")
    assert main(["adapter", "micro"]) == 0
    return project


def test_the_stored_weights_are_the_adapters_in_bfloat16(exported, capsys):
    import torch
    from safetensors.torch import load_file

    trained, stored = (load_file(root / "adapter_model.safetensors") for root in (Path("models/m1"), STORED))
    assert trained.keys() == stored.keys()
    for name, weight in trained.items():
        assert weight.dtype == torch.float32 and torch.equal(stored[name], weight.to(torch.bfloat16))
    assert {path.name for path in STORED.iterdir()} == {
        "README.md", "SHA256SUMS", "adapter_config.json", "adapter_model.safetensors", "params.yaml",
    }  # fmt: skip
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=STORED, capture_output=True, text=True)
    assert done.stdout == "adapter_model.safetensors: OK\n"
    card = (STORED / "README.md").read_text()
    assert (STORED / "SHA256SUMS").read_text().split()[0] in card and "models/m1" not in card
    assert "was not evaluated with rounded weights" in card  # in float32, as the micro project's are
    capsys.readouterr()
    assert main(["check"]) == 0
    assert capsys.readouterr().out.endswith("adapters/micro: its sha256, and its set's params\n")


def test_the_card_has_the_sets_figures_where_they_are_of_these_weights(exported):
    timing = Path("results/micro/timings/predict_spider_m1.json")
    write_json(timing, read_json(timing) | {"dtype": "bfloat16"})
    with pytest.raises(UserError, match=r"adapters/micro: is there already; --replace"):
        main(["adapter", "micro"])
    main(["adapter", "micro", "--replace"])
    right = read_json("metrics/spider/m1.json")["execution_accuracy"]
    line = f"weights in bfloat16: {100 * right:.2f} % of Spider's 10 dev questions"
    assert line in (STORED / "README.md").read_text()


def test_what_is_not_the_sets_adapter_is_refused(project):
    with pytest.raises(UserError, match=r"results/micro: no such set; export the run first"):
        main(["adapter", "micro"])
    result_sets.export("micro")
    shutil.copytree("models/m1", "models/other")
    shutil.rmtree("models/m1")
    with pytest.raises(UserError, match=r"models/m1: no such folder"):
        main(["adapter", "micro"])
    shutil.copytree("models/m2", "models/m1")
    with pytest.raises(UserError, match=r"models/m1: is not the adapter of results/micro"):
        main(["adapter", "micro"])
    assert not Path("adapters").exists()


def test_check_finds_other_weights_and_other_params(exported):
    weights, params = STORED / "adapter_model.safetensors", STORED / "params.yaml"
    content, text = weights.read_bytes(), params.read_text()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"adapter_model.safetensors: has not the sha256 of adapters/micro/SHA256SUMS"):
        check_adapters()
    weights.write_bytes(content)
    params.write_text(text.replace("schema: tables", "schema: none"))
    with pytest.raises(UserError, match=r"adapters/micro: its params.yaml is not that of results/micro"):
        check_adapters()


def test_ask_takes_the_adapters_own_params(exported, monkeypatch, capsys):
    with contextlib.closing(sqlite3.connect("bar.sqlite")) as connection:
        connection.execute("CREATE TABLE drink (name TEXT)")
        connection.commit()
    # This folder's params name another base, which the adapter would refuse.
    exported.set_params({"model": {"base": "nowhere", "files": "nowhere"}})
    question = ["Which drinks?", "--db", "bar.sqlite", "--model", str(STORED)]
    assert ask.main(question) in (0, 1)  # the micro model's SQL need not run
    assert capsys.readouterr().out
    with pytest.raises(UserError, match=r"nowhere"):
        ask.main([*question, "--params", "params.yaml"])
