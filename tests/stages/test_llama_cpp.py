"""GGUF exports asked by the real llama.cpp, and made by its quantizer. `make llama-cpp` compiles it."""

import json
import shutil

import pytest

from text2sql.cli import export as export_verb
from text2sql.cli import verify as verify_verb
from text2sql.core.errors import RunError
from text2sql.model.gguf_file import read_header

pytestmark = [pytest.mark.engine, pytest.mark.long]


@pytest.fixture(scope="module")
def project(finished_project, tmp_path_factory):
    return finished_project.copy(tmp_path_factory.mktemp("llama") / "project")


@pytest.fixture
def here(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(project.cache))
    return project.folder


def export(name, quantization):
    verb = ["m1", "--to", "gguf", "--quantization", quantization, "--out", f"exports/{name}", "--replace"]
    export_verb.main(verb)
    return f"exports/{name}"


def proof(here, name):
    return json.loads((here / f"metrics/export/{name}.json").read_text())


def test_f16_answers_as_the_adapter_did(here, capsys):
    """Of ten questions to a random model, whose answers differ: a wrong row, token or end would show in each."""
    assert verify_verb.main([export("f16", "f16")]) == 0
    found = proof(here, "f16")
    assert found["engine"] == "llama.cpp" and found["questions"] == 10
    assert found["identical_answers"] >= 0.8  # near-ties may fall otherwise
    assert found["mmlu"]["identical_choices"] >= 0.8 and found["mmlu"]["total"] == 12
    assert "10 prompts and the end token are the evaluated ones" in capsys.readouterr().out


@pytest.mark.parametrize("quantization", ["q8_0", "q4_k_m"])
def test_quantised_files_are_read_and_judged(here, quantization):
    folder = export(quantization, quantization)
    assert verify_verb.main([folder, "--no-mmlu"]) == 0
    kinds = {tensor.quantisation for tensor in read_header(here / folder / "model.gguf").tensors.values()}
    # Rows of 64 fit no K-quant's block: llama.cpp falls back to others.
    assert kinds - {"F32"} == {"Q8_0"} if quantization == "q8_0" else len(kinds - {"F32", "F16"}) >= 1
    assert not (here / folder / "f16.gguf").exists()


def test_a_wrong_end_token_is_found_before_anything_is_asked(here):
    """The trap of files that name another end token: a server then never stops."""
    from gguf import GGUFReader

    shutil.copytree(export("f16", "f16"), "exports/end", dirs_exist_ok=True)
    reader = GGUFReader(here / "exports/end/model.gguf", "r+")
    field = reader.fields["tokenizer.ggml.eos_token_id"]
    field.parts[field.data[0]][0] = 0
    reader.data.flush()
    del field, reader
    with pytest.raises(RunError, match="--engine llama.cpp: it stops at token 0, and what was evaluated at 2"):
        verify_verb.main(["exports/end", "--no-mmlu"])


def test_what_llama_cpp_cannot_load_is_one_line(here):
    shutil.copytree(export("f16", "f16"), "exports/cut", dirs_exist_ok=True)
    path = here / "exports/cut/model.gguf"
    path.write_bytes(path.read_bytes()[:200_000])
    with pytest.raises(RunError, match="--engine llama.cpp: its process ended with ") as error:
        verify_verb.main(["exports/cut", "--no-mmlu"])
    assert "\n" not in str(error.value)
