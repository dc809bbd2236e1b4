"""vLLM in a process of its own: `python vllm_worker.py JOB.json ANSWERS.jsonl`.

Needs nothing of this project: vLLM pins other versions of PyTorch and lives in an environment of its own. It gives no
log-likelihoods of chosen tokens, so that MMLU is not asked. What a job and its answers hold: `engines.py`.
"""

import json
import sys
import time
from typing import Any


def main(job_file: str, answers_file: str) -> None:
    """Ask the export in `job["folder"]`: an adapter on `job["base"]`, or a whole model where that is null."""
    with open(job_file, encoding="utf-8") as file:
        job = json.load(file)
    with open(answers_file, "w", encoding="utf-8") as file:

        def say(**record: Any) -> None:
            file.write(json.dumps(record) + "\n")
            file.flush()

        ask(job, say)


def ask(job: dict[str, Any], say: Any) -> None:
    """Say the engine's token ids, then all answers."""
    import vllm
    from vllm.lora.request import LoRARequest

    started = time.monotonic()
    options: dict[str, Any] = {"model": job["base"] or job["folder"], "dtype": job["dtype"], "seed": 0}
    # Of memory, on a CPU too; by default nearly all.
    options |= {"kv_cache_memory_bytes": 1 << 30, "gpu_memory_utilization": 0.3}
    options |= {"tokenizer": job["folder"], "max_model_len": job["context"], "generation_config": job["folder"]}
    if job["base"] is not None:
        options |= {"enable_lora": True, "max_lora_rank": job["max_lora_rank"], "revision": job["revision"]}
    model = vllm.LLM(**options)
    tokenizer = model.get_tokenizer()
    texts = [
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **job["variables"])
        for messages in job["messages"]
    ]
    prompts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    config = model.llm_engine.model_config.try_get_generation_config()
    stops = config.get("eos_token_id", tokenizer.eos_token_id)
    stops = stops if isinstance(stops, list) else [stops]
    say(
        engine="vllm",
        version=f"vllm {vllm.__version__}",
        dtype=job["dtype"],
        device="cpu",
        prompts=prompts,
        stop=stops[0],
        also_stop=sorted({*stops[1:], tokenizer.eos_token_id} - {stops[0]}),
        loading_seconds=time.monotonic() - started,
    )
    if prompts != job["expected"] or stops[0] != job["end_id"]:
        return
    started = time.monotonic()
    sampling = vllm.SamplingParams(temperature=0, max_tokens=job["max_new_tokens"], stop_token_ids=stops)
    adapter = LoRARequest("text2sql", 1, job["folder"]) if job["base"] is not None else None
    asked = [vllm.TokensPrompt(prompt_token_ids=prompt) for prompt in prompts]
    for position, found in enumerate(model.generate(asked, sampling, lora_request=adapter)):
        say(position=position, ids=list(found.outputs[0].token_ids))
    say(seconds=time.monotonic() - started)
    say(done=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
