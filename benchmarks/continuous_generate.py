"""transformers' `generate_batch`, continuous batching over a paged cache, in a process of its own, at its best.

python -m benchmarks.continuous_generate BASE QUANTIZATION DTYPE ADAPTER     started by bench_predict

A setting that fails may leave the GPU or its threads unusable: the process then ends, and `Continuous` starts another.
"""

import contextlib
import logging
import math
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.machine import on_gpu, wait
from benchmarks.material import model_params, plain_model
from benchmarks.measuring import Side, Worker, sweep
from text2sql.model.decoding import up_to_end

# Of the GPU's memory: other sides share it. By its own choice it takes 90 %.
MEMORY = 0.5
# What transformers chooses where nothing is said; "-" leaves the choice to it.
DEFAULTS = {"CUDA graphs": "-", "block size": 256, "tokens a batch": "-", "prefixes shared": True}
ATTENTIONS = ("flash_attention_3", "flash_attention_2", "flash_attention_4", "sdpa", "eager")
AXES: dict[str, tuple] = {
    "CUDA graphs": (True, False),
    "block size": (16, 64),
    "tokens a batch": (1024, 4096, 16384),
    "prefixes shared": (False,),
}
# A CPU has neither flash attention nor CUDA graphs.
ON_A_CPU: dict[str, tuple] = {"block size": (16,), "tokens a batch": (256,), "prefixes shared": (False,)}


class Continuous:
    """The process that runs `generate_batch`, and what it is asked."""

    def __init__(self, base: str, quantization: str, dtype: str, adapter: str, request: dict) -> None:
        """`request` holds `new_tokens`, `ends`, `pad`, and `limit`, the most seconds that a call may take."""
        self._arguments, self._request = [base, quantization, dtype, adapter], request
        self._worker: Worker | None = None

    def ask(self, prompts: Sequence[list[int]], settings: dict, seconds: float = 0) -> dict:
        """Return `seconds` of a call, `first_seconds` of the first with its start, `answers` and `peak_gb`.

        Calls are repeated until they took `seconds` in all. Raises RuntimeError where the settings fail.
        """
        self._worker = self._worker or Worker("benchmarks.continuous_generate", self._arguments)
        request = {**self._request, "prompts": list(prompts), "settings": settings, "at_least": seconds}
        try:
            found = self._worker.ask(request)
        except RuntimeError:
            self._worker = None
            raise
        if "failure" in found:
            if found["is_spoilt"]:
                self.close()
            raise RuntimeError(found["failure"])
        return found

    def close(self) -> None:
        """End the process."""
        if self._worker:
            self._worker.close()
        self._worker = None

    def best(self, prompts: Sequence[list[int]], seconds: float) -> tuple[dict, list[dict]]:
        """Return the fastest settings for `prompts`, each tried for at least `seconds`, and a record of each.

        First the kind of attention, then one setting after another with the best of those before.
        """
        best, records = sweep(
            [{"attention": name, **DEFAULTS} for name in (ATTENTIONS if on_gpu() else ATTENTIONS[3:])],
            lambda one: self.ask(prompts, one, seconds)["seconds"],
        )
        for axis, values in (AXES if on_gpu() else ON_A_CPU).items():
            # The best so far first: a sweep wants one that runs. It is not timed again.
            known = next(record["seconds"] for record in records if record["settings"] == best)
            before, settings = best, [best, *({**best, axis: value} for value in values)]
            best, tried = sweep(
                settings,
                lambda one: known if one == before else self.ask(prompts, one, seconds)["seconds"],  # noqa: B023
            )
            records += tried[1:]
        return best, records


class ContinuousSide(Side):
    """`generate_batch` with `settings` on `prompts`."""

    def __init__(self, name: str, continuous: Continuous, prompts: Sequence[list[int]], settings: dict) -> None:
        super().__init__(name, lambda: None)
        self._ask = lambda: continuous.ask(prompts, settings)
        self.first_seconds: float | None = None

    def run(self) -> float:
        """Have it answer once; return its seconds."""
        if on_gpu():
            import torch

            torch.cuda.empty_cache()  # both processes share the GPU's memory
        found = self._ask()
        self.answers, self.peak_gb = found["answers"], found["peak_gb"]
        self.first_seconds = self.first_seconds or found["first_seconds"]
        return found["seconds"]


def main(base: str, quantization: str, dtype: str, adapter: str = "") -> None:
    """Load the model, then answer requests; the last settings' cache and graphs are kept for the next call."""
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
    model, _ = plain_model(model_params(base, quantization, dtype), adapter or None)
    peer = _Peer(model.get_base_model() if adapter else model)

    def answer(request: dict) -> dict:
        try:
            return peer.answer(request)
        except Exception as error:  # settings fail in many ways
            kind = "" if isinstance(error, RuntimeError) else f"{type(error).__name__}: "
            return {"failure": f"{kind}{error}", "is_spoilt": peer.has_begun}

    Worker.serve(answer)


class _Peer:
    """A model with a manager of continuous batching that lives as long as settings and prompts stay."""

    def __init__(self, model: Any) -> None:
        self._model, self._started_for, self._first = model, None, 0.0
        self.has_begun = False
        """Whether the last settings got as far as generating: if they failed, this process is better ended."""

    def answer(self, request: dict) -> dict:
        wanted = (request["settings"], len(request["prompts"]), max(map(len, request["prompts"])))
        if wanted != self._started_for:
            self.has_begun, self._started_for = False, None
            self._model.destroy_cached_continuous_batching_manager()
            self._model.set_attn_implementation(f"paged|{request['settings']['attention']}")
            self.has_begun = True
            if on_gpu():
                import torch

                torch.cuda.reset_peak_memory_stats()
            self._first, _ = self._timed(request)
            self._started_for = wanted
        seconds = []
        while not seconds or sum(seconds) < request["at_least"]:
            took, answers = self._timed(request)
            seconds.append(took)
        return {"seconds": min(seconds), "first_seconds": self._first, "answers": answers, "peak_gb": _peak_gb()}

    def _timed(self, request: dict) -> tuple[float, list[list[int]]]:
        from transformers import ContinuousBatchingConfig, GenerationConfig

        config = ContinuousBatchingConfig(**_options(request))
        generation = GenerationConfig(
            max_new_tokens=request["new_tokens"],
            do_sample=False,
            eos_token_id=request["ends"],
            pad_token_id=request["pad"],
        )
        wait()
        started = time.perf_counter()
        with _at_most(request["limit"]):
            found = self._model.generate_batch(
                inputs=request["prompts"],
                generation_config=generation,
                continuous_batching_config=config,
                persistent_manager=True,
            )
        wait()
        took = time.perf_counter() - started
        outputs = list(found.values())
        failed = next((output.error for output in outputs if output.error), None)
        if failed or len(outputs) < len(request["prompts"]):
            raise RuntimeError(failed or f"no answers within {request['limit']} s, or its thread ended")
        return took, [up_to_end(output.generated_tokens, set(request["ends"])) for output in outputs]


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the main thread once `seconds` are over; `generate_batch` then returns what it has."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"more than {seconds} s")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _options(request: dict) -> dict[str, Any]:
    """Return what ContinuousBatchingConfig takes for the request's settings."""
    settings, block = request["settings"], request["settings"]["block size"]
    options: dict[str, Any] = {
        "block_size": block,
        "allow_block_sharing": settings["prefixes shared"],
        "max_memory_percent": MEMORY,
    }
    if block % 256:
        options["max_blocks_per_request"] = 0  # flash attention's decoding with a cache takes blocks of 256
    if settings["CUDA graphs"] != "-":
        options["use_cuda_graph"] = settings["CUDA graphs"]
    if settings["tokens a batch"] != "-":
        options["max_batch_tokens"] = settings["tokens a batch"]
    if not on_gpu():  # it would take all memory
        blocks = sum(math.ceil((len(prompt) + request["new_tokens"]) / block) + 1 for prompt in request["prompts"])
        options |= {"num_blocks": blocks, "max_batch_tokens": options.get("max_batch_tokens", 512)}
    return options


def _peak_gb() -> float | None:
    if not on_gpu():
        return None
    import torch

    return torch.cuda.max_memory_allocated() / 1e9


if __name__ == "__main__":
    main(*sys.argv[1:])
