"""Generation with another checkout's build, in a process of its own, for `bench_predict --against FOLDER`.

python -m benchmarks.build_generate BASE QUANTIZATION DTYPE ADAPTER     started through `measuring.of_build`

It imports nothing of this checkout, so that it runs with a build whose modules lie elsewhere.
"""

import importlib
import json
import sys
import time
from typing import Any

MARK = "==RESULT== "  # measuring.Worker's


def main(base: str, quantization: str, dtype: str, adapter: str = "") -> None:
    """Load the model (`adapter` may be empty), then answer requests of prompts with seconds and answers."""
    import torch

    # The older names first: an installed build may be found for a module that this one does not have.
    language_model = _first("text2sql.models", "text2sql.model.language_model").LanguageModel
    params = _first("text2sql.params", "text2sql.core.params").ModelParams
    model = language_model(
        params(base=base, loader="transformers", quantization=quantization, dtype=dtype), adapter or None
    )

    def answer(request: dict) -> dict:
        prompts, gpu = request["prompts"], torch.cuda.is_available()
        order = sorted(range(len(prompts)), key=lambda position: (-len(prompts[position]), position))
        answers: list = [None] * len(prompts)
        if gpu:
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        for start in range(0, len(order), request["size"]):
            batch = order[start : start + request["size"]]
            found = model.generate([prompts[position] for position in batch], request["new_tokens"])
            for position, ids in zip(batch, found, strict=True):
                answers[position] = ids
        seconds = time.perf_counter() - started
        peak = torch.cuda.max_memory_allocated() / 1e9 if gpu else None
        if gpu:
            torch.cuda.empty_cache()  # the other sides need that memory
        return {"seconds": seconds, "answers": answers, "peak_gb": peak}

    _tell("ready")
    for line in sys.stdin:
        _tell(answer(json.loads(line)))


def _first(*names: str) -> Any:
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(error.name or "-"):
                raise
    raise ModuleNotFoundError(f"this build has none of {', '.join(names)}")


def _tell(value: Any) -> None:
    print(f"\n{MARK}{json.dumps(value)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
