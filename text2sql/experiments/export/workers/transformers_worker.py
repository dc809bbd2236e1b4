"""An export as anyone loads it by transformers and PEFT: `python transformers_worker.py JOB.json ANSWERS.jsonl`.

A process of its own, without this project's code: its tokenizer, template, generation_config and weights are those in
the export's folder. What a job and its answers hold: `engines.py`.
"""

import json
import sys
import time
from typing import Any

_SPARE = 8  # prompts of MMLU in a batch


def main(job_file: str, answers_file: str) -> None:
    """Ask the export in `job["folder"]`, an adapter on `job["base"]` or a whole model where that is null."""
    with open(job_file, encoding="utf-8") as file:
        job = json.load(file)
    with open(answers_file, "w", encoding="utf-8") as file:

        def say(**record: Any) -> None:
            file.write(json.dumps(record) + "\n")
            file.flush()

        ask(job, say)


def ask(job: dict[str, Any], say: Any) -> None:
    """Say the engine's token ids, then its answers in batches, then MMLU's log-likelihoods."""
    import torch
    import transformers
    from transformers import AutoTokenizer, GenerationConfig

    transformers.utils.logging.disable_progress_bar()
    started = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(job["folder"], trust_remote_code=False)
    config = GenerationConfig.from_pretrained(job["folder"])
    texts = [
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **job["variables"])
        for messages in job["messages"]
    ]
    prompts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    stops = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    model = _load(job)
    say(
        engine="transformers",
        version=f"transformers {transformers.__version__}",
        dtype=str(model.dtype).removeprefix("torch."),
        device=torch.cuda.get_device_name() if model.device.type == "cuda" else "cpu",
        prompts=prompts,
        stop=stops[0],
        also_stop=sorted(set(stops[1:])),
        loading_seconds=time.monotonic() - started,
    )
    if prompts != job["expected"] or stops[0] != job["end_id"]:
        return
    started = time.monotonic()
    pad = config.pad_token_id if config.pad_token_id is not None else stops[0]
    with torch.inference_mode():
        for batch in _batches([len(prompt) for prompt in prompts], job["batch_size"]):
            inputs = _padded(torch, [prompts[position] for position in batch], pad, model.device)
            found = model.generate(**inputs, generation_config=config, max_new_tokens=job["max_new_tokens"])
            for position, row in zip(batch, found[:, inputs["input_ids"].shape[1] :].tolist()):
                say(position=position, ids=_up_to_end(row, stops))
        say(seconds=time.monotonic() - started)
        asked, options = job["mmlu"]["prompts"], job["mmlu"]["options"]
        for batch in _batches([len(prompt) for prompt in asked], _SPARE):
            inputs = _padded(torch, [asked[position] for position in batch], pad, model.device)
            places = (inputs["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
            logits = model(**inputs, position_ids=places, logits_to_keep=1, use_cache=False).logits[:, -1]
            rows = torch.log_softmax(logits.float(), dim=-1)[:, options].tolist()
            for position, row in zip(batch, rows):
                say(mmlu=position, log_likelihoods=[round(value, 6) for value in row])
    say(done=True)


def _load(job: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    dtype = getattr(torch, job["dtype"])
    options = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False}
    if torch.cuda.is_available():
        options["device_map"] = {"": torch.cuda.current_device()}
    if job["base"] is None:
        return AutoModelForCausalLM.from_pretrained(job["folder"], **options).eval()
    from peft import PeftModel

    if job["in_4bit"]:  # as it was trained and evaluated
        from transformers import BitsAndBytesConfig

        settings = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": dtype}
        options["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True, **settings)
    base = AutoModelForCausalLM.from_pretrained(job["base"], revision=job["revision"], **options)
    return PeftModel.from_pretrained(base, job["folder"]).eval()


def _batches(lengths: list[int], size: int) -> list[list[int]]:
    """Return positions in batches, the longest first."""
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    return [order[start : start + size] for start in range(0, len(order), size)]


def _padded(torch: Any, prompts: list[list[int]], pad: int, device: Any) -> dict[str, Any]:
    """Return ids and mask of `prompts`, padded on the left."""
    width = max(map(len, prompts))
    ids = [[pad] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(mask, device=device)}


def _up_to_end(ids: list[int], ends: list[int]) -> list[int]:
    return next((ids[: place + 1] for place, token in enumerate(ids) if token in ends), ids)


if __name__ == "__main__":
    main(*sys.argv[1:])
