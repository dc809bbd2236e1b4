"""A model in shards over two CPU processes, by accelerate's configuration: it trains what one process trains.

accelerate itself shards on GPUs alone; `testkit.sharded_work` lets it do on CPUs what it does there.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
CONFIG = REPOSITORY / "launch" / "fsdp.yaml"
LONGEST_S = 280
LARGEST_DIFFERENCE = 1e-5  # of an element
LAUNCHER = ["-m", "accelerate.commands.launch", "--config_file", str(CONFIG), "--num_processes"]

pytestmark = pytest.mark.long
slow = pytest.mark.slow  # beside `long`


class Run:
    """What one start of `testkit.sharded_work` wrote and said."""

    def __init__(self, folder: Path, processes: int, module: str = "testkit.sharded_work", **work) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        file = folder / "work.json"
        file.write_text(json.dumps({"folder": str(folder), **work}))
        launcher = [*LAUNCHER, str(processes)] if processes > 1 else []
        # Memory that is given back goes back to the system: what is counted is what is in use.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "524288"}
        environment.pop("TEXT2SQL_DEBUG", None)
        done = subprocess.run(
            [sys.executable, *launcher, "-m", module, str(file)],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONGEST_S,
        )
        self.code, self.output = done.returncode, done.stdout

    def succeeded(self) -> "Run":
        assert self.code == 0, self.output[-4000:]
        return self

    @property
    def found(self) -> dict:
        return json.loads((self.folder / "trained.json").read_text())

    def weights(self) -> dict:
        from safetensors.torch import load_file

        (file,) = (self.folder / "trained").glob("*.safetensors")
        return load_file(file)


def assert_same(one: Run, several: Run) -> None:
    """Assert the same loss at each step within 0.01 %, and the same weights up to rounding."""
    ours, theirs = ([row["loss"] for row in run.found["curve"]] for run in (several, one))
    assert len(theirs) > 1 and ours == pytest.approx(theirs, rel=1e-4)
    first, second = one.weights(), several.weights()
    assert first.keys() == second.keys() and len(first) > 10
    assert max((first[name] - second[name]).abs().max().item() for name in first) <= LARGEST_DIFFERENCE
    assert len({loss for loss in theirs}) > 1


@slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_shards_train_what_one_process_trains_and_go_on_after_a_kill(micro_model, tmp_path, method):
    """With so few tokens a pass that the two have unlike numbers of passes in a step."""
    work = {"base": str(micro_model), "tokens_a_pass": 48, "recipe": {"method": method, "checkpoint_minutes": 1e-6}}
    one = Run(tmp_path / "one", 1, **work).succeeded()
    folder = tmp_path / "two"
    assert Run(folder, 2, **work, dies_at=3).code != 0
    two = Run(folder, 2, **work).succeeded()
    assert "train_m1: going on from the checkpoint at step 2" in two.output
    assert_same(one, two)


@slow
def test_an_output_tied_to_the_embeddings_is_saved_once(micro_model, tmp_path):
    base = write_base(tmp_path / "base", micro_model, tie_word_embeddings=True)
    work = {"base": str(base), "recipe": {"method": "full", "epochs": 1}}
    one, two = (Run(tmp_path / name, count, **work).succeeded() for name, count in (("one", 1), ("two", 2)))
    assert not any("lm_head" in name for name in two.weights())
    assert_same(one, two)


@slow
def test_all_weights_train_in_two_processes_where_one_has_not_the_memory(tmp_path):
    base = middle_model(tmp_path / "base")
    work = {"base": str(base), "recipe": {"method": "full", "epochs": 1}}
    one, two = (Run(tmp_path / name, count, **work, cap_mb=850) for name, count in (("one", 1), ("two", 2)))
    assert one.code != 0 and "out of memory" in one.output
    assert "Traceback" not in one.output
    assert len(two.succeeded().found["curve"]) == 2


@slow
def test_an_adapter_takes_less_memory_in_two_processes(tmp_path):
    """After the first step: each process reads the whole base from its files first, on GPUs into CPU memory."""
    work = {"base": str(middle_model(tmp_path / "base")), "recipe": {"epochs": 1}}
    one, two = (Run(tmp_path / name, count, **work).succeeded() for name, count in (("one", 1), ("two", 2)))
    taken = [run.found["peak_mb_after_first_step"] for run in (one, two)]
    print(f"\npeak after the first step: {taken[0]:.0f} MB in one process, {taken[1]:.0f} MB in each of two")
    assert taken[1] < 0.85 * taken[0]


def test_what_cannot_be_sharded_ends_with_one_line(micro_model, tmp_path):
    """On a CPU accelerate would leave out FSDP without a word."""
    work = {"base": str(micro_model), "as_on_gpus": False}
    run = Run(tmp_path / "cpu", 2, **work)
    assert run.code != 0
    assert "accelerate's config asks for FSDP: needs GPUs" in run.output


def middle_model(folder: Path) -> Path:
    """Write a base of 39 million float32 weights, 155 MB, that is mostly layers."""
    from testkit.random_models import write_micro_model

    shape = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8, "head_dim": 64}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 8}
    return write_base(folder, write_micro_model(folder.with_name("micro")), **shape, **heads, initializer_range=0.02)


def write_base(folder: Path, micro: Path, **changes) -> Path:
    """Write the micro model's like with another config to `folder`, random but fixed."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(micro)
    config.update(changes)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(micro).save_pretrained(folder)
    return folder
