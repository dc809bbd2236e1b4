"""Both loaders on a real GPU: they train, save, reload and answer, in 16 and in 4 bit, on SmolLM2 and at 3 B.

pytest tests/gpu -s      prints the shares and figures that docs/gpu.md quotes
"""

import contextlib
import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from text2sql.model.bases import EMBEDDED_BASE

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]

EVERY = {"r": 16, "alpha": 16, "dropout": 0}
EVERY["target_modules"] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RECIPE = {"lr": 1e-3, "epochs": 2, "batch_size": 4, "grad_accum": 2, "max_seq_len": 512, "lora": EVERY}
SMALLEST = {**RECIPE, "lr": 2e-8, "epochs": 0.1, "scheduler": "constant", "warmup": 0}
UNRECORDABLE = "This model cannot be recorded as a CUDA graph"
COMBINATIONS = [(loader, bits) for loader in ("transformers", "unsloth") for bits in ("none", "4bit")]


class Work:
    """Processes on the GPU, several at a time: most of a process's life is imports and launching kernels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: dict[str, subprocess.Popen] = {}

    def start(self, name: str, launcher: tuple[str, ...] = (), **work) -> None:
        """Start `work` under `name`."""
        missing = _missing(work["model"], work.get("recipe", RECIPE))
        if missing:
            pytest.skip(f"{', '.join(missing)} not installed")
        (self.folder / f"{name}.json").write_text(json.dumps(work))
        log = (self.folder / f"{name}.log").open("w")
        command = [sys.executable, *launcher, "-m", "testkit.gpu_work", str(self.folder / f"{name}.json")]
        # Each with its own place for the code that unsloth generates.
        environment = {**os.environ, "UNSLOTH_COMPILE_LOCATION": str(self.folder / f"{name}-unsloth")}
        self._processes[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

    def train(self, name: str, loader: str = "transformers", bits: str = "none", base=EMBEDDED_BASE, **work) -> None:
        """Start a training under `name`."""
        launcher = work.pop("launcher", ())
        self.start(
            name,
            launcher,
            do="train",
            model=_model(loader, bits, base, work.pop("dtype", "bfloat16")),
            recipe={**work.pop("recipe", RECIPE)},
            examples=work.pop("examples", 96),
            checkpoints=str(self.folder / f"{name}-checkpoints"),
            out=str(self.folder / name),
            **work,
        )

    def generate(self, name: str, adapters, loader="transformers", bits="none", base=EMBEDDED_BASE, **work) -> None:
        """Start a generation under `name`."""
        self.start(
            name,
            do="generate",
            model=_model(loader, bits, base, work.pop("dtype", "bfloat16")),
            adapters=[adapter and str(self.folder / adapter) for adapter in adapters],
            questions=work.pop("questions", 96),
            max_new_tokens=work.pop("max_new_tokens", 48),
            batch_sizes=work.pop("batch_sizes", [96]),
        )

    def result(self, name: str) -> dict:
        """Wait for `name`, and return what came of it."""
        code = self._processes[name].wait()
        log = (self.folder / f"{name}.log").read_text()
        assert code == 0, f"{name}: exit code {code}\n{log[-3000:]}"
        return json.loads((self.folder / f"{name}.result.json").read_text())

    def is_running(self, name: str) -> bool:
        return self._processes[name].poll() is None

    def kill(self, name: str) -> None:
        self._processes[name].kill()
        self._processes[name].wait()

    def output(self, name: str) -> str:
        """Wait for `name`, and return what it printed."""
        self.result(name)
        return (self.folder / f"{name}.log").read_text()

    def answers(self, name: str, adapter: str | None, size: int = 96) -> list[str]:
        """Return the answers that `name` gave with `adapter`."""
        return self.result(name)["answers"][f"{adapter and self.folder / adapter} {size}"]


def _missing(model: dict, recipe: dict) -> list[str]:
    """Return the packages that `model` or the optimizer of `recipe` needs, and that are not installed."""
    needs = {
        "unsloth": model["loader"] == "unsloth",
        "bitsandbytes": model["quantization"] == "4bit" or recipe.get("optim", "").endswith("_8bit"),
    }
    return [package for package, needed in needs.items() if needed and importlib.util.find_spec(package) is None]


def _model(loader: str, bits: str, base, dtype: str) -> dict:
    return {"base": str(base), "loader": loader, "quantization": bits, "dtype": dtype}


def share(one: list, other: list) -> float:
    """Return the share of equal answers."""
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Work:
    """A folder of work to be done."""
    return Work(tmp_path_factory.mktemp("gpu"))


@pytest.fixture(scope="module")
def trained(work) -> Work:
    """All trainings of SmolLM2, under way at once."""
    for loader, bits in COMBINATIONS:
        if not _missing(_model(loader, bits, "", ""), RECIPE):
            work.train(f"{loader}-{bits}", loader, bits)
    work.train("recorded", dtype="bfloat16")
    work.train("unrecorded", dtype="bfloat16", recorded=False)
    work.train("float32", dtype="float32")
    return work


def test_a_recorded_training_has_the_loss_curve_of_a_plain_one(trained):
    """Shapes are padded differently, and FlashAttention computes bfloat16 alone."""
    recorded, plain, exact = (trained.result(name) for name in ("recorded", "unrecorded", "float32"))
    assert recorded["recorded"] and recorded["recordings"] and not plain["recorded"] and not exact["recorded"]
    for name, other in (("not recorded", plain), ("float32", exact)):
        differences = [abs(a - b) / b for a, b in zip(recorded["losses"], other["losses"], strict=True)]
        mean = sum(differences) / len(differences)
        print(f"\n{name}: loss curves differ by {mean:.4%} a step, at most by {max(differences):.4%}")
        assert mean < 0.01


@pytest.mark.parametrize("optim", ["adamw_8bit", "paged_adamw_8bit"])
def test_an_8_bit_optimizer_of_one_tensor_trains_as_tensor_by_tensor(work, optim):
    recipe = {**RECIPE, "optim": optim}
    work.train(f"one-{optim}", dtype="float32", recipe=recipe)
    work.train(f"many-{optim}", dtype="float32", recipe=recipe, recorded=False, flat=False)
    one, many = (work.result(f"{name}-{optim}")["losses"] for name in ("one", "many"))
    differences = [abs(a - b) / b for a, b in zip(one, many, strict=True)]
    print(f"\n{optim}: loss curves differ by {sum(differences) / len(differences):.4%} a step")
    assert sum(differences) / len(differences) < 0.01


def test_a_training_that_cannot_be_recorded_goes_on_without(work):
    for name, looks in (("recordable", False), ("unrecordable", True)):
        work.train(name, dtype="bfloat16", examples=48, looks=looks)
    assert work.result("unrecordable")["losses"] == pytest.approx(work.result("recordable")["losses"], rel=1e-2)
    assert work.output("unrecordable").count(UNRECORDABLE) == 1
    assert UNRECORDABLE not in work.output("recordable")


def test_a_training_goes_on_where_not_even_one_example_fits(work):
    """One of 1,600 tokens keeps some 6 GB for the backward pass in float32, or 0.6 GB with gradient checkpointing."""
    recipe = {**RECIPE, "max_seq_len": 2048, "batch_size": 1}
    long = {"dtype": "float32", "recipe": recipe, "examples": 16, "more_words": 800}
    work.train("room", **long)
    work.train("no-room", **long, memory_gb=3.5)
    assert work.result("no-room")["losses"] == pytest.approx(work.result("room")["losses"], rel=0.01)
    assert work.result("no-room")["reserved_gb"] <= 3.5 < work.result("room")["reserved_gb"]
    output = work.output("no-room")
    assert output.count("Out of memory at one example a pass: going on with gradient checkpointing") == 1
    assert UNRECORDABLE not in output and "without recording" not in output


@pytest.mark.parametrize(("loader", "bits"), COMBINATIONS)
def test_every_combination_learns_with_an_adapter_in_float32(trained, loader, bits):
    result = trained.result(f"{loader}-{bits}")
    assert result["dtypes_before"] == result["dtypes_after"] == ["torch.float32"]
    losses = result["losses"]
    assert sum(losses[-6:]) < 0.7 * sum(losses[:6])
    timing = result["timing"]
    assert timing["gpu"] and timing["peak_gpu_memory_gb"] > 0 and timing["tokens_per_second"] > 0
    print(f"\n{loader}, {bits}: {timing['tokens_per_second']:.0f} tokens/s, {timing['peak_gpu_memory_gb']} GB peak")


@pytest.mark.parametrize(("loader", "bits"), COMBINATIONS)
def test_a_step_at_the_papers_smallest_rate_moves_the_adapter(work, loader, bits):
    name = f"smallest-{loader}-{bits}"
    work.train(name, loader, bits, recipe=SMALLEST)
    result = work.result(name)
    assert result["dtypes_before"] == result["dtypes_after"] == ["torch.float32"]
    assert 1e-8 < result["largest_b"] < 1e-6


def test_a_batch_answers_as_one_by_one(trained):
    trained.result("transformers-none")
    sizes = [1, 7, 48]
    for dtype in ("float32", "bfloat16"):
        trained.generate(f"batches-{dtype}", ["transformers-none"], dtype=dtype, batch_sizes=sizes, questions=48)
    for dtype, least in (("float32", 1.0), ("bfloat16", 0.7)):
        by_size = {size: trained.answers(f"batches-{dtype}", "transformers-none", size) for size in sizes}
        for size in sizes[1:]:
            same = share(by_size[1], by_size[size])
            print(f"\n{dtype}: {same:.1%} of answers the same at batch {size} and 1")
            assert same >= least


@pytest.mark.parametrize("bits", ["none", "4bit"])
def test_an_adapter_answers_alike_with_either_loader(trained, bits):
    """As alike as bfloat16 lets them: unsloth's kernels round elsewhere, and one token changes all that follow."""
    adapters = [f"transformers-{bits}", f"unsloth-{bits}"]
    for adapter in adapters:
        trained.result(adapter)
    for loader in ("transformers", "unsloth"):
        trained.generate(f"cross-{loader}-{bits}", adapters, loader, bits)
    for adapter in adapters:
        both = [trained.answers(f"cross-{loader}-{bits}", adapter) for loader in ("transformers", "unsloth")]
        begin = share(*([answer[:20] for answer in answers] for answers in both))
        same = share(*both)
        print(f"\nadapter of {adapter}: {same:.1%} of answers the same with both loaders, {begin:.1%} begin the same")
        assert same >= 0.6 and begin >= 0.75


def test_recorded_decoding_answers_as_transformers_generate(work):
    import torch

    from testkit.train_once import model_params
    from text2sql.model.language_model import LanguageModel
    from text2sql.prompts.messages import bare_messages

    work.train("decoding", dtype="float32")
    work.result("decoding")
    model = LanguageModel(model_params(EMBEDDED_BASE), work.folder / "decoding")
    questions = ("How many singers are there?", "Count the dogs.")
    prompts = [model.chat_ids(bare_messages(question)) for question in questions]
    for prompt, answer in zip(prompts, model.generate(prompts, 40), strict=True):
        reference = model.model.generate(
            input_ids=torch.tensor([prompt], device="cuda"), max_new_tokens=40, do_sample=False, pad_token_id=2
        )
        assert answer == reference[0, len(prompt) :].tolist()


def test_rows_that_end_leave_recorded_batches_and_change_no_other(monkeypatch):
    """In float32 to the token; in bfloat16, with FlashAttention, the same batch gives the same each time."""
    from testkit.train_once import model_params
    from text2sql.model import decoding
    from text2sql.model.language_model import LanguageModel
    from text2sql.prompts.messages import bare_messages

    shrunk = []
    keep = decoding.RowCache.keep
    monkeypatch.setattr(
        decoding.RowCache, "keep", lambda self, rows, most: (shrunk.append(len(rows)), keep(self, rows, most))
    )
    found = {}
    for dtype in ("float32", "bfloat16"):
        model = LanguageModel(model_params(EMBEDDED_BASE).model_copy(update={"dtype": dtype}))
        prompts = [model.chat_ids(bare_messages(f"{'Why? ' * (number % 7)}Count to {number}.")) for number in range(70)]
        # Answers end at many places.
        marks = model.text_ids([".", ",", ":", " to", " the", "\n", "1"])
        vars(model)["_end_ids"] = {ids[-1] for ids in marks} | model._end_ids
        sizes = ((), (4, 16), (4, 16))  # never, and the second time with what the first one has recorded
        found[dtype] = []
        for some in sizes:
            monkeypatch.setattr(decoding, "GPU_SIZES", some)
            found[dtype].append(model.generate(prompts, 64))
            found[dtype].append(model.generate(prompts[:9], 64))
    assert {4, 16} & set(shrunk)
    assert found["float32"][:2] == found["float32"][2:4] == found["float32"][4:]
    assert found["bfloat16"][2:4] == found["bfloat16"][4:]
    same = sum(one == other for one, other in zip(found["bfloat16"][0], found["bfloat16"][2], strict=True))
    assert same >= 35


def test_constrained_answers_are_alike_in_any_batch_and_change_no_accepted_one(repository, tmp_path):
    """In recorded batches that shrink, each row asked about its own database."""
    from testkit.train_once import model_params
    from text2sql.data.schema import schema_from_sqlite
    from text2sql.data.spider import open_spider
    from text2sql.model.language_model import LanguageModel
    from text2sql.prompts.messages import spider_messages

    schemas = {}
    with open_spider(repository / "data/sample/spider") as source:
        examples = source.examples("dev")[:70]
        for db_id in {example.db_id for example in examples}:
            source.extract_database(db_id, tmp_path / f"{db_id}.sqlite")
            schemas[db_id] = schema_from_sqlite(tmp_path / f"{db_id}.sqlite", db_id)
    model = LanguageModel(model_params(EMBEDDED_BASE))  # in float32
    asked = [schemas[example.db_id] for example in examples]
    prompts = [
        model.chat_ids(spider_messages(example.question, schema, "tables"))
        for example, schema in zip(examples, asked, strict=True)
    ]
    held = model.generate(prompts, 64, asked)
    assert held[:9] == model.generate(prompts[:9], 64, asked[:9])
    for answer, free, schema in zip(held, model.generate(prompts, 64), asked, strict=True):
        row = model._constraints.row(schema)
        assert answer == free or not all(map(row.take, free))


def test_prefixes_that_are_computed_once_change_no_answer(tmp_path, monkeypatch):
    from testkit.random_models import save_random_adapter
    from testkit.train_once import model_params
    from text2sql.model import prefill
    from text2sql.model.language_model import LanguageModel

    adapter = save_random_adapter(EMBEDDED_BASE, tmp_path)
    model = LanguageModel(model_params(EMBEDDED_BASE), adapter)  # in float32
    prompts = []
    for number in range(4):
        columns = ", ".join(f"column_{number}_{column}" for column in range(20 + 20 * number))
        for table in range(12):
            messages = [{"role": "user", "content": f"table_{number}({columns})\n\nHow many rows has table {table}?"}]
            prompts.append(model.chat_ids(messages))
    found = []
    for least in (0, 10**9):  # always in groups, and never
        monkeypatch.setattr(prefill, "LEAST_SAVED", least)
        likelihoods = model.option_log_likelihoods(prompts, (" A", " B", " C", " D"))
        found.append((model.generate(prompts, 32), [row.index(max(row)) for row in likelihoods]))
    assert found[0] == found[1]


def test_a_model_that_cannot_be_recorded_answers_alike_and_leaves_the_gpu_in_order(capsys):
    import torch

    from testkit.gpu_work import look_at_numbers
    from testkit.train_once import model_params
    from text2sql.model.decoding import release
    from text2sql.model.language_model import LanguageModel
    from text2sql.prompts.messages import bare_messages

    model, other = (LanguageModel(model_params(EMBEDDED_BASE)) for _ in range(2))
    prompts = [model.chat_ids(bare_messages(question)) for question in ("How many singers are there?", "Hi")]
    expected = model.generate(prompts, 40)
    release(model.model)  # its recordings, which would not look
    looking = look_at_numbers(model.model)
    for _ in range(2):
        assert model.generate(prompts, 40) == expected
    assert capsys.readouterr().out.count(UNRECORDABLE) == 1
    looking.remove()
    # The stream is the one before, random numbers are drawn, memory that is not in use is given back.
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    torch.nn.functional.dropout(torch.ones(8, device="cuda"))
    unused = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    del unused
    before = torch.cuda.memory_reserved()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= before - 2**30
    # And another model is recorded.
    assert other.generate(prompts, 40) == expected
    assert UNRECORDABLE not in capsys.readouterr().out


def test_samples_are_the_same_in_any_batch_recorded_or_not(capsys):
    """In float32: rows of one prompt that share its cache, and rows asked alone, too few steps to record."""
    from testkit.train_once import model_params
    from text2sql.model.language_model import LanguageModel
    from text2sql.model.streams import Sampling, stream
    from text2sql.prompts.messages import bare_messages

    model = LanguageModel(model_params(EMBEDDED_BASE))
    sampling = Sampling(temperature=0.8, top_p=0.95, seed=0)
    questions = ("How many singers are there?", "Count the dogs.", "Hi")
    places = [(place, sample) for place in range(len(questions)) for sample in range(8)]
    prompts = [model.chat_ids(bare_messages(questions[place])) for place, _ in places]
    streams = [stream(0, place, sample) for place, sample in places]
    together = model.sample(prompts, streams, sampling, 40)
    assert UNRECORDABLE not in capsys.readouterr().out
    assert model.sample(prompts, streams, sampling, 40) == together
    assert len({tuple(answer.ids) for answer in together}) > 12
    for row in range(0, len(places), 5):
        (alone,) = model.sample([prompts[row]], [streams[row]], sampling, 40)
        assert alone.ids == together[row].ids
        assert alone.log_likelihood == pytest.approx(together[row].log_likelihood, abs=1e-2)
    few = model.sample(prompts, streams, sampling, 6)
    assert [answer.ids for answer in few] == [answer.ids[:6] for answer in together]


def test_the_same_recipe_gives_the_same_bytes_alone_and_beside_another(work):
    """Also where another process has taken most of the GPU's memory, and where it was killed and went on."""
    import torch

    work.train("alone", examples=240)
    expected = work.result("alone")
    held = torch.empty(int(0.6 * torch.cuda.mem_get_info()[0]), dtype=torch.uint8, device="cuda")
    for name in ("beside", "beside-too"):
        work.train(name, examples=240)
    work.train("often", examples=240, recipe={**RECIPE, "checkpoint_minutes": 1e-6})
    found = [work.result(name) for name in ("beside", "beside-too")]
    del held
    torch.cuda.empty_cache()
    assert work.result("often")["losses"] == expected["losses"]

    work.train("cut", examples=240, recipe={**RECIPE, "checkpoint_minutes": 1e-6})
    kept = work.folder / "cut-checkpoints"
    while not list(kept.glob("*/step-*")):  # some checkpoint is whole
        assert work.is_running("cut")
        time.sleep(0.05)
    work.kill("cut")
    work.train("cut", examples=240, recipe={**RECIPE, "checkpoint_minutes": 1e-6})
    assert "going on from the checkpoint at step" in work.output("cut")
    weights = (work.folder / "alone" / "adapter_model.safetensors").read_bytes()
    for name in ("beside", "beside-too", "often", "cut"):
        assert (work.folder / name / "adapter_model.safetensors").read_bytes() == weights, name
    assert all(one["losses"] == expected["losses"] and "out_of_memory" not in one["metrics"] for one in found)


def test_long_examples_give_the_same_bytes_too(work):
    """Of some hundred tokens, where attention's backward pass is cut among blocks that could add in any order."""
    recipe = {**RECIPE, "max_seq_len": 2048}
    for name in ("long", "long-again"):
        work.train(name, examples=120, recipe=recipe, more_words=500)
    losses = [work.result(name)["losses"] for name in ("long", "long-again")]
    assert losses[0] == losses[1]
    weights = [(work.folder / name / "adapter_model.safetensors").read_bytes() for name in ("long", "long-again")]
    assert weights[0] == weights[1]


def test_evaluation_halves_its_batch_where_memory_runs_out(capsys):
    import torch

    from testkit.train_once import model_params
    from text2sql.model.decoding import release
    from text2sql.model.language_model import LanguageModel
    from text2sql.prompts.messages import bare_messages

    model = LanguageModel(model_params(EMBEDDED_BASE))
    questions = [f"{number}: how many singers are there?" + " Why?" * 300 for number in range(64)]
    prompts = [model.chat_ids(bare_messages(question)) for question in questions]
    expected = model.generate(prompts, 4)
    release(model.model)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2.5e9) / total)
    try:
        assert model.generate(prompts, 4) == expected
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "Out of memory at a batch of 64: going on with 32" in capsys.readouterr().out


@pytest.fixture(scope="module")
def llama_shape(tmp_path_factory) -> Path:
    """A model of Llama 3.2 3B's shape with random weights, stored in 4 bit as the paper's base is.

    For mechanics, memory and speed, never for an accuracy.
    """
    import torch
    from transformers import AutoTokenizer

    from testkit.llama_3 import as_llama_3
    from testkit.random_models import write_random_base
    from testkit.train_once import model_params
    from text2sql.model.loading import load_base

    folder = tmp_path_factory.mktemp("llama")
    whole = write_random_base(folder / "whole")
    tokenizer = as_llama_3(AutoTokenizer.from_pretrained(whole))
    tokenizer.save_pretrained(whole)
    torch.cuda.empty_cache()
    model, _ = load_base(model_params(whole, quantization="4bit", dtype="bfloat16"))
    model.save_pretrained(folder / "4bit")
    tokenizer.save_pretrained(folder / "4bit")
    del model
    torch.cuda.empty_cache()
    return folder / "4bit"


@pytest.mark.parametrize("loader", ["transformers", "unsloth"])
def test_the_papers_recipe_runs_at_3b_in_4_bit(work, llama_shape, loader):
    recipe = {**RECIPE, "lr": 2e-4, "epochs": 1, "optim": "adamw_8bit", "warmup": 5, "batch_size": 2, "grad_accum": 4}
    work.train(f"3b-{loader}", loader, "4bit", llama_shape, recipe=recipe, examples=192)
    result = work.result(f"3b-{loader}")
    assert result["dtypes_before"] == result["dtypes_after"] == ["torch.float32"]
    assert result["metrics"]["trainable_parameters"] == 24_313_856
    assert result["metrics"]["total_parameters"] == pytest.approx(3.237e9, rel=1e-3)
    assert all(map(math.isfinite, result["losses"])) and sum(result["losses"][-4:]) < sum(result["losses"][:4])
    work.generate(
        f"3b-answers-{loader}",
        [f"3b-{loader}"],
        loader,
        "4bit",
        llama_shape,
        questions=16,
        batch_sizes=[16],
        max_new_tokens=24,
    )
    answers = work.result(f"3b-answers-{loader}")
    timing = result["timing"]
    print(
        f"\n3 B in 4 bit, {loader}: {timing['tokens_per_second']:.0f} tokens/s, {timing['peak_gpu_memory_gb']} GB peak "
        f"in training, {answers['peak_gb']} GB in generation"
    )


def test_two_gpus_train_the_same_adapter_as_one(work):
    import torch
    from safetensors.torch import load_file

    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU here")
    launcher = ("-m", "accelerate.commands.launch", "--num_processes=2", "--num_machines=1", "--mixed_precision=no")
    work.train("two", dtype="float32", launcher=(*launcher, "--dynamo_backend=no", "--multi_gpu"))
    work.train("one", dtype="float32")
    two, one = work.result("two")["losses"], work.result("one")["losses"]
    largest = max(abs(a - b) / b for a, b in zip(one, two, strict=True))
    print(f"\nlargest difference of the loss curves on one and two GPUs: {largest:.4%}")
    assert largest < 0.01
    weights = [load_file(work.folder / name / "adapter_model.safetensors") for name in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()


def test_a_model_that_does_not_fit_into_one_gpu_trains_in_shards_on_two(work, tmp_path):
    """3 B weights in bfloat16 are 6.4 GB; training all of 0.5 B takes 7.9 GB: a process may take less of its GPU."""
    import torch

    from testkit.random_models import write_random_base

    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU here")
    launcher = ("-m", "accelerate.commands.launch", "--config_file", "launch/fsdp.yaml", "--num_processes=2")
    bases = {"lora": ("llama-3.2-3b", 5.8), "full": ("qwen2.5-0.5b", 7.6)}
    for method, (shape, most) in bases.items():
        base = write_random_base(tmp_path / shape, shape)
        recipe = {**RECIPE, "method": method, "epochs": 1, "lr": 1e-5}
        for name, how in (("one", ()), ("two", launcher)):
            work.train(f"{method}-{name}", base=base, recipe=recipe, memory_gb=most, launcher=how, examples=24)
            with contextlib.suppress(AssertionError):
                work.result(f"{method}-{name}")
        log = (work.folder / f"{method}-one.log").read_text()
        assert "does not fit into the GPU's memory" in log or "out of memory at one example" in log
        losses = work.result(f"{method}-two")["losses"]
        assert len(losses) == 3 and all(math.isfinite(loss) for loss in losses)


def test_two_gpus_train_in_shards_what_one_trains_whole(work):
    import torch

    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU here")
    launcher = ("-m", "accelerate.commands.launch", "--config_file", "launch/fsdp.yaml", "--num_processes=2")
    work.train("shards", dtype="float32", launcher=launcher)
    work.train("whole", dtype="float32")
    shards, whole = work.result("shards")["losses"], work.result("whole")["losses"]
    largest = max(abs(a - b) / b for a, b in zip(whole, shards, strict=True))
    print(f"\nlargest difference of the loss curves in shards on two GPUs and on one: {largest:.4%}")
    assert largest < 1e-4


def test_packed_examples_attend_as_each_alone_and_their_gradients_are_the_same_bytes_again():
    import torch

    from text2sql.model.packed import Segments
    from text2sql.training.packing import Packing, packed_attention
    from text2sql.training.reproducible import deterministic_kernels

    lengths, module = [300, 129, 64, 0, 0], torch.nn.Module()
    generator = torch.Generator("cuda").manual_seed(1)
    query, key, value, gradient = (
        torch.randn(1, heads, sum(lengths), 64, generator=generator, device="cuda", dtype=torch.bfloat16)
        for heads in (14, 2, 2, 14)
    )
    inputs = [one.requires_grad_() for one in (query, key, value)]
    module.num_key_value_groups, module.is_causal = 7, True
    segments = Segments(Segments.of(lengths, "cuda").bounds, 400)

    def results(packing):
        output, _ = packed_attention(module, *inputs, None, scaling=0.125, packing=packing)
        return output.detach(), *torch.autograd.grad(output, inputs, gradient.transpose(1, 2))

    with deterministic_kernels("cuda", strict=True):
        expected, found, again = map(results, (Packing(lengths), *[Packing(lengths, segments)] * 2))
    for one, other, same in zip(expected, found, again, strict=True):
        assert torch.allclose(one, other, rtol=0.05, atol=0.03) and torch.equal(other, same)


def test_lean_layers_and_fused_kernels_have_the_loss_of_pefts_own(work, trained):
    """The adapter's products are rounded less often; liger-kernel's part of it where that is installed."""
    recorded = trained.result("recorded")["losses"]
    work.train("pefts", dtype="bfloat16", lean=False)
    differences = [abs(a - b) / b for a, b in zip(recorded, work.result("pefts")["losses"], strict=True)]
    print(f"\nPEFT's own layers: loss curves differ by {sum(differences) / len(differences):.4%} a step")
    assert sum(differences) / len(differences) < 0.01


def test_pairs_are_learnt_from_log_2_on(tmp_path):
    """TRL's fused output layer is Triton's here; the first loss is log 2 but for bfloat16's rounding."""
    from testkit.random_models import write_micro_model
    from testkit.train_once import PAIRS, model_params, recipe
    from text2sql.model.adapters import save_adapter
    from text2sql.training.fine_tune import train_adapter
    from text2sql.training.job import TrainingJob

    wrong = [(messages, "SELECT nothing FROM nowhere") for messages, _ in PAIRS]
    model = model_params(write_micro_model(tmp_path / "base"), dtype="bfloat16")
    first = train_adapter(TrainingJob("m1", model, recipe()), PAIRS, tmp_path / "checkpoints")
    save_adapter(first.model, tmp_path / "m1", model, "# card\n")
    learns = recipe(**{"objective": "dpo", "from": "m1", "lr": 1e-3, "epochs": 3})
    job = TrainingJob("m3", model, learns, start=tmp_path / "m1")
    losses = [row["loss"] for row in train_adapter(job, [*PAIRS, *wrong], tmp_path / "checkpoints").loss_curve]
    assert losses[0] == pytest.approx(math.log(2), abs=2e-2) and min(losses) < losses[0] - 0.05
