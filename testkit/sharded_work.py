"""A small training in shards on CPUs, and the same by one process, each with the memory that it took.

    accelerate launch --config_file launch/fsdp.yaml --num_processes 2 -m testkit.sharded_work FILE
    python -m testkit.sharded_work FILE

FILE is JSON: see `main`. accelerate turns FSDP on where there are GPUs alone; here it is told that there are, and the
rest is what runs on GPUs, over gloo.
"""

import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

from testkit.train_once import PAIRS, model_params, recipe
from text2sql.core.errors import run
from text2sql.core.files import write_json
from text2sql.core.processes import current_processes
from text2sql.prompts.messages import bare_messages

# Steps of four.
EIGHT = [*PAIRS, (bare_messages("Name one ferry."), "SELECT name FROM ferry LIMIT 1")]


def as_if_on_gpus() -> None:
    """Have accelerate take processes on CPUs for some that it shards over."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    real = PartialState.__init__

    def init(self: Any, *arguments: Any, **options: Any) -> None:
        real(self, *arguments, **options)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = init


def main(arguments: list[str]) -> None:
    """Train as FILE says: `base` (a folder), `folder` (of what comes of it), and maybe these.

    `recipe`: changes of it; `dtype`; `tokens_a_pass`; `cap_mb`: all the private memory that this process may take
    beyond that of its libraries; `dies_at`: the step at which the main process is killed. With `as_on_gpus` false
    accelerate sees CPUs.
    """
    work = json.loads(Path(arguments[0]).read_text())
    if work.get("as_on_gpus", True):
        as_if_on_gpus()
    folder, processes = Path(work["folder"]), current_processes()
    import text2sql.training.sharded  # noqa: F401 (all that a training imports: a cap counts its tensors alone)
    from text2sql.training import parts
    from text2sql.training.callbacks import Watch
    from text2sql.training.fine_tune import train_adapter
    from text2sql.training.job import TrainingJob

    parts.TOKENS_ON_CPU = work.get("tokens_a_pass", parts.TOKENS_ON_CPU)
    if "dies_at" in work and processes.is_main:
        _die_at_step(Watch, work["dies_at"])
    before = _memory_mb()
    if "cap_mb" in work:
        limit = int((before["VmData"] + work["cap_mb"]) * 1e6)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    _forget_peak_at_first_step(Watch)
    model = model_params(work["base"], dtype=work.get("dtype", "float32"))
    job = TrainingJob("m1", model, recipe(batch_size=2, grad_accum=2, **work.get("recipe", {})), processes)
    training = train_adapter(job, EIGHT, folder / "checkpoints")
    if training is not None:
        peak = _memory_mb()["VmHWM"] - before["VmRSS"]
        training.save(folder / "trained", "# card\n")
        training.checkpoints.remove()
        found = {"curve": training.loss_curve, "metrics": training.metrics, "peak_mb_after_first_step": peak}
        write_json(folder / "trained.json", found)
    processes.wait()


def _die_at_step(watch: Any, step: int) -> None:
    """Have the end of this step end this process as `kill -9` does."""
    real = watch.on_step_end

    def on_step_end(self: Any, args: Any, state: Any, *others: Any, **options: Any) -> None:
        if state.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, args, state, *others, **options)

    watch.on_step_end = on_step_end


def _memory_mb() -> dict[str, float]:
    """Return this process's memory in MB: private (VmData, as RLIMIT_DATA counts it), resident, the most resident."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0][:-1]: int(words[1]) * 1024 / 1e6 for words in lines if words[0].startswith("Vm")}


def _forget_peak_at_first_step(watch: Any) -> None:
    """Count the most resident memory from the end of the first step on: loading takes more."""
    real = watch.on_step_end

    def on_step_end(self: Any, args: Any, state: Any, *others: Any, **options: Any) -> None:
        if state.global_step == 1:
            Path("/proc/self/clear_refs").write_text("5")
        real(self, args, state, *others, **options)

    watch.on_step_end = on_step_end


if __name__ == "__main__":
    run(main)
