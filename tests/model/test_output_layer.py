"""The output layer is multiplied once for a batch, under an adapter too: row by row takes many times as long."""

import pytest

from testkit.random_models import save_random_adapter
from testkit.train_once import model_params
from text2sql.core.params import LoraParams
from text2sql.model.language_model import LanguageModel


@pytest.mark.parametrize("count", [1, 5])
def test_an_adapter_makes_no_product_a_row_with_the_vocabulary(micro_model, prompts, tmp_path, count):
    from torch.profiler import profile

    lora = LoraParams(r=4, alpha=8, dropout=0, target_modules=["q_proj"])
    adapter = save_random_adapter(str(micro_model), tmp_path / "adapter", lora)
    model = LanguageModel(model_params(micro_model, dtype="bfloat16"), adapter)  # in float32 it would be merged
    if model.device.type != "cpu":
        pytest.skip("a GPU multiplies a batch at once")
    vocabulary = model.model.get_output_embeddings().weight.shape[0]
    with profile(record_shapes=True) as seen:
        model.option_log_likelihoods(prompts[:count], [" A", " B"])
    products = [(event.name, event.input_shapes) for event in seen.events()]
    of_output = {name for name, shapes in products if any(vocabulary in shape for shape in shapes if shape)}
    assert "aten::mm" in of_output and "aten::bmm" not in of_output
