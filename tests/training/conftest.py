"""A function that trains on the micro model, and an undisturbed training to compare with."""

import pytest

from testkit.llama_3 import as_llama_3
from testkit.train_once import INTERRUPTED, PAIRS, model_params, recipe
from tests.training.comparing import adapter_bytes
from text2sql.core.processes import Processes
from text2sql.training.fine_tune import train_adapter
from text2sql.training.job import TrainingJob

ALONE = Processes()


@pytest.fixture
def smollm2(micro_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(micro_model)


@pytest.fixture
def llama3(micro_model):
    """SmolLM2's tokenizer with Llama 3's special tokens and template: Llama's own tokenizer needs the hub."""
    from transformers import AutoTokenizer

    return as_llama_3(AutoTokenizer.from_pretrained(micro_model))


@pytest.fixture
def train(micro_model, tmp_path):
    """Return a function that trains an adapter on the micro model."""

    def run(processes=ALONE, base=micro_model, pairs=PAIRS, checkpoints=tmp_path / "checkpoints", **changes):
        dtype = changes.pop("dtype", "float32")
        job = TrainingJob("m1", model_params(base, dtype=dtype), recipe(**changes), processes)
        return train_adapter(job, pairs, checkpoints)

    return run


@pytest.fixture(scope="session")
def reference(micro_model, tmp_path_factory):
    """An undisturbed training with dropout and a checkpoint a step, and its adapter's bytes."""
    folder = tmp_path_factory.mktemp("reference")
    job = TrainingJob("m1", model_params(micro_model), recipe(**INTERRUPTED))
    training = train_adapter(job, PAIRS, folder / "checkpoints")
    training.checkpoints.remove()
    return training, adapter_bytes(training.model, folder / "adapter")
