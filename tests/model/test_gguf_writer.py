"""A GGUF file that is written of a merge holds the merge: weights, tokens, ends, template."""

import json

import pytest

from testkit.gguf_files import write_gguf as write_tiny_gguf
from testkit.random_models import save_random_adapter
from testkit.tiny_models import write_tiny_model
from testkit.train_once import model_params
from text2sql.core.errors import UserError
from text2sql.core.params import LoraParams
from text2sql.model.chat_tokens import ChatTokens
from text2sql.model.gguf_file import read_header
from text2sql.model.gguf_model import write_model
from text2sql.model.gguf_tokenizer import tokenizer_metadata
from text2sql.model.gguf_writer import write_gguf
from text2sql.model.merged_model import MergedModel

LORA = LoraParams(r=4, alpha=8, dropout=0, target_modules=["q_proj", "k_proj", "down_proj"])
ROPE = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA_3 = {"rope_parameters": {**ROPE, "original_max_position_embeddings": 64}}


def written(base, folder, quantisation, adapter=None):
    """Write the GGUF file of `base` with `adapter` to `folder`; return it, and the merge."""
    merged = MergedModel(model_params(base), adapter)
    folder.mkdir(exist_ok=True)
    path = folder / f"{quantisation}.gguf"
    write_gguf(merged, path, quantisation, ChatTokens(merged.tokenizer).end_id, "tiny")
    return path, merged


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_read_again_is_what_was_merged(tied, tmp_path):
    import torch

    base = write_tiny_model(tmp_path / "base", tie_word_embeddings=tied)
    adapter = save_random_adapter(str(base), tmp_path / "adapter", LORA)
    path, merged = written(base, tmp_path / "gguf", "f16", adapter)
    (tmp_path / "again").mkdir()
    write_model(path, tmp_path / "again")
    again = MergedModel(model_params(tmp_path / "again"), None)
    assert again.config.tie_word_embeddings == tied and again.shapes == merged.shapes
    for name in merged.shapes:
        # f16 in the file, bfloat16 in what is read of it: eight bits of each number.
        torch.testing.assert_close(again.tensor(name).float(), merged.tensor(name).float(), atol=1e-4, rtol=8e-3)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_a_file_that_is_read_and_written_again_says_the_same(architecture, tmp_path):
    """Rows of a Llama's queries in another order, or a Qwen's lost biases, would change every answer."""
    import torch

    write_tiny_gguf(tmp_path / "tiny.gguf", architecture, "F16")
    for folder in ("once", "twice"):
        (tmp_path / folder).mkdir()
    write_model(tmp_path / "tiny.gguf", tmp_path / "once")
    path, once = written(tmp_path / "once", tmp_path / "gguf", "f16")
    first, second = read_header(tmp_path / "tiny.gguf"), read_header(path)
    assert first.tensors.keys() == second.tensors.keys()
    keys = [key for key in first.metadata if key.startswith("tokenizer.") or key in settings_of(architecture)]
    assert len(keys) > 12
    unused = first.metadata["tokenizer.ggml.tokens"].index("[PAD]")
    first.metadata["tokenizer.ggml.tokens"][unused] = f"[PAD{unused}]"  # a name that nothing reads
    for key in keys:
        assert second.metadata.get(key) == pytest.approx(first.metadata[key]), key
    write_model(path, tmp_path / "twice")
    twice = MergedModel(model_params(tmp_path / "twice"), None)
    for name in once.shapes:
        torch.testing.assert_close(once.tensor(name), twice.tensor(name))


def settings_of(architecture):
    names = ("block_count", "context_length", "embedding_length", "feed_forward_length", "rope.freq_base")
    names += ("attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon")
    return [f"{architecture}.{name}" for name in names]


@pytest.mark.parametrize("quantisation,kind", [("f16", "F16"), ("q8_0", "Q8_0"), ("q4_0", "Q4_0")])
def test_matrices_are_quantised_and_the_rest_is_not(micro_model, tmp_path, quantisation, kind):
    path, _ = written(micro_model, tmp_path / "gguf", quantisation)
    for tensor in read_header(path).tensors.values():
        assert tensor.quantisation == (kind if len(tensor.shape) > 1 else "F32"), tensor.name


def test_tokens_ends_and_template_are_those_of_evaluation(micro_model, tmp_path):
    path, merged = written(micro_model, tmp_path / "gguf", "f16")
    found, tokenizer = read_header(path).metadata, merged.tokenizer
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert found["tokenizer.ggml.eos_token_id"] == end
    assert found["tokenizer.ggml.tokens"][end] == "<|im_end|>" and found["tokenizer.ggml.token_type"][end] == 3
    assert found["tokenizer.chat_template"] == tokenizer.chat_template
    assert len(found["tokenizer.ggml.tokens"]) == merged.config.vocab_size
    assert found["tokenizer.ggml.pre"] == "gpt-2"  # as the carried SmolLM2 is evaluated, which is not SmolLM's own rule
    assert found["tokenizer.ggml.add_bos_token"] is False


def test_the_end_is_where_the_template_ends_whatever_the_tokenizer_names(micro_model, tmp_path):
    merged = MergedModel(model_params(micro_model), None)
    merged.tokenizer.eos_token = "<|endoftext|>"
    tokens = ChatTokens(merged.tokenizer)
    found = tokenizer_metadata(merged.tokenizer, merged.config.vocab_size + 3, tokens.end_id)
    assert found["tokenizer.ggml.eos_token_id"] == merged.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert found["tokenizer.ggml.tokens"][-1].startswith("[PAD") and found["tokenizer.ggml.token_type"][-3:] == [5] * 3


def test_llama_3s_frequencies_are_written(tmp_path):
    base = write_tiny_model(tmp_path / "base", **LLAMA_3)
    path, merged = written(base, tmp_path / "gguf", "f16")
    factors = read_header(path).tensors["rope_freqs.weight"]
    assert factors.shape == (merged.config.hidden_size // merged.config.num_attention_heads // 2,)
    import numpy as np

    values = np.frombuffer(path.read_bytes()[factors.start : factors.start + factors.size], np.float32)
    assert values[0] == 1 and values[-1] == pytest.approx(8)


@pytest.mark.parametrize(
    "architecture,config,problem",
    [
        ("gpt2", {}, "--to gguf: the architecture gpt2 is not written; takes llama, qwen2"),
        ("llama", {"attention_bias": True}, "--to gguf: a Llama with biases is not written"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0}},
            "type 'yarn' are not",
        ),
    ],
)
def test_what_is_not_written_is_one_line(architecture, config, problem, tmp_path):
    base = write_tiny_model(tmp_path / "base", architecture, **config)
    with pytest.raises(UserError, match=problem):
        written(base, tmp_path / "gguf", "f16")


def test_rows_that_fit_no_block_and_a_foreign_split_are_one_line(tmp_path):
    from tokenizers import pre_tokenizers

    narrow = write_tiny_model(tmp_path / "narrow", hidden_size=40, head_dim=10, intermediate_size=80)
    with pytest.raises(UserError, match="--quantization q8_0: rows of 40 numbers do not fit its blocks; takes f16"):
        written(narrow, tmp_path / "gguf", "q8_0")
    merged = MergedModel(model_params(narrow), None)
    merged.tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(UserError, match="splits texts in a way that llama.cpp has no name for"):
        tokenizer_metadata(merged.tokenizer, merged.config.vocab_size, 2)


@pytest.mark.parametrize("name", ["smollm", "qwen2", "llama-bpe"])
def test_known_ways_to_split_are_told_apart(micro_model, name):
    from tokenizers import Regex, pre_tokenizers

    from text2sql.model import gguf_tokenizer

    bytes_alone = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    patterns = {name: pattern for pattern, name in gguf_tokenizer._PATTERNS.items()}
    if name == "smollm":
        bytes_by_words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        parts = [pre_tokenizers.Digits(individual_digits=True), bytes_by_words]
    else:
        parts = [pre_tokenizers.Split(Regex(patterns[name]), behavior="isolated"), bytes_alone]
    tokenizer = ChatTokens.of(model_params(micro_model), None).tokenizer
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    assert tokenizer_metadata(tokenizer, 10, 2)["tokenizer.ggml.pre"] == name
    assert json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"]["type"] == "Sequence"
