"""llama.cpp, by llama-cpp-python, in a process of its own: `python llama_cpp_worker.py JOB.json ANSWERS.jsonl`.

Needs nothing of this project, since it may run in another environment. What a job and its answers hold: `engines.py`.
What llama.cpp cannot load, or has no memory for, may end this process.
"""

import contextlib
import ctypes
import json
import os
import sys
import time
from typing import Any


def main(job_file: str, answers_file: str) -> None:
    """Quantise a file, or ask the model in it, as the job says."""
    with open(job_file, encoding="utf-8") as file:
        job = json.load(file)
    with open(answers_file, "w", encoding="utf-8") as file:

        def say(**record: Any) -> None:
            file.write(json.dumps(record) + "\n")
            file.flush()

        if "quantise" in job:
            say(**quantised(**job["quantise"]))
        else:
            ask(job, say)


def quantised(source: str, target: str, file_type: str) -> dict[str, Any]:
    """Quantise a GGUF file; return what llama.cpp returned, which is 0 where it is done."""
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_{file_type}")
    params.nthread = os.cpu_count() or 1
    code = llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params))
    return {"returned": code, "version": llama_cpp.__version__}


def ask(job: dict[str, Any], say: Any) -> None:
    """Say the engine's token ids, then its answers, one question after the other, then MMLU's log-likelihoods."""
    import llama_cpp
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    started = time.monotonic()
    model = llama_cpp.Llama(
        job["file"], n_ctx=job["context"], n_threads=job["threads"], n_threads_batch=job["threads"], verbose=False
    )
    # llama-cpp-python's own choice of a format by the template's text may add a system message: the file's template is
    # what llama.cpp's server takes.
    eos, bos = model.token_eos(), model.token_bos()
    template = Jinja2ChatFormatter(
        model.metadata["tokenizer.chat_template"],
        eos_token=_text(model, eos),
        bos_token=_text(model, bos),
        stop_token_ids=[eos],
    )
    prompts = [
        model.tokenize(template(messages=messages, **job["variables"]).prompt.encode(), add_bos=False, special=True)
        for messages in job["messages"]
    ]
    vocabulary = llama_cpp.llama_model_get_vocab(model.model)
    ends = {token for token in range(model.n_vocab()) if llama_cpp.llama_vocab_is_eog(vocabulary, token)}
    say(
        engine="llama.cpp",
        version=f"llama-cpp-python {llama_cpp.__version__}",
        dtype=job["dtype"],
        device="cpu",
        prompts=prompts,
        stop=eos,
        also_stop=sorted(ends - {eos}),
        loading_seconds=time.monotonic() - started,
    )
    if prompts != job["expected"] or eos != job["end_id"]:
        return
    started = time.monotonic()
    for position, prompt in enumerate(prompts):
        say(position=position, ids=_answer(model, prompt, ends, job["max_new_tokens"]))
    say(seconds=time.monotonic() - started)
    for position, prompt in enumerate(job["mmlu"]["prompts"]):
        say(mmlu=position, log_likelihoods=_log_likelihoods(model, prompt, job["mmlu"]["options"]))
    say(done=True)


def _text(model: Any, token: int) -> str:
    import llama_cpp

    if token < 0:
        return ""
    return llama_cpp.llama_vocab_get_text(llama_cpp.llama_model_get_vocab(model.model), token).decode()


def _answer(model: Any, prompt: list[int], ends: set[int], most: int) -> list[int]:
    """Return the greedy answer, its end token included. What the prompt shares with the last one is not read again."""
    ids: list[int] = []
    # Closed, so that the model keeps what it has read for the next question.
    with contextlib.closing(model.generate(prompt, temp=0.0, repeat_penalty=1.0)) as tokens:
        for token in tokens:
            ids.append(token)
            if token in ends or len(ids) == most:
                return ids
    return ids


def _log_likelihoods(model: Any, prompt: list[int], options: list[int]) -> list[float]:
    import llama_cpp
    import numpy as np

    read = model.input_ids[: model.n_tokens].tolist()
    shared = next((place for place, (one, other) in enumerate(zip(read, prompt)) if one != other), len(read))
    model.n_tokens = min(shared, len(prompt) - 1)
    model.eval(prompt[model.n_tokens :])
    row = llama_cpp.llama_get_logits_ith(model.ctx, -1)
    logits = np.ctypeslib.as_array(row, shape=(model.n_vocab(),)).astype(np.float64)
    logits -= logits.max() + np.log(np.exp(logits - logits.max()).sum())
    return [round(float(logits[option]), 6) for option in options]


if __name__ == "__main__":
    main(*sys.argv[1:])
