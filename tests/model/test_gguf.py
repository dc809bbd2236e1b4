"""GGUF files as bases: each weight is what the library `gguf` dequantises, the tokenizer is the file's, and what is not
whole or not understood is one line."""

import json
import struct

import pytest

from testkit.gguf_files import HEADS, KEY_HEADS, write_gguf
from testkit.train_once import model_params
from text2sql.core.errors import UserError
from text2sql.core.params import load_params
from text2sql.model import gguf_model, shards
from text2sql.model.base_identity import base_identity
from text2sql.model.bases import local_gguf
from text2sql.model.gguf_file import read_header
from text2sql.model.gguf_model import write_model
from text2sql.model.language_model import LanguageModel
from text2sql.model.model_card import model_card
from text2sql.model.run_key import weights_and_runtime

QUANTISATIONS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q4_K", "Q6_K")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def converted(path, folder):
    """Convert a GGUF file; return {name: tensor} of what was written."""
    from safetensors.torch import load_file

    folder.mkdir()
    write_model(path, folder)
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def dequantised(path, architecture):
    """Return {name in the file: tensor in bfloat16}, as the library `gguf` reads and dequantises it."""
    import torch
    from gguf import GGUFReader, dequantize

    values = {}
    for tensor in GGUFReader(path).tensors:
        value = dequantize(tensor.data, tensor.tensor_type).reshape(tuple(reversed(tensor.shape.tolist())))
        heads = {"attn_q": HEADS, "attn_k": KEY_HEADS}.get(tensor.name.split(".")[-2])
        if architecture == "llama" and heads:
            rows = len(value)
            value = value.reshape(heads, rows // heads // 2, 2, -1).swapaxes(1, 2).reshape(value.shape)
        values[tensor.name] = torch.from_numpy(value.copy()).to(torch.bfloat16)
    return values


def file_name(name):
    """Return llama.cpp's name of a weight of transformers'."""
    for ours, theirs in {
        "model.embed_tokens": "token_embd", "lm_head": "output", "model.norm": "output_norm", "model.layers": "blk",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }.items():  # fmt: skip
        name = name.replace(ours, theirs)
    return name


@pytest.mark.parametrize("quantisation", QUANTISATIONS)
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_every_weight_is_what_the_library_dequantises(architecture, quantisation, tmp_path):
    import torch

    path = tmp_path / "tiny.gguf"
    write_gguf(path, architecture, quantisation)
    found, wanted = converted(path, tmp_path / "folder"), dequantised(path, architecture)
    assert {file_name(name) for name in found} == wanted.keys()
    for name, tensor in found.items():
        assert tensor.dtype == torch.bfloat16 and torch.equal(tensor, wanted[file_name(name)]), name


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_model_is_the_one_that_the_file_was_made_of(architecture, tied, tmp_path):
    """Its logits too: the order of rows, the norms' epsilon and the rotary base are right."""
    import torch
    from transformers import AutoModelForCausalLM

    path = tmp_path / "tiny.gguf"
    made = write_gguf(path, architecture, "F32", tied)
    weights = converted(path, tmp_path / "folder")
    for name, tensor in made.state_dict().items():
        if not (tied and name == "lm_head.weight"):
            assert torch.equal(weights[name], tensor.to(torch.bfloat16)), name
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "folder", dtype=torch.float32)
    made.load_state_dict(loaded.state_dict())  # rounded alike
    ids = torch.arange(40)[None]
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, made(ids).logits)
    assert loaded.config.tie_word_embeddings == tied


@pytest.mark.parametrize("chunk,shard", [(300, 10**6), (256 * 7, 1), (2**24, 2**29)])
def test_chunks_and_shards_change_no_weight(chunk, shard, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(gguf_model, "CHUNK_ELEMENTS", chunk)
    monkeypatch.setattr(shards, "SHARD_BYTES", shard)
    path = tmp_path / "tiny.gguf"
    write_gguf(path, "llama", "Q8_0")
    found, wanted = converted(path, tmp_path / "folder"), dequantised(path, "llama")
    assert all(torch.equal(tensor, wanted[file_name(name)]) for name, tensor in found.items())
    files = list((tmp_path / "folder").glob("*.safetensors"))
    if shard < 2**29:
        index = json.loads((tmp_path / "folder/model.safetensors.index.json").read_text())
        assert len(files) > 1 and set(index["weight_map"].values()) == {file.name for file in files}
    else:
        assert [file.name for file in files] == ["model.safetensors"]


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_the_tokenizer_the_ends_and_the_template_are_the_files(architecture, tmp_path):
    from transformers import AutoTokenizer, GenerationConfig

    path = tmp_path / "tiny.gguf"
    write_gguf(path, architecture, "F16")
    converted(path, tmp_path / "folder")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "folder")
    assert (tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token) == (
        "<|im_end|>", "<|endoftext|>", "<|endoftext|>"
    )  # fmt: skip
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": " SELECT"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\n SELECT<|im_end|>\n<|im_start|>assistant\n"
    tokens = tokenizer.tokenize(text + "<tool_call><|fim|>")
    assert tokens[0] == "<|im_start|>" and {"ĠSELECT", "<|im_end|>"} <= set(tokens)
    assert tokens[-2:] == ["<tool_call>", "<|fim|>"]
    assert "[PAD]" not in tokenizer.get_vocab()  # a place that no token uses
    ids = tokenizer(text + "<|fim|>")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "user\n SELECT\nassistant\n"
    ends = GenerationConfig.from_pretrained(tmp_path / "folder").eos_token_id
    assert tokenizer.convert_ids_to_tokens(ends) == ["<|im_end|>", "<|endoftext|>"]


def test_llama_3s_rule_takes_numbers_three_digits_at_a_time(tmp_path):
    from transformers import AutoTokenizer

    path = tmp_path / "tiny.gguf"
    write_gguf(path, "llama", "F16")
    converted(path, tmp_path / "folder")
    split = AutoTokenizer.from_pretrained(tmp_path / "folder").backend_tokenizer.pre_tokenizer
    assert [part for part, _ in split.pre_tokenize_str("in 12345")] == ["in", "Ġ", "123", "45"]


def test_a_local_file_is_a_base_by_its_content_alone(tmp_path, repository, capsys):
    path = tmp_path / "some" / "tiny.gguf"
    path.parent.mkdir()
    write_gguf(path, "qwen2", "Q8_0")
    params = model_params(path)
    model = LanguageModel(params)
    assert model.generate([[1, 2, 3]], 2)
    folder = local_gguf(path)
    assert capsys.readouterr().out.count("Converting tiny.gguf") == 1
    identity = base_identity(params)
    assert identity.name == "tiny.gguf" and identity.sha256 and str(tmp_path) not in str(identity)
    assert identity.sha256 in weights_and_runtime(params, model.model)["the base's weights"]
    all_params = load_params(repository / "params.yaml").model_copy(update={"model": params})
    metrics = {"trainable_parameters": 1, "total_parameters": 100, "trainable_share": 0.01, "examples": 1}
    metrics |= {"examples_left_out": 0, "steps": 1, "final_loss": 1.0, "mean_loss": 1.0}
    card = model_card("m1", all_params, metrics)
    assert f"`tiny.gguf` (sha256 `{identity.sha256}`), dequantised" in card and "another model" in card
    assert str(tmp_path) not in card and "base_model" not in card
    other = tmp_path / "tiny.gguf"
    path.rename(other)  # the same content elsewhere is the same base
    assert local_gguf(other) == folder
    write_gguf(other, "qwen2", "Q4_0")
    assert local_gguf(other) != folder


def test_an_interrupted_conversion_leaves_nothing_and_the_next_one_works(tmp_path, monkeypatch):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, "llama", "Q8_0")
    written = []

    def interrupted(*arguments):
        written.append(arguments)
        if len(written) > 5:
            raise KeyboardInterrupt
        return weights(*arguments)

    weights = gguf_model.weights
    monkeypatch.setattr(gguf_model, "weights", interrupted)
    with pytest.raises(KeyboardInterrupt):
        local_gguf(path)
    assert [file for file in (tmp_path / "cache").rglob("*") if "lock" not in file.name and file.is_file()] == [
        file for file in (tmp_path / "cache").rglob("digests/*")
    ]
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert (local_gguf(path) / "model.safetensors").is_file()


def refusal(path):
    with pytest.raises(UserError) as error:
        local_gguf(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    assert not list(path.parent.glob("cache/text2sql/bases/[!.]*"))
    return str(error.value)


@pytest.mark.parametrize("kept", [0, 3, 4, 10, 23, 40, 300, 2000, 0.5, 0.99, -33])  # it may end in 31 bytes of padding
def test_a_truncated_file_is_one_line(kept, tmp_path):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, "llama", "Q8_0")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    assert "is not read as GGUF" in refusal(path) and "download it again" in refusal(path)


def test_counts_and_lengths_that_the_file_does_not_hold_are_one_line(tmp_path):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, "llama", "Q8_0")
    whole = path.read_bytes()
    huge = struct.pack("<Q", 2**62)
    key = whole.index(b"tokenizer.ggml.tokens") + len("tokenizer.ggml.tokens")
    kinds = whole.index(b"tokenizer.ggml.token_type") + len("tokenizer.ggml.token_type")
    last = read_header(path)
    name = whole.index(b"output_norm.weight") + len("output_norm.weight")
    for place, content, says in (
        (4, struct.pack("<I", 9), "it is of version 9"),
        (8, huge, f"{2**62} tensors"),
        (16, huge, f"{2**62} metadata entries"),
        (24, huge, f"{2**62} bytes of a text"),
        (key + 8, huge, f"{2**62} texts of a list"),
        (kinds + 8, huge, f"{2**62} numbers of a list"),
        (key, struct.pack("<I", 77), "a value of type 77"),
        (name, struct.pack("<I", 2**31), f"{2**31} dimensions"),
        (name + 4, huge, "output_norm.weight ends at byte"),
        (name + 12, struct.pack("<I", 99), "the unknown quantisation 99"),
        (name + 16, struct.pack("<Q", len(whole)), "output_norm.weight ends at byte"),
        (0, b"PK\3\4", "it does not begin with GGUF"),
    ):
        path.write_bytes(whole[:place] + content + whole[place + len(content) :])
        assert says in refusal(path)
    path.write_bytes(whole)
    assert read_header(path) == last


UNKNOWN = {
    "architecture": ({"general__architecture": "mamba"}, "its architecture mamba is not read; takes llama, qwen2"),
    "vocabulary": ({"tokenizer__ggml__model": "llama"}, "its vocabulary is of the kind 'llama', takes 'gpt2'"),
    "split": ({"tokenizer__ggml__pre": "tekken"}, "splits texts by 'tekken', takes 'smollm'"),
    "scaled rotary": ({"llama__rope__scaling__type": "yarn"}, "not understood: llama.rope.scaling.type: 'yarn'"),
    "layers": ({"llama__block_count": 10**9}, "it names 1000000000 layers and holds 2"),
    "width": ({"llama__embedding_length": 128}, "has the shape [268, 128], the file [268, 256]"),
    "heads": ({"llama__attention__head_count": 0}, "is GGUF, but not understood: "),
    "kinds of tokens": ({"tokenizer__ggml__token_type": None}, "no list of tokens with the kind of each"),
    "end token": ({"tokenizer__ggml__eos_token_id": 10**6}, "its eos token is number 1000000 of 267"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_is_not_understood_is_one_line(case, tmp_path):
    changes, says = UNKNOWN[case]
    path = tmp_path / "tiny.gguf"
    write_gguf(path, "llama", "F16", **changes)
    assert says in refusal(path)


def test_a_quantisation_that_the_library_does_not_dequantise_is_one_line(tmp_path):
    path = tmp_path / "tiny.gguf"
    write_gguf(path, "llama", "Q8_0")
    whole = path.read_bytes()
    name = whole.index(b"output_norm.weight") + len("output_norm.weight")
    path.write_bytes(whole[: name + 12] + struct.pack("<I", 24) + whole[name + 16 :])  # 24: I8
    assert "has the quantisation I8, which is not read; takes BF16, F16, F32" in refusal(path)


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    import shutil

    path = tmp_path / "tiny.gguf"
    write_gguf(path, "llama", "Q8_0")
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shards.shutil, "disk_usage", lambda place: free)
    assert "is full; make room (`text2sql bases`" in refusal(path)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.gguf")
