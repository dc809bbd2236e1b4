"""A function that trains on the micro model, and an undisturbed training to compare with."""

import pytest

from testkit.llama_3 import as_llama_3
from testkit.train_once import INTERRUPTED, PAIRS, model_params, recipe
from tests.training.comparing import adapter_bytes
from text2sql.core.dependencies import Key
from text2sql.core.processes import Processes
from text2sql.training.checkpoints import CheckpointStore
from text2sql.training.examples import encode
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


@pytest.fixture
def trainer(micro_model, tmp_path):
    """Return a function that makes a trainer on the micro model, for a test that changes something about it first.

    `examples` takes the place of those of PAIRS, `prepare` changes the model before the trainer sees it.
    """

    def make(
        examples=None, prepare=lambda model: None, checkpoints=tmp_path / "checkpoints", dtype="float32", **changes
    ):
        from text2sql.model.adapters import add_adapter
        from text2sql.model.loading import load_base
        from text2sql.training.trainer import AdapterTrainer

        job = TrainingJob("m1", model_params(micro_model, dtype=dtype), recipe(**changes))
        base, tokenizer = load_base(job.model, job.recipe.max_seq_len)
        model = add_adapter(base, job.recipe.lora, job.recipe.seed, job.model.loader)
        prepare(model)
        examples = examples or encode(tokenizer, PAIRS, job.recipe.max_seq_len)[0]
        return AdapterTrainer(job, model, tokenizer, examples, CheckpointStore("train_m1", Key.of({}), checkpoints))

    return make


@pytest.fixture(scope="session")
def reference(micro_model, tmp_path_factory):
    """An undisturbed training with dropout and a checkpoint a step, and its adapter's bytes."""
    folder = tmp_path_factory.mktemp("reference")
    job = TrainingJob("m1", model_params(micro_model), recipe(**INTERRUPTED))
    training = train_adapter(job, PAIRS, folder / "checkpoints")
    training.checkpoints.remove()
    return training, adapter_bytes(training.model, folder / "adapter")
