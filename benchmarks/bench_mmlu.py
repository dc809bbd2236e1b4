"""MMLU by log-likelihood: the stage's path against the paper's four prompts a question and lm-evaluation-harness.

    python -m benchmarks.bench_mmlu [--questions N] [--mmlu PATH] [--model FOLDER --quantization 4bit] [--save]
    python -m benchmarks.bench_mmlu --whole --against FOLDER [--mmlu PATH] [--save]

(a) the paper's: each option's full prompt through the model, and the sum of the option's log-likelihoods; (b)
lm-evaluation-harness (`pip install --no-deps lm_eval` is enough for this): `loglikelihood` of its HFLM on the same
weights, prompts and options, at the best of some batch sizes. Both choose as this project does, or it is said how
often. The runs alternate; one of each on some of the questions warms up and is not counted. Loading is not counted;
tokenising is, on all sides. The harness answers `--peer-questions` of the questions, spread over all lengths, and so do
we beside it; our own time of all is the first side.

`--whole` times the stage's command instead, from its start to its end, by this build and by the checkout in FOLDER.
"""

import argparse
import dataclasses
import functools
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import dtype_name, has, on_gpu, rates
from benchmarks.material import (
    SAMPLE_MMLU,
    model_name,
    model_options,
    model_params,
    numbers,
    params,
    plain_model,
    sizes,
    spread,
)
from benchmarks.measuring import OURS, REPOSITORY, Side, bound, compared, in_turns, nearly_same, result, same, sweep
from benchmarks.projects import project_of, run_stage
from benchmarks.results import save, show
from benchmarks.targets import TARGETS, TODAY, row
from testkit.random_models import save_random_adapter, source_folder
from text2sql.core.dependencies import Key
from text2sql.core.errors import UserError
from text2sql.core.files import read_jsonl
from text2sql.core.journal import Journal
from text2sql.core.params import ModelParams
from text2sql.data.mmlu import SUBJECT_CATEGORY, Question, open_mmlu
from text2sql.evaluation.batching import JournaledRun
from text2sql.evaluation.mmlu import answer_questions
from text2sql.model.bases import EMBEDDED_BASE
from text2sql.model.language_model import LanguageModel
from text2sql.prompts.messages import OPTIONS, mmlu_prompt

PAPER = "(a) the paper's four full prompts"
HARNESS = "(b) lm-evaluation-harness"
OURS_OF_PART = f"{OURS}, the harness's questions"
# On how many questions, or four of the largest batches, sides warm up and batch sizes are tried.
SEARCHED = 32
GOALS = {PAPER: 12, HARNESS: 3}


def measure(
    short: bool = False,
    questions: int | None = None,
    mmlu: str | Path = SAMPLE_MMLU,
    shots: int | None = None,
    model: str = EMBEDDED_BASE,
    quantization: str = "none",
    dtype: str | None = None,
    adapter: bool = False,
    batch_size: int | None = None,
    peer_batch_sizes: Sequence[int] | None = None,
    peer_questions: int | None = None,
    paper_questions: int | None = None,
    repeats: int = 3,
    peers: Sequence[str] = "ab",
    so_far: Callable[[dict], None] | None = None,
) -> dict:
    """Return the times of all sides. Raises RuntimeError where choices in float32 differ by more than rounding.

    `so_far` gets the same of the sides that have run, after each run.
    """
    settings = params()
    gpu = on_gpu()
    questions = questions or (14042 if gpu else 6 if short else 300)
    shots = settings.mmlu.shots if shots is None else shots
    batch_size = batch_size or (512 if gpu else settings.mmlu.batch_size)
    peer_batch_sizes = peer_batch_sizes or ((32, 64, 128, 256) if gpu else (8,) if short else (8, 16))
    paper_questions = paper_questions or (64 if gpu else 2 if short else 24)
    repeats = 1 if short else repeats
    chosen = model_params(model, quantization, dtype)
    asked, examples, repeated = mmlu_questions(mmlu, questions, shots)
    texts = [mmlu_prompt(question, examples[question.subject]) for question in asked]
    notes = [f"The data hold {len(asked) - repeated} questions: gone through again."] if repeated else []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = save_random_adapter(model, Path(folder) / "adapter") if adapter else None
        ours_model = LanguageModel(chosen, path)

        def ours_of(positions: Sequence[int]) -> list[int]:
            return our_choices(ours_model, [asked[position] for position in positions], examples, batch_size)

        some = spread(texts, max(SEARCHED, 4 * max(peer_batch_sizes)))
        sides = {OURS: Side(OURS, lambda: ours_of(range(len(asked))), warm_up=Side("", lambda: ours_of(some)).run())}
        notes.append(f"Warm-up of {OURS} (not counted above): {sides[OURS].warm_up:.3g} s for {len(some)} questions.")
        parts, sweeps = {OURS: list(range(len(asked)))}, {}
        if any(peer in peers for peer in "ab"):
            plain, tokenizer = plain_model(chosen, path)
        if "a" in peers:
            part = parts[PAPER] = spread(texts, paper_questions)
            sides[PAPER] = Side(
                PAPER,
                lambda: [_choice(four_prompts(plain, tokenizer, texts[position])) for position in part],
                scale=len(asked) / len(part),
                note=f"{len(part)} questions, spread over all lengths, scaled linearly",
            )
            if len(part) < len(asked):
                notes.append(f"The paper's four prompts: {sides[PAPER].note}.")
        if "b" in peers and has("lm_eval"):
            harness = Harness(plain, tokenizer)
            harness.choices(texts[:2], 2)  # lazy loading at the first call
            searched = [texts[position] for position in some]
            tried = [{"batch size": size} for size in sorted({min(size, len(some)) for size in peer_batch_sizes})]
            best, sweeps[HARNESS] = sweep(
                tried, lambda one: Side("", lambda: harness.choices(searched, one["batch size"])).run()
            )
            shared = parts[HARNESS] = spread(texts, peer_questions or len(asked))
            sides[HARNESS] = Side(
                HARNESS,
                lambda: harness.choices([texts[position] for position in shared], best["batch size"]),
                warm_up=0.0,
                note=f"batch size {best['batch size']}, the fastest on {len(some)} questions",
            )
            if len(shared) < len(asked):
                parts[OURS_OF_PART] = shared
                sides[OURS_OF_PART] = Side(OURS_OF_PART, lambda: ours_of(shared), warm_up=0.0)
            notes.append(f"lm-evaluation-harness: {sides[HARNESS].note}; {len(shared):,} questions, ours beside it.")
        elif "b" in peers:
            notes.append("lm-evaluation-harness: not measured; `pip install --no-deps lm_eval` gives what it takes.")
        ids = ours_model.text_ids(texts)
        counts = {
            "questions": len(asked),
            "prompt_tokens": sum(map(len, ids)),
            "tokens_read_once": least_tokens(asked, ids),
        }
        what = f"{len(asked):,} questions of {len(examples)} subjects, {shots}-shot, {chosen.dtype}"
        what += ", a random adapter" if adapter else ""

        def found() -> dict:
            return _result(chosen, sides, parts, counts, what, notes, sweeps)

        in_turns(list(sides.values()), repeats, so_far and (lambda: so_far(found())))
        return found()


def _result(
    model: ModelParams,
    sides: dict[str, Side],
    parts: dict[str, list[int]],
    counts: dict,
    what: str,
    notes: Sequence[str],
    sweeps: dict[str, list[dict]],
) -> dict:
    """Return what is known of those `sides` that have run; `parts` are the places of the questions each answers."""
    missing = [f"{name}: not measured." for name, side in sides.items() if not side.seconds]
    sides = {name: side for name, side in sides.items() if side.seconds}
    comparisons, rows = [], []
    for name in (PAPER, HARNESS):
        if name not in sides:
            continue
        ours = sides.get(OURS_OF_PART, sides[OURS]) if name == HARNESS else sides[OURS]
        answer_at = dict(zip(parts[ours.name], ours.answers, strict=True))
        expected = [answer_at[position] for position in parts[name]]
        answers = same(sides[name].answers, expected)
        comparisons.append(compared(ours, sides[name], GOALS[name], answers))
        target = f"mmlu-{_size(model)}-harness"
        if name == HARNESS and target in TARGETS and model.dtype == "bfloat16":
            memory = (ours.peak_gb, sides[name].peak_gb)
            rows.append(row(target, ours.median, sides[name].median, gb=memory, answers=answers, peer_name=name))
        if model.dtype == "float32" and not nearly_same(sides[name].answers, expected):
            raise RuntimeError(f"{name}: choices in float32 differ: {answers}")
    ours = sides[OURS]
    size, rate = sizes(model.base, model.quantization, model.dtype), rates(model.dtype)
    operations = 2 * size["body"] * counts["tokens_read_once"] + 2 * size["head"] * counts["questions"]
    seconds = operations / rate["operations_per_second"]
    target = f"mmlu-{_size(model)}-bound"
    if target in TARGETS and counts["questions"] == 14042 and on_gpu() and model.dtype == "bfloat16":
        rows.append(row(target, ours.median, share=seconds / ours.median, gb=(ours.peak_gb, None)))
    return result(
        f"mmlu {model_name(model.base, model.quantization)}",
        what,
        counts,
        list(sides.values()),
        comparisons,
        bound=bound(
            "the operations of all prompts, each subject's shots once, at the measured rate of a large product",
            seconds,
            ours,
        ),
        rows=rows,
        sweeps=sweeps,
        questions_per_second=round(counts["questions"] / ours.median, 1),
        rates=rate,
        notes=[*notes, *missing],
    )


def _size(model: ModelParams) -> str:
    """Return what targets call the model: 135m, 0.5b, 1.5b; its own name where they do not know it."""
    if model.base == EMBEDDED_BASE:
        return "135m"
    return next((size for size in ("0.5b", "1.5b") if f"coder-{size}" in model.base.lower()), model.base)


def measure_whole(
    against: Path, mmlu: str | Path, model: str = EMBEDDED_BASE, batch_size: int | None = None, repeats: int = 2
) -> dict:
    """Return the seconds of `python -m stages.eval_mmlu base` over all questions, by this build and by `against`."""
    asked, _, _ = mmlu_questions(mmlu, 14042, 1)
    subjects: dict[str, list[str]] = {}
    for subject in dict.fromkeys(question.subject for question in asked):
        subjects.setdefault(SUBJECT_CATEGORY[subject], []).append(subject)
    changes = {
        "model.base": str(source_folder(model)),  # a folder, which any build takes
        "model.files": str(source_folder(model)),
        "model.dtype": dtype_name(),
        "data.mmlu": str(Path(mmlu).resolve()),
        "mmlu.subjects": subjects,
        "mmlu.limit": None,
        "mmlu.batch_size": batch_size or 512,
    }
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        sides = []
        for number, (name, checkout) in enumerate(((OURS, REPOSITORY), (TODAY, against))):
            project = project_of(checkout, Path(folder) / str(number), changes)
            sides.append(Side(name, functools.partial(_whole_command, project)))
        in_turns(sides, repeats)
    ours, before = sides
    answers = same(before.answers, ours.answers)
    rows = []
    if _size(model_params(model)) == "135m" and len(ours.answers) == 14042 and on_gpu():
        rows = [row("mmlu-135m-whole", ours.median, before.median, answers=answers)]
    what = f"python -m stages.eval_mmlu base, {len(ours.answers):,} questions, whole command, {dtype_name()}"
    comparisons = [compared(ours, before, 5, answers)]
    counts = {"questions": len(ours.answers)}
    return result(f"mmlu {model_name(model, 'none')}, whole command", what, counts, sides, comparisons, rows=rows)


def _whole_command(project: Path) -> list[int]:
    run_stage(project, "eval_mmlu", "base")
    return [record["choice"] for record in read_jsonl(project / "data/verdicts/mmlu/base.jsonl")]


def mmlu_questions(path: str | Path, count: int, shots: int) -> tuple[list[Question], dict[str, list[Question]], int]:
    """Return `count` test questions, the worked examples by subject, and how many of the questions are repeats.

    All subjects that `path` has; fewer questions are shared out evenly among them, more go through the data again.
    """
    with open_mmlu(path) as source:
        by_subject = {}
        examples = {}
        for subject in SUBJECT_CATEGORY:
            try:
                by_subject[subject] = source.questions(subject, "test")
                examples[subject] = source.questions(subject, "dev", shots)
            except UserError as error:
                if "no such file" not in str(error):
                    raise
    if not by_subject:
        raise UserError(f"{path}: holds none of MMLU's subjects")
    held = sum(map(len, by_subject.values()))
    chosen = [question for questions in by_subject.values() for question in questions]
    if count < held:
        # Every n-th question: of all subjects, as many as their share.
        chosen = [chosen[index * held // count] for index in range(count)]
    repeats = max(0, count - held)
    for number in range(repeats):
        question = chosen[number % held]
        chosen.append(dataclasses.replace(question, question=f"({number // held + 2}) {question.question}"))
    used = {question.subject for question in chosen}
    return chosen, {subject: found for subject, found in examples.items() if subject in used}, repeats


def our_choices(
    model: LanguageModel, questions: Sequence[Question], shots: dict[str, list[Question]], batch_size: int
) -> list[int]:
    """Return the choices by the stage's path."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        run = JournaledRun(Journal("bench", Key.of({}), 0, Path(folder)), OURS)
        choices = answer_questions(model, questions, shots, SUBJECT_CATEGORY, batch_size, run)
    return [record["choice"] for record in choices.records]


def four_prompts(model: Any, tokenizer: Any, text: str) -> list[float]:
    """Return the log-likelihood of each option as the paper computes it: a pass over prompt and option for each."""
    import torch

    begins = len(tokenizer(text)["input_ids"])
    found = []
    for option in OPTIONS:
        ids = torch.tensor([tokenizer(text + option)["input_ids"]], device=model.device)
        with torch.inference_mode():
            logits = torch.log_softmax(model(input_ids=ids).logits[0].float(), dim=-1)
        answer = ids[0, begins:]
        found.append(logits[begins - 1 : -1].gather(1, answer[:, None]).sum().item())
    return found


class Harness:
    """lm-evaluation-harness's model around one that is loaded."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        import logging

        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        from lm_eval.models.huggingface import HFLM

        self._harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)

    def choices(self, texts: Sequence[str], batch_size: int) -> list[int]:
        """Return the choice for each prompt. It runs each prompt once, and takes all options from there."""
        from lm_eval.api.instance import Instance

        requests = [
            Instance("loglikelihood", {}, (text, option), number)
            for text in texts
            for number, option in enumerate(OPTIONS)
        ]
        self._harness.batch_size_per_gpu = batch_size
        found = [likelihood for likelihood, _ in self._harness.loglikelihood(requests, disable_tqdm=True)]
        return [_choice(found[start : start + len(OPTIONS)]) for start in range(0, len(found), len(OPTIONS))]


def least_tokens(questions: Sequence[Question], ids: Sequence[list[int]]) -> int:
    """Return how many tokens have to be read at least: a subject's shared prefix once."""
    tokens = 0
    for subject in {question.subject for question in questions}:
        members = [one for one, question in zip(ids, questions, strict=True) if question.subject == subject]
        shared = len(os.path.commonprefix(members)) if len(members) > 1 else 0
        tokens += shared + sum(len(one) - shared for one in members)
    return tokens


def _choice(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def main(arguments: Sequence[str]) -> None:
    """Measure as `arguments` say, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model_options(parser)
    parser.add_argument("--questions", type=int, metavar="N", help="default: 14042 on a GPU, 300 on a CPU")
    parser.add_argument("--mmlu", default=SAMPLE_MMLU, metavar="PATH")
    parser.add_argument("--shots", type=int, metavar="N", help="default: params.yaml's")
    parser.add_argument("--adapter", action="store_true", help="with a random adapter; default: the base alone")
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="of this project; default: 512 on a GPU, params.yaml's on a CPU"
    )
    parser.add_argument("--peer-batch-sizes", type=numbers, metavar="N,N,…", help="tried for (b)")
    parser.add_argument("--peer-questions", type=int, metavar="N", help="how many (b) answers; default: all")
    parser.add_argument("--paper-questions", type=int, metavar="N", help="how many (a) answers")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--peers", default="ab", help="which of a and b (default: ab)")
    parser.add_argument("--whole", action="store_true", help="the stage's whole command, by two builds")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="a checkout of the other build")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--save", action="store_true", help="merge into benchmarks/results")
    options = vars(parser.parse_args(arguments))
    saved, whole, against = options.pop("save"), options.pop("whole"), options.pop("against")
    if whole:
        if against is None:
            parser.error("--whole needs --against")
        taken = {name: options[name] for name in ("mmlu", "model", "batch_size", "repeats")}
        show(measure_whole(against, **taken), saved)
        return
    show(measure(**options, so_far=(lambda found: save([found])) if saved else None), saved)


if __name__ == "__main__":
    main(sys.argv[1:])
