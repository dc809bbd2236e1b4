"""Which models are recorded."""

import pytest


@pytest.mark.parametrize(
    ("rope", "recordable"),
    [
        ({"rope_type": "default"}, True),
        ({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}, True),
        ({"rope_type": "dynamic", "factor": 2.0}, False),
        ({"rope_type": "longrope", "factor": 2.0, "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}, False),
    ],
    ids=lambda value: value["rope_type"] if isinstance(value, dict) else str(value),
)
def test_a_model_that_chooses_its_rope_by_length_is_not_recorded(micro_model, rope, recordable):
    from transformers import AutoConfig, AutoModelForCausalLM

    from text2sql.model.cuda_graphs import can_be_recorded

    config = AutoConfig.from_pretrained(micro_model)
    config.rope_parameters = {**rope, "rope_theta": 10_000.0, "original_max_position_embeddings": 2048}
    assert can_be_recorded(AutoModelForCausalLM.from_config(config)) is recordable
