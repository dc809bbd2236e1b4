"""What loads, and what a base that does not load says."""

import json
import shutil

import pytest

from testkit.tiny_models import edit_json
from testkit.train_once import model_params
from text2sql.core.errors import RunError, UserError
from text2sql.model.loading import KeptBase, load_base


def test_pickled_weights_are_refused(micro_model, tmp_path):
    import torch

    pickled = tmp_path / "pickled"
    shutil.copytree(micro_model, pickled)
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(UserError, match="does not load"):
        load_base(model_params(pickled))


def test_what_lies_in_a_folder_without_safetensors_is_named(micro_model, tmp_path):
    shutil.copytree(micro_model, tmp_path / "other", ignore=shutil.ignore_patterns("*.safetensors"))
    for name, words in (
        (None, "it has no *.safetensors; takes a folder or hub id"),
        ("pytorch_model.bin", "found pytorch_model.bin (a pickle, which can run code); takes"),
        ("model.gguf", "found model.gguf (GGUF: model.base and model.files name the file itself); takes"),
    ):
        if name:
            (tmp_path / "other" / name).write_bytes(b"GGUF")
        with pytest.raises(UserError) as error:
            load_base(model_params(tmp_path / "other"))
        assert words in str(error.value) and "\n" not in str(error.value)


def test_an_index_that_names_pickles_is_refused(micro_model, tmp_path):
    shutil.copytree(micro_model, tmp_path / "mixed")
    weight_map = {"model.embed_tokens.weight": "model.safetensors", "lm_head.weight": "rest.bin"}
    (tmp_path / "mixed" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UserError, match="model.safetensors.index.json names 'rest.bin'; takes"):
        load_base(model_params(tmp_path / "mixed"))


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "model.safetensors"])
def test_a_single_file_is_refused_with_the_forms_that_are_taken(name, tmp_path):
    (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(UserError, match=rf"{name} is not read: .*; takes a folder or hub id in Hugging Face's format"):
        load_base(model_params(tmp_path / name))


def test_a_model_that_needs_its_own_code_is_refused_and_its_code_not_run(micro_model, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(micro_model, own)
    (own / "modeling_own.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\nclass Model: pass\n"
    )
    auto_map = {"AutoConfig": "modeling_own.Config", "AutoModelForCausalLM": "modeling_own.Model"}
    edit_json(own / "config.json", model_type="own", auto_map=auto_map)
    with pytest.raises(UserError, match="needs code of its own repository, which is not run; takes a model of an arch"):
        load_base(model_params(own))
    # Where transformers has the architecture, that is what runs.
    edit_json(own / "config.json", model_type="llama", auto_map=auto_map)
    assert type(load_base(model_params(own))[0]).__name__ == "LlamaForCausalLM"
    assert not (tmp_path / "ran").exists()


def test_a_hub_model_of_pickles_is_refused(micro_model, tmp_path, monkeypatch):
    """In the hub's cache, as after a download."""
    from huggingface_hub import constants

    folder = tmp_path / "models--someone--pickled"
    snapshot = folder / "snapshots" / ("a" * 40)
    shutil.copytree(micro_model, snapshot, ignore=shutil.ignore_patterns("*.safetensors"))
    (snapshot / "pytorch_model.bin").write_bytes(b"")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises((UserError, RunError)) as error:
        load_base(model_params("someone/pickled"))
    assert "model.base: someone/pickled" in str(error.value)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (
            "smollm3",
            "is no folder; takes smollm2-135m-instruct, .* folder or .gguf file, .* mean smollm2-135m-instruct",
        ),
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


def test_a_kept_base_is_loaded_once_and_handed_out_in_copies(micro_model, tmp_path):
    """Whatever is done to one copy, the next is as loaded; another base takes its place."""
    import torch

    folder = shutil.copytree(micro_model, tmp_path / "base")
    kept = KeptBase()
    first, tokenizer = kept(model_params(folder))
    shutil.rmtree(folder)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    tokenizer.chat_template = None
    second, tokenizer = kept(model_params(folder, strength=0.5))
    loaded, _ = load_base(model_params(micro_model))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(second.parameters(), loaded.parameters(), strict=True))
    assert tokenizer.chat_template is not None
    assert kept(model_params(micro_model, dtype="bfloat16"))[0].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("flags", "dtype", "said"),
    [
        ({"amx_tile": True, "avx512_bf16": True}, "bfloat16", "the CPU has AMX and AVX-512 BF16"),
        ({"amx_tile": False, "avx512_bf16": True}, "bfloat16", "the CPU has AVX-512 BF16"),
        ({"amx_tile": False, "avx512_bf16": False}, "float32", "the CPU has no AMX or AVX-512 BF16"),
        ({}, "float32", "the CPU has no AMX or AVX-512 BF16"),  # another architecture
    ],
)
def test_auto_takes_the_dtype_that_the_cpu_multiplies_fast_and_says_why(
    micro_model, monkeypatch, capsys, flags, dtype, said
):
    import torch

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    base, _ = load_base(model_params(micro_model, dtype="auto"))
    assert str(base.dtype) == f"torch.{dtype}"
    assert capsys.readouterr().err == f"model.dtype: auto takes {dtype}: {said}\n"
