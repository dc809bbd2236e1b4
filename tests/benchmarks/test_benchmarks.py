"""The benchmarks' scripts work: with a micro model and tiny counts. No time that they measure is asserted."""

import ast
import json
import subprocess
import sys
import tempfile

import pytest

from benchmarks import __main__ as benchmarks_main
from benchmarks import (
    bench_adapter,
    bench_gguf,
    bench_growth,
    bench_load,
    bench_mmlu,
    bench_own,
    bench_predict,
    bench_prompt,
    bench_scoring,
    bench_startup,
    bench_train,
    readme,
    results,
    several,
    targets,
)
from benchmarks.continuous_generate import DEFAULTS, Continuous
from benchmarks.first_batch import measure_against
from benchmarks.machine import machine, rates
from benchmarks.material import SAMPLE_MMLU, SAMPLE_SPIDER, model_params, params, spider_questions, spread
from benchmarks.measuring import (
    OURS,
    Side,
    Worker,
    best_of,
    compared,
    figure,
    in_turns,
    markdown,
    of_build,
    result,
    sweep,
)
from testkit.random_models import save_random_adapter, write_random_base
from text2sql.core.errors import RunError, UserError

REPEATS = {"repeats": 1}


@pytest.fixture(scope="module", autouse=True)
def quick_rates():
    """Rates of small products, measured once."""
    small = rates("float32", 64)
    with pytest.MonkeyPatch.context() as patch:
        for module in (bench_predict, bench_mmlu, bench_train):
            patch.setattr(module, "rates", lambda dtype: small)
        yield


def checked(found):
    """A result is JSON, names its machine, and can be shown."""
    assert json.loads(json.dumps(found)) == found
    assert found["machine"]["slug"] == machine()["slug"]
    assert found["name"] in markdown(found)
    for row in found["comparisons"]:
        assert row["peer"] in found["sides"]
        assert row["ratio"] > 0
    return found


def test_prediction_answers_as_transformers_does(micro_model):
    so_far = []
    found = checked(
        bench_predict.measure(
            questions=6,
            new_tokens=3,
            model=str(micro_model),
            peers="ab",
            loop_questions=2,
            peer_batch_sizes=[2, 4],
            so_far=so_far.append,
            **REPEATS,
        )
    )
    first, last = so_far  # a measurement that is cut short has left what it measured
    assert first["comparisons"] == found["comparisons"][:1] and last["comparisons"] == found["comparisons"]
    assert f"{bench_predict.BATCHES}: not measured." in checked(first)["notes"]
    answers = {row["peer"]: row["answers"] for row in found["comparisons"]}
    assert answers == {bench_predict.LOOP: "2 of 2 the same", bench_predict.BATCHES: "6 of 6 the same"}
    assert found["sides"][bench_predict.LOOP]["scaled_by"] == 3
    assert found["bound"]["seconds"] > 0


def test_prediction_against_continuous_batching_and_another_build(micro_model, repository):
    """Settings that fail are listed; the other build is this one."""
    found = checked(
        bench_predict.measure(
            questions=5,
            new_tokens=3,
            model=str(micro_model),
            peers="d",
            base_alone=True,
            peer_questions=3,
            sweep_questions=2,
            sweep_seconds=0,
            against=repository,
            **REPEATS,
        )
    )
    answers = {row["peer"]: (row["ours"], row["answers"]) for row in found["comparisons"]}
    assert answers == {
        bench_predict.CONTINUOUS: (bench_predict.OURS_OF_PART, "3 of 3 the same"),
        targets.TODAY: (OURS, "5 of 5 the same"),
    }
    tried = found["sweeps"][bench_predict.CONTINUOUS]
    assert {record["settings"]["attention"] for record in tried} >= {"sdpa", "eager"}
    assert len({str(record["settings"]) for record in tried}) == len(tried)
    assert "no adapter" in found["what"]


def test_a_setting_that_fails_is_named_and_the_next_one_runs(micro_model):
    continuous = Continuous(
        str(micro_model), "none", "float32", "", {"new_tokens": 2, "ends": [2], "pad": 0, "limit": 60}
    )
    settings = {**DEFAULTS, "attention": "sdpa"}
    with pytest.raises(RuntimeError, match="flash_attention_2"):
        continuous.ask([[5, 6, 7]], {**settings, "attention": "flash_attention_2"})
    with pytest.raises(RuntimeError, match="Block size must be at least 4"):
        continuous.ask([[5, 6, 7]], {**settings, "block size": 2})
    assert len(continuous.ask([[5, 6, 7], [5, 6]], settings)["answers"]) == 2
    continuous.close()


def test_mmlu_chooses_as_four_full_prompts_do(micro_model):
    found = checked(bench_mmlu.measure(questions=6, model=str(micro_model), paper_questions=2, peers="a", **REPEATS))
    assert found["comparisons"][0]["answers"] == "2 of 2 the same"
    assert found["counts"]["tokens_read_once"] <= found["counts"]["prompt_tokens"]


def test_mmlu_chooses_as_the_harness_does(micro_model):
    pytest.importorskip("lm_eval")
    found = bench_mmlu.measure(questions=4, model=str(micro_model), peers="b", peer_batch_sizes=[2], **REPEATS)
    checked(found)
    assert found["comparisons"][0]["answers"] == "4 of 4 the same"


@pytest.mark.long
@pytest.mark.slow
def test_an_adapter_answers_as_unmerged_and_scaled_down_as_its_base(micro_model, tmp_path):
    counts = {"questions": 3, "mmlu_questions": 2, "model": str(micro_model), **REPEATS}
    found = checked(bench_adapter.measure(**counts))
    assert [row["answers"] for row in found["comparisons"]] == ["3 of 3 the same"] * 2 + ["2 of 2 the same"] * 2
    assert set(found["peak_memory_gb"]) == {bench_adapter.ADAPTED, bench_adapter.BASE, bench_adapter.UNMERGED}
    trained = checked(bench_adapter.measure(adapter=save_random_adapter(str(micro_model), tmp_path / "a"), **counts))
    assert len(trained["comparisons"]) == 2 and "a random adapter" not in trained["what"]


def test_mmlu_says_that_the_harness_is_missing(micro_model, monkeypatch):
    monkeypatch.setattr(bench_mmlu, "has", lambda package: False)
    found = checked(bench_mmlu.measure(questions=3, model=str(micro_model), peers="b", **REPEATS))
    assert found["comparisons"] == []
    assert any("lm_eval" in note for note in found["notes"])


@pytest.mark.long
@pytest.mark.slow
def test_training_has_the_losses_of_its_peer_and_of_the_build_before(micro_model, repository):
    so_far = []
    small = {"steps": 2, "batch_size": 2, "grad_accum": 2, "model": str(micro_model), "repeats": 1}
    found = checked(
        bench_train.measure(**small, sides=["ours", "today", "trl"], against=repository, so_far=so_far.append)
    )
    first, last = so_far  # a measurement that is cut short has left what it measured
    assert first["comparisons"] == found["comparisons"][:1] and last["comparisons"] == found["comparisons"]
    assert "TRL's SFTTrainer: not measured." in checked(first)["notes"]
    assert [row["largest_relative_loss_difference"] < 0.01 for row in found["comparisons"]] == [True, True]
    assert len(found["sides"][OURS]["losses"]) == 2
    assert [row["target"] for row in found["rows"]] == ["train-cpu-bound"]


@pytest.mark.long
def test_a_peers_settings_train_the_same_unless_they_pack_other_examples(micro_model):
    plan = {
        "model": model_params(str(micro_model)).model_dump(),
        "recipe": params().train.model_copy(update={"batch_size": 3, "epochs": 1, "max_seq_len": 2048}).model_dump(),
        "steps": 3, "warm": 1, "schema": "tables", "bare": False, "spider": str(SAMPLE_SPIDER), "gpu_memory_gb": None,
        "profile": False,
    }  # fmt: skip
    plain = {"rows": "padded", "attention": "sdpa", "liger": False, "checkpointing": False}

    def losses(**changed):
        return bench_train.train_side("trl", {**plan, "settings": {"trl": {**plain, **changed}}})["losses"]

    expected = losses()
    assert losses(rows="padding-free") == pytest.approx(expected, rel=1e-4)
    assert losses(attention="eager") == pytest.approx(expected, rel=1e-4)
    assert losses(rows="packed") != pytest.approx(expected, rel=1e-4)


def test_growth_of_each_task(micro_model):
    found = checked(
        bench_growth.measure(
            base_questions=1,
            new_tokens=2,
            model=str(micro_model),
            repeats=1,
            scored=2,
            prompt_tokens=[40, 80],
        )
    )
    assert set(found["growth"]) == {"predict", "mmlu", "scoring"}
    assert list(found["prompts"]["seconds"]) == ["40", "80"] and 0 < found["prompts"]["attention_share"] < 1
    assert {row["target"] for row in found["rows"]} == {
        "growth-predict", "growth-mmlu", "growth-scoring", "growth-prompt",
    }  # fmt: skip
    assert found["growth"]["scoring"]["examples"] == [2, 4, 8, 16]


@pytest.fixture
def steps_unwatched(monkeypatch):
    """Leave no recorder of steps to other tests."""
    import transformers.trainer

    monkeypatch.setattr(transformers.trainer, "DEFAULT_CALLBACKS", list(transformers.trainer.DEFAULT_CALLBACKS))


@pytest.mark.usefixtures("steps_unwatched")
def test_growth_over_gpus_says_what_each_number_of_them_took(micro_model, monkeypatch, capsys):
    """With one process, and a second number made up from it: twice as fast."""

    def launch(count, plan):
        with tempfile.TemporaryDirectory() as folder:
            several.worker({**plan, "folder": folder, "started": 0})
        line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(several.MARK))
        found = json.loads(line.removeprefix(several.MARK))
        for one in found["tasks"].values():
            one["seconds"] = 60 / count
        return found

    monkeypatch.setattr(several, "launch", launch)
    monkeypatch.setattr(several, "SIZES", {"model": "1.5b"})
    found = checked(
        several.measure_several(
            [1, 2], str(micro_model), dtype="float32", questions=4, mmlu_questions=4, new_tokens=2, steps=2
        )
    )
    assert [note for note in found["notes"] if "1 to 2: 2.00 ×" in note] == found["notes"][:4]
    rows = {row["target"]: row for row in found["rows"]}
    assert set(rows) == {"gpus-1.5b-predict-2", "gpus-1.5b-mmlu-2", "gpus-1.5b-train-2"}
    assert all(row["met"] and row["ratio"] == 2 for row in rows.values())


@pytest.mark.parametrize("gpus", [[3], [0, 1], [1, 16]])
def test_numbers_of_gpus_that_do_not_divide_the_batch_are_refused(gpus):
    with pytest.raises(UserError, match="takes numbers that divide the whole batch of 8"):
        several.measure_several(gpus)


@pytest.mark.long
@pytest.mark.slow
def test_two_processes_are_timed(micro_model):
    plan = {
        "model": model_params(str(micro_model), "none", "float32").model_dump(),
        "spider": str(SAMPLE_SPIDER), "mmlu": str(SAMPLE_MMLU), "questions": 8, "mmlu_questions": 8,
        "new_tokens": 2, "steps": 2, "repeats": 1, "batch_size": 2, "tasks": list(several.TASKS),
    }  # fmt: skip
    found = several.launch(2, plan)
    assert set(found["tasks"]) == set(several.TASKS) and found["start_s"] > 0
    assert all(one["seconds"] > 0 for one in found["tasks"].values())


def test_a_launcher_that_starts_fewer_processes_than_it_was_told_to_is_refused(monkeypatch):
    answer = subprocess.CompletedProcess([], 0, f'{several.MARK}{{"processes": 1}}\n', "")
    monkeypatch.setattr(several.subprocess, "run", lambda *arguments, **options: answer)
    with pytest.raises(RuntimeError, match="2 processes: there were 1"):
        several.launch(2, {})


def test_start_up_runs_commands_of_a_project(tmp_path, monkeypatch):
    """The commands, without the whole pipeline that prepares them: each is replaced by an empty Python."""
    command = bench_startup._command
    monkeypatch.setattr(bench_startup, "_command", lambda project, *_: command(project, "-c", "print('up to date')"))
    monkeypatch.setattr(bench_startup.Project, "run", _without_dvc(bench_startup.Project.run))
    (tmp_path / "project").mkdir()
    found = checked(bench_startup.measure(repeats=1, project=tmp_path / "project"))
    ours = [row["ours"] for row in found["comparisons"]]
    assert ours == [bench_startup.EVAL, bench_startup.COMPARE, bench_startup.REPRO, bench_startup.REPRO]


def _without_dvc(run):
    return lambda project, *command: None if "dvc" in command else run(project, *command)


def test_start_up_of_two_builds_is_timed_to_the_first_batch(micro_model, repository):
    found = checked(measure_against(repository, str(micro_model), repeats=1, stages=["predict"]))
    now, before = found["sides"].values()
    assert 0 < now["median"] and 0 < before["median"]
    assert found["comparisons"][0]["ours"] == "predict, now"


def test_runs_are_in_turns_after_a_warm_up():
    order = []
    sides = [Side(name, lambda name=name: order.append(name)) for name in "AB"]
    in_turns(sides, 2)
    assert order == ["A", "B", "A", "B", "A", "B"]
    assert [len(side.seconds) for side in sides] == [2, 2]


def test_a_part_is_scaled_to_the_whole():
    ours, peer = (Side(name, lambda: None, scale=scale) for name, scale in ((OURS, 1), ("peer", 4)))
    ours.seconds, peer.seconds = [1.0, 2.0, 9.0], [8.0]
    row = compared(ours, peer, 5, None)
    assert (row["ratio"], row["goal_met"]) == (4, False)
    assert compared(ours, peer, 0.5, None, at_most=True)["goal_met"]
    shown = markdown(result("name", "what", {}, [ours, peer], [row]))
    assert "8 s, scaled | 4 × | ≥ 5 ×: missed" in shown


def test_the_best_batch_size_is_the_fastest_that_fits_into_memory():
    import torch

    def seconds(size):
        if size > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 10 / size

    assert best_of([2, 4, 8, 16], seconds, most=100) == (8, 1.25, "2: 5 s, 4: 2.5 s, 8: 1.25 s, 16: inf s")
    assert best_of([2, 4, 8], seconds, most=3)[0] == 3


def test_a_worker_answers_each_request(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "echo_worker.py").write_text(
        "from benchmarks.measuring import Worker\nprint('noise')\nWorker.serve(lambda r: {'got': r})\n"
    )
    worker = Worker("echo_worker", [])
    assert worker.ask([1, 2]) == {"got": [1, 2]}
    assert worker.ask("x") == {"got": "x"}
    worker.close()
    with pytest.raises(RuntimeError, match="ended with code"):
        Worker("no_such_worker", [])


def test_a_sweep_takes_the_fastest_and_lists_what_fails():
    def seconds(settings):
        if settings["size"] > 8:
            raise RuntimeError("CUDA out of memory.\nTried to allocate")
        return 10 / settings["size"]

    best, records = sweep([{"size": size} for size in (2, 4, 16)], seconds)
    assert best == {"size": 4}
    assert [record["seconds"] for record in records] == [5, 2.5, None]
    assert records[2]["failure"] == "RuntimeError: CUDA out of memory. Tried to allocate"
    shown = markdown(result("work", "what", {}, [], [], sweeps={"peer": records}))
    assert "size 4: 2.5 s" in shown and "size 16: RuntimeError: CUDA out of memory." in shown
    with pytest.raises(RuntimeError, match="no setting runs; the last: RuntimeError"):
        sweep([{"size": 16}], seconds)


def test_a_row_is_held_against_its_target():
    faster = targets.row("predict-0.5b-today", ours=2.0, peer=5.0, share=0.1, gb=(1.5, None))
    assert (faster["ratio"], faster["met"]) == (2.5, True)
    assert not targets.row("dvc-nothing", ours=2.1, peer=1.0)["met"]
    assert targets.row("train-1.5b-bound", ours=1.0, share=0.35)["met"]
    assert not targets.row("gguf-0.5b", ours=20.1)["met"]
    shown = markdown(result("work", "what", {}, [], [], rows=[faster]))
    assert "2 s against 5 s (the build before), 2.5 ×, 10 % of the bound, memory 1.50 and ? GB; ≥ 2 ×: met" in shown
    with pytest.raises(ValueError, match="wants a peer"):
        targets.row("predict-0.5b-today", ours=2.0)


def test_another_build_runs_with_these_benchmarks(tmp_path):
    for name in ("text2sql", "stages"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "stages" / "work.py").write_text(
        "import sys, benchmarks, text2sql\nprint(text2sql.__file__, benchmarks.__file__, sys.argv[1:])\n"
    )
    done = subprocess.run(of_build(tmp_path, "stages.work", ["--so", "1"]), capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        str(tmp_path / "text2sql" / "__init__.py"), benchmarks_main.__file__.replace("__main__", "__init__"),
        "['--so',", "'1']",
    ]  # fmt: skip


def test_questions_go_on_beyond_the_data_and_differ():
    questions, schemas = spider_questions("data/sample/spider", 300)
    assert len({(db_id, question) for db_id, question, _, _ in questions}) == 300
    assert {db_id for db_id, *_ in questions} == set(schemas)


def test_a_part_of_the_prompts_is_spread_over_their_lengths():
    prompts = [[0] * length for length in (9, 1, 5, 3, 7, 2, 8, 4, 6)]
    assert sorted(len(prompts[position]) for position in spread(prompts, 3)) == [2, 5, 8]
    assert spread(prompts, 100) == list(range(9))


def test_a_random_base_never_ends_its_answer(tmp_path):
    from benchmarks.material import model_params
    from text2sql.model.language_model import LanguageModel

    base = write_random_base(tmp_path / "base", "micro")
    adapter = save_random_adapter(str(base), tmp_path / "adapter")
    model = LanguageModel(model_params(str(base)), adapter)
    prompt = model.chat_ids([{"role": "user", "content": "How many?"}])
    assert [len(answer) for answer in model.generate([prompt, prompt[1:]], 12)] == [12, 12]


def test_a_random_adapter_changes_the_logits(micro_model, tmp_path):
    import torch

    from benchmarks.material import model_params, plain_model

    chosen = model_params(str(micro_model), dtype="float32")
    ids = torch.tensor([[5, 6, 7]])
    with_adapter, _ = plain_model(chosen, save_random_adapter(str(micro_model), tmp_path / "adapter"))
    without, _ = plain_model(chosen, None)
    with torch.inference_mode():
        assert not torch.allclose(with_adapter(ids.to(without.device)).logits, without(ids.to(without.device)).logits)


def test_results_are_merged_by_name(tmp_path):
    side = Side(OURS, lambda: None, seconds=[1.0])
    results.save([result("one", "first", {}, [side], []), result("two", "second", {}, [side], [])], tmp_path)
    page = results.save([result("one", "anew", {}, [side], [])], tmp_path)
    kept = json.loads(page.with_suffix(".json").read_text())
    assert list(kept) == ["one", "two"]
    assert kept["one"]["what"] == "anew"
    assert "anew" in page.read_text() and "second" in page.read_text() and "first" not in page.read_text()


def test_no_host_name_is_written():
    import platform

    assert platform.node() not in json.dumps(machine())


def test_a_benchmark_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    def fake(name, arguments):
        if name == "mmlu":
            raise RuntimeError("no such thing")
        return result(name, "what", {"short": arguments["short"]}, [Side(OURS, lambda: None, seconds=[1.0])], [])

    monkeypatch.setattr(benchmarks_main, "run", fake)
    assert benchmarks_main.main(["--short", "--results", str(tmp_path), "predict", "mmlu", "train"]) == 1
    assert "mmlu: RuntimeError: no such thing" in capsys.readouterr().err
    assert list(json.loads(next(tmp_path.glob("*.json")).read_text())) == ["predict", "train"]


def test_an_unknown_benchmark_is_named(capsys):
    with pytest.raises(SystemExit):
        benchmarks_main.main(["speed"])
    assert "unknown: speed" in capsys.readouterr().err


def test_each_script_says_how_it_is_run(capsys):
    for script in (bench_predict, bench_mmlu, bench_train, bench_startup, bench_growth, bench_load):
        with pytest.raises(SystemExit) as end:
            script.main(["--help"])
        assert end.value.code == 0
        assert f"python -m {script.__name__}" in capsys.readouterr().out
    assert sys.modules["benchmarks.bench_train"].SIDES["ours"] == OURS


def test_unsloth_is_imported_before_what_it_changes(repository):
    """Where imports are sorted it comes last, and nothing fails: it only no longer patches what was there before."""
    found = 0
    folders = [repository / name for name in ("benchmarks", "tests/gpu", "text2sql")]
    for path in [file for folder in folders for file in folder.glob("*.py")]:
        for function in [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]:
            imports = [node for node in ast.walk(function) if isinstance(node, (ast.Import, ast.ImportFrom))]
            lines = {}
            for node in imports:
                name = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                lines.setdefault(name.partition(".")[0], node.lineno)
            if "unsloth" in lines:
                found += 1
                patched = {"transformers", "peft", "trl"} & set(lines)
                assert all(lines["unsloth"] < lines[name] for name in patched), f"{path.name}: {function.name}"
    assert found


def test_scoring_is_measured_against_plain_sqlite_and_the_official_method():
    found = checked(benchmarks_main.run("scoring", {"short": True}))
    assert {row["answers"] for row in found["comparisons"]} == {None, "the same"}
    assert found["counts"]["sample"]["right"] < found["counts"]["sample"]["examples"] == 126


def test_scoring_is_held_to_plain_sqlite_but_for_its_least_time():
    sides = {OURS: 1.0, bench_scoring.KEPT: 0.9, bench_scoring.PLAIN: 0.1, bench_scoring.OFFICIAL: 4.5}
    plain, official = bench_scoring._targets("base", {name: {"median": seconds} for name, seconds in sides.items()})
    assert (plain["target"], plain["ratio"], plain["met"]) == ("scoring-base", 3.333, False)
    assert (official["target"], official["ratio"], official["met"]) == ("scoring-base-official", 4.5, True)


def test_scoring_fails_where_verdicts_differ():
    line = {"index": 3, "sql": "SELECT 1", "official_execution_accuracy": True, "outcome": "correct"}
    assert bench_scoring._check([line], [True]) == 0
    assert bench_scoring._check([line | {"outcome": "limit_reached"}], [False]) == 1
    with pytest.raises(RunError, match="example 3: verdicts differ, False officially"):
        bench_scoring._check([line], [False])


@pytest.mark.long
def test_a_carried_base_is_made_ready():
    found = checked(bench_gguf.measure(short=True))
    assert found["rows"] == [] and found["sides"][OURS]["peak_gb"] > found["counts"]["largest_tensor_gb"]


def short_runs(*found_ratios):
    runs = iter(found_ratios)
    row = {"peer": "peer", "ratio_of": f"peer / {OURS}"}
    return lambda: {"name": "work", "comparisons": [row | {"ratio": next(runs)}]}


def test_a_short_run_fails_where_three_are_under_a_third(capsys):
    name = f"work: {OURS} against peer"
    _, slow = benchmarks_main.beside_recorded(short_runs(0.9, 0.9, 0.9), {name: 3.0})
    assert slow == [name]
    assert f"{name}: 0.9 ×, recorded 3 ×" in capsys.readouterr().out
    assert benchmarks_main.beside_recorded(short_runs(0.9, 1.1), {name: 3.0})[1] == []
    assert benchmarks_main.beside_recorded(short_runs(0.1), {})[1] == []
    less = {"name": "work", "comparisons": [{"peer": "peer", "ratio": 4.0, "ratio_of": f"{OURS} / peer"}]}
    assert benchmarks_main.ratios(less) == {name: 0.25}


def test_the_table_of_targets_names_what_is_not_measured(tmp_path):
    found = result("work", "what", {}, [], [], rows=[targets.row("gguf-0.5b", ours=9.0, gb=(0.9, None))])
    (tmp_path / "some-machine.json").write_text(json.dumps({"work": found}))
    lines = {line.split("|")[1].strip(): line for line in readme.targets(tmp_path).splitlines()}
    assert len(lines) == len({target.work for target in targets.TARGETS.values()}) + 2
    measured = lines[targets.TARGETS["gguf-0.5b"].work]
    assert "≤ 20 s: met" in measured and "| 9 s " in measured and "(results/some-machine.md)" in measured
    assert "not measured" in lines[targets.TARGETS["gguf-1.5b"].work]


def test_own_data_go_through_all_stages_at_three_sizes():
    found = checked(bench_own.measure(questions=80, databases=4))
    assert set(found["growth"]) == {"init", "prepare", "scoring", "report"}
    assert {tuple(one["examples"]) for one in found["growth"].values()} == {(20, 40, 80)}
    assert all(gb > 0 for one in found["growth"].values() for gb in one["gb"])


def test_figures_have_three_digits_that_count():
    assert [figure(value) for value in (0.4463, 7.0, 12.396, 435.2, 3419.6, 1161.4)] == [
        "0.446", "7", "12.4", "435", "3,420", "1,160",
    ]  # fmt: skip


def test_the_tables_of_its_readme_are_made_from_the_results(tmp_path):
    ours, peer = (Side(name, lambda: None, scale=scale) for name, scale in ((OURS, 1), ("peer", 400)))
    ours.seconds, peer.seconds = [2.0], [3420.4]
    found = result("work", "what", {}, [ours, peer], [compared(ours, peer, 5, "8 of 8 the same")])
    (tmp_path / "some-machine.json").write_text(json.dumps({"work": found}))
    text = readme.tables(tmp_path)
    assert text.startswith(f"### {machine()['cores']} cores of ") or machine()["gpus"]
    (row,) = [line for line in text.splitlines() if line.startswith("| work")]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells == ["work", "2 s", "peer: 3,420 s, scaled", "1,710 ×", "8 of 8 the same"]
    assert "(results/some-machine.md)" in text


def test_the_committed_readme_and_pages_are_those_of_the_committed_results(capsys):
    assert readme.main(["--check"]) == 0, capsys.readouterr().out


def test_rich_prompts_are_timed_and_their_tokens_counted():
    found = checked(bench_prompt.measure(short=True, room=120, **REPEATS))
    assert found["counts"]["questions"] == 80 and found["cut"]["train"] > 0
    for forms in found["tokens"].values():
        (few, _), (more, most), (rich, longest) = (forms[form] for form in ("tables", "ddl", "rich"))
        assert few < more <= most and rich <= longest < most
    assert any("of at most 5: " in note for note in found["notes"])
