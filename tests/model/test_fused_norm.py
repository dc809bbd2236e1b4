"""PyTorch's RMSNorm in place of a model's own: only where it gives the same."""

import pytest
import torch

from testkit.tiny_models import write_tiny_model


def _loaded(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval()


def test_a_model_computes_the_same_with_fused_norms(tmp_path):
    from text2sql.model.fused_norm import fuse_norms

    model = _loaded(write_tiny_model(tmp_path / "llama"))
    with torch.no_grad():
        for module in model.modules():
            if type(module).__name__ == "LlamaRMSNorm":
                module.weight.uniform_(0.5, 2)
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        expected = model(ids).logits
        assert fuse_norms(model) == 5  # two a layer, one at the end
        torch.testing.assert_close(model(ids).logits, expected, atol=1e-4, rtol=1e-4)


def test_norms_of_another_kind_stay(tmp_path):
    from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    from text2sql.model.fused_norm import fuse_norms

    class OddRMSNorm(LlamaRMSNorm):
        def forward(self, hidden_states):
            return super().forward(hidden_states) + 1

    model = torch.nn.ModuleList([Gemma2RMSNorm(16), OddRMSNorm(16), LlamaRMSNorm(16), torch.nn.LayerNorm(16)])
    assert fuse_norms(model) == 1


def test_on_a_cpu_nothing_changes(model):
    from text2sql.model.fused_norm import use_fused_norms

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert use_fused_norms(model.model) == 0
