"""One training or generation on a GPU in a process of its own: `python -m testkit.gpu_work FILE` (see tests/gpu).

unsloth patches transformers for the whole process, so the two loaders never share one.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

SAMPLE = Path(__file__).parents[1] / "data/sample/spider"


def records(split: str) -> list[dict]:
    """Return the sample's questions and queries."""
    return json.loads((SAMPLE / {"train": "train_spider.json", "dev": "dev.json"}[split]).read_text())


def main(file: str) -> None:
    """Do what `file` says, and write what came of it beside it."""
    work = json.loads(Path(file).read_text())
    result = {"train": train, "generate": generate}[work.pop("do")](**work)
    if result is not None:
        Path(file).with_suffix(".result.json").write_text(json.dumps(result))


def train(
    model: dict,
    recipe: dict,
    examples: int,
    checkpoints: str,
    out: str,
    recorded: bool = True,
    looks: bool = False,
    flat: bool = True,
    more_words: int = 0,
    memory_gb: float | None = None,
    deterministic: bool = True,
    lean: bool = True,
) -> dict | None:
    """Train on the sample's first `examples`; return dtypes, losses, tokens/s and memory.

    With `recorded` false its passes are not to be recorded; with `looks` they cannot be. With `flat` false, and then
    not recorded, the optimizer takes the adapter tensor by tensor. Each question gets `more_words`; `memory_gb` is all
    that the process may take of the GPU. With `deterministic` false kernels add up in any order, without `lean` PEFT's
    own layers compute the adapter.
    """
    from testkit.train_once import model_params
    from testkit.train_once import recipe as train_params
    from text2sql.core.params import LoraParams
    from text2sql.core.processes import current_processes
    from text2sql.model.adapters import save_adapter
    from text2sql.prompts.messages import bare_messages
    from text2sql.training import fine_tune
    from text2sql.training.fine_tune import train_adapter
    from text2sql.training.job import TrainingJob

    if not deterministic:
        fine_tune.deterministic_kernels = lambda *arguments, **options: contextlib.nullcontext()
    if not lean:
        from text2sql.training import trainer

        trainer.can_be_lean = lambda model: False
    seen: dict = {}
    trainers: list = []
    _watch_dtypes(seen, trainers, recorded, looks, flat, model.get("loader") == "unsloth")
    asked = records("train")[:examples]
    pairs = [(bare_messages(record["question"] + " Why?" * more_words), record["query"]) for record in asked]
    processes = current_processes()  # selects this one's GPU
    if memory_gb:
        import torch

        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        torch.cuda.set_per_process_memory_fraction(memory_gb * 1e9 / total)
    lora = LoraParams(**recipe.pop("lora")) if "lora" in recipe else None
    recipe = train_params(**recipe, **({"lora": lora} if lora else {}))
    job = TrainingJob("m1", model_params(**model), recipe, processes)
    training = train_adapter(job, pairs, Path(checkpoints))
    if training is None:
        return None
    import torch

    weights = {name: value for name, value in training.model.named_parameters() if value.requires_grad}
    if job.trains_all:
        training.save(out, "# card\n")
    else:
        save_adapter(training.model, out, model_params(**model), "# card\n")
    timing = training.stopwatch.write(
        Path(out).with_suffix(".timing.json"), "train", "m1", examples, training.metrics["tokens"]
    )
    training.checkpoints.remove()
    return {
        **seen,
        "dtypes_after": sorted({str(value.dtype) for value in weights.values()}),
        "largest_b": max((v.abs().max().item() for name, v in weights.items() if "lora_B" in name), default=0),
        "losses": [row["loss"] for row in training.loss_curve],
        "metrics": training.metrics,
        "timing": timing,
        "recordings": getattr(trainers[0].passes, "number", 0) if trainers else 0,
        "reserved_gb": round(torch.cuda.max_memory_reserved() / 1e9, 3),
    }


def look_at_numbers(model):
    """Have `model` wait for the GPU and look at its numbers, as no CUDA graph can; return what ends that."""

    def look(module, inputs, output):
        output.sum().item()

    return model.get_input_embeddings().register_forward_hook(look)


def _watch_dtypes(seen: dict, trainers: list, recorded: bool, looks: bool, flat: bool, with_unsloth: bool) -> None:
    """Note the trainer, and the adapter's dtypes when the optimizer is made, before the first step."""
    if with_unsloth:
        import unsloth  # noqa: F401  (before transformers and TRL)
    from text2sql.training.trainer import AdapterTrainer

    real = AdapterTrainer.create_optimizer

    def create_optimizer(self, *arguments):
        if not recorded:
            self.plan.stop_recording()
            self.passes = self._new_passes()
        if not flat:
            self.flat = self.passes = None
        if looks:
            look_at_numbers(self.model)
        seen["recorded"] = self.plan.mode.name == "RECORDED"
        trainers.append(self)
        seen["dtypes_before"] = sorted({str(p.dtype) for p in self.model.parameters() if p.requires_grad})
        return real(self, *arguments)

    AdapterTrainer.create_optimizer = create_optimizer


def generate(model: dict, adapters: list[str | None], questions: int, max_new_tokens: int, batch_sizes: list) -> dict:
    """Answer the sample's first `questions` with each of `adapters` at each batch size; return texts and memory."""
    import time

    import torch

    from testkit.train_once import model_params
    from text2sql.model.language_model import LanguageModel
    from text2sql.prompts.messages import bare_messages

    answers, seconds = {}, {}
    for adapter in adapters:
        language_model = LanguageModel(model_params(**model), adapter)
        prompts = [language_model.chat_ids(bare_messages(record["question"])) for record in records("dev")[:questions]]
        for size in batch_sizes:
            started = time.monotonic()
            outputs = []
            for start in range(0, len(prompts), size):
                outputs += language_model.generate(prompts[start : start + size], max_new_tokens)
            answers[f"{adapter} {size}"] = [language_model.decode(output) for output in outputs]
            seconds[f"{adapter} {size}"] = round(time.monotonic() - started, 2)
        del language_model
        torch.cuda.empty_cache()
    return {"answers": answers, "seconds": seconds, "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 3)}


if __name__ == "__main__":
    main(sys.argv[1])
