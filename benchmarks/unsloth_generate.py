"""Generation with unsloth, in a process of its own: importing unsloth changes transformers for all that follows.

python -m benchmarks.unsloth_generate BASE QUANTIZATION DTYPE ADAPTER MAX_LENGTH     started by bench_predict
"""

import sys
import time


def main(base: str, quantization: str, dtype: str, adapter: str, longest: str) -> None:
    """Load the base and the adapter, then answer requests of prompts with seconds and answers."""
    from unsloth import FastLanguageModel  # before everything else

    # isort: split
    import torch
    from peft import PeftConfig, set_peft_model_state_dict
    from safetensors.torch import load_file

    from benchmarks.machine import wait
    from benchmarks.material import generate_batch, in_batches
    from benchmarks.measuring import Worker
    from testkit.random_models import source_folder

    model, _ = FastLanguageModel.from_pretrained(
        model_name=source_folder(base),
        max_seq_length=max(2048, int(longest)),
        dtype=getattr(torch, dtype),
        load_in_4bit=quantization == "4bit",
    )
    # An adapter made by unsloth, with its own kernels, and the weights of ours.
    config = PeftConfig.from_pretrained(adapter)
    model = FastLanguageModel.get_peft_model(
        model,
        r=config.r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=sorted(config.target_modules),
    )
    unused = set_peft_model_state_dict(model, load_file(f"{adapter}/adapter_model.safetensors")).unexpected_keys
    if unused:
        raise RuntimeError(f"unsloth's model takes no {unused[0]}")
    FastLanguageModel.for_inference(model)

    def answer(request: dict) -> dict:
        wait()
        started = time.perf_counter()
        try:
            answers = in_batches(
                request["prompts"],
                request["size"],
                lambda batch: generate_batch(model, batch, request["new_tokens"], request["ends"], request["pad"]),
            )
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return {"seconds": 1e9, "answers": None}
        wait()
        seconds = time.perf_counter() - started
        # unsloth keeps a batch's keys and values until the next prompt: the other sides need that memory.
        generate_batch(model, request["prompts"][:1], 1, request["ends"], request["pad"])
        torch.cuda.empty_cache()
        return {"seconds": seconds, "answers": answers}

    Worker.serve(answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
