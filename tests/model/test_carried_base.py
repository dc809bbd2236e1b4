"""The real carried bases, where they are in the user's cache: fetched and converted by an earlier run."""

import pytest

from text2sql.model.base_files import cache
from text2sql.model.bases import CARRIED, EMBEDDED_BASE, converted_folder

NAMES = sorted(CARRIED)


@pytest.fixture(params=NAMES)
def base(request):
    """The row of a carried base whose file and folder are kept."""
    row = CARRIED[request.param]
    if not ((cache() / row.file).is_file() and converted_folder(row.file, row.sha256).is_dir()):
        pytest.skip(f"needs {row.name} in the user's cache")
    return row


def loaded(folder):
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():
                yield name, tensors.get_tensor(name)


@pytest.mark.long
@pytest.mark.parametrize(
    "base",
    # Small files of each way to quantise are looked at in test_gguf.py.
    [name if name == EMBEDDED_BASE else pytest.param(name, marks=pytest.mark.slow) for name in NAMES],
    indirect=True,
)
def test_every_weight_of_the_real_file_is_what_the_library_dequantises(base):
    import torch
    from gguf import GGUFReader, dequantize

    from tests.model.test_gguf import file_name

    reader = GGUFReader(cache() / base.file)
    heads = {
        key: next(int(field.contents()) for name, field in reader.fields.items() if name.endswith(f".attention.{key}"))
        for key in ("head_count", "head_count_kv")
    }
    wanted = {tensor.name: tensor for tensor in reader.tensors}
    folder = converted_folder(base.file, base.sha256)
    assert sum(file.stat().st_size for file in folder.iterdir()) == base.folder_size
    for name, found in loaded(folder):
        tensor = wanted.pop(file_name(name))
        value = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).to(torch.bfloat16)
        permuted = {"attn_q": "head_count", "attn_k": "head_count_kv"}.get(tensor.name.split(".")[-2])
        if permuted and "llama.block_count" in reader.fields:
            value = value.view(heads[permuted], -1, 2, value.shape[-1]).transpose(1, 2).reshape(value.shape)
        assert torch.equal(found, value.view(found.shape)), name
    assert wanted == {}


@pytest.mark.long
def test_the_real_tokenizer_has_the_files_end_and_special_tokens(base):
    from transformers import AutoTokenizer, GenerationConfig

    folder = converted_folder(base.file, base.sha256)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.eos_token == "<|im_end|>"
    ends = GenerationConfig.from_pretrained(folder).eos_token_id
    text = tokenizer.apply_chat_template([{"role": "user", "content": "How many?"}], tokenize=False)
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text and text.count("<|im_end|>") == ids.count(tokenizer.eos_token_id) == 2
    if base.name.startswith("qwen"):
        # As Qwen's own repository has them: generation_config.json, and added tokens of tokenizer_config.json.
        assert ends == [151645, 151643] and len(tokenizer) == 151665
        assert tokenizer.convert_tokens_to_ids(["<tool_call>", "<|fim_prefix|>"]) == [151657, 151659]
        assert tokenizer.tokenize("a<|fim_prefix|>12") == ["a", "<|fim_prefix|>", "1", "2"]
