"""`text2sql export`: what others load of it, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from ruamel.yaml import YAML

from testkit.random_models import save_random_adapter
from testkit.tiny_models import edit_json
from testkit.train_once import model_params
from text2sql.cli import export as verb
from text2sql.core.errors import UserError
from text2sql.core.params import ExportEntry, LoraParams
from text2sql.experiments.export import engines
from text2sql.experiments.export.record import read_record
from text2sql.experiments.export.source import find_source
from text2sql.experiments.export.write import max_lora_rank
from text2sql.model import shards
from text2sql.model.language_model import LanguageModel
from text2sql.prompts.prompt_file import read_prompt_file

LORA = LoraParams(r=4, alpha=8, dropout=0, target_modules=["q_proj", "v_proj", "down_proj"])
PROMPT = [[5, 9, 33, 12, 100, 41]]


@pytest.fixture
def adapter(repository, micro_model, tmp_path, monkeypatch):
    """An adapter of the micro model in a folder of its own, with its params; the current folder is an empty one."""
    folder = save_random_adapter(str(micro_model), tmp_path / "tuned", LORA)
    write_params(repository, micro_model, folder / "params.yaml")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def write_params(repository, base, path, **model):
    yaml = YAML()
    params = yaml.load((repository / "params.yaml").read_text())
    params["model"].update({"base": str(base), "dtype": "float32", **model})
    with path.open("w") as file:
        yaml.dump(params, file)


def export(adapter, out, *options):
    verb.main([str(adapter), "--out", str(out), *options])
    return out


def logits(model):
    import torch

    with torch.no_grad():
        return model.eval()(torch.tensor(PROMPT)).logits


def evaluated(base, adapter, **params):
    return logits(LanguageModel(model_params(base, **params), adapter).model)


def test_an_adapter_is_loaded_by_peft_as_others_do(adapter, micro_model, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    out = export(adapter, tmp_path / "out", "--to", "adapter")
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(micro_model, dtype=torch.float32), out)
    torch.testing.assert_close(logits(tuned), evaluated(micro_model, adapter), atol=1e-4, rtol=1e-4)
    tokenizer, prompt = AutoTokenizer.from_pretrained(out), read_prompt_file(out)
    assert tokenizer.chat_template and GenerationConfig.from_pretrained(out).eos_token_id == prompt.end_id
    assert tokenizer.convert_tokens_to_ids(prompt.end) == prompt.end_id
    named = json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == micro_model.name  # by the adapters' own rule: no path of this machine
    card = (out / "README.md").read_text()
    assert "## Licences" in card and "text2sql prompt" in card and "library_name: peft" in card
    assert str(tmp_path) not in card


def test_a_strength_is_in_the_adapters_alpha(repository, adapter, micro_model, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    write_params(repository, micro_model, adapter / "params.yaml", strength=0.5)
    out = export(adapter, tmp_path / "out", "--to", "adapter")
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(micro_model, dtype=torch.float32), out)
    torch.testing.assert_close(logits(tuned), evaluated(micro_model, adapter, strength=0.5), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merged_weights_need_no_base(adapter, micro_model, tmp_path, dtype):
    import torch
    from transformers import AutoModelForCausalLM

    out = export(adapter, tmp_path / "out", "--to", "merged", "--dtype", dtype)
    merged = AutoModelForCausalLM.from_pretrained(out)
    assert merged.dtype == getattr(torch, dtype) and not (out / "adapter_config.json").exists()
    close = {"float32": 1e-4, "bfloat16": 0.3}[dtype]
    torch.testing.assert_close(logits(merged).float(), evaluated(micro_model, adapter), atol=close, rtol=close)


def test_a_whole_model_is_merged_already_and_has_no_adapter(repository, adapter, micro_model, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    whole = export(adapter, tmp_path / "whole", "--to", "merged", "--dtype", "float32")
    write_params(repository, micro_model, whole / "params.yaml")
    again = export(whole, tmp_path / "again", "--to", "vllm", "--dtype", "float32")
    one, other = (logits(AutoModelForCausalLM.from_pretrained(folder)) for folder in (whole, again))
    assert torch.equal(one, other)
    assert "vllm serve" in (again / "serve.sh").read_text() and "--enable-lora" not in (again / "serve.sh").read_text()
    with pytest.raises(UserError, match="--to adapter: whole has none; takes merged or gguf"):
        export(whole, tmp_path / "none", "--to", "adapter")


def test_a_gguf_has_a_modelfile_with_the_evaluated_prompt(adapter, tmp_path):
    out = export(adapter, tmp_path / "out", "--to", "gguf", "--quantization", "f16")
    text, prompt = (out / "Modelfile").read_text(), read_prompt_file(out)
    assert text.startswith("FROM ./model.gguf\n") and 'PARAMETER stop "<|im_end|>"' in text
    shown = json.loads((out / "prompt.json").read_text())["example"]
    template = text.partition('TEMPLATE """')[2].partition('"""')[0]
    filled = template.replace("{{ .System }}", prompt.system).replace("{{ .Prompt }}", shown["messages"][-1]["content"])
    assert filled.replace("{{ .Response }}", "SELECT 1") == shown["text"] + "SELECT 1<|im_end|>"
    record = read_record(out)
    assert (record.form, record.dtype, record.name) == ("gguf", "f16", "tuned")
    assert record.bytes == sum(file.stat().st_size for file in out.iterdir() if file.name != "export.json")


def test_vllms_command_line_has_the_adapters_rank(adapter, tmp_path):
    out = export(adapter, tmp_path / "out", "--to", "vllm")
    serve = (out / "serve.sh").read_text()
    assert "--enable-lora --max-lora-rank 8" in serve  # of an adapter of rank 4: vLLM takes steps
    assert [max_lora_rank(rank) for rank in (1, 4, 8, 9, 300)] == [1, 8, 8, 16, 320]
    done = subprocess.run(["sh", "-n", out / "serve.sh"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_adapter_that_vllm_does_not_take_is_merged_for_it(adapter, tmp_path):
    edit_json(adapter / "adapter_config.json", alpha_pattern={"q_proj": 2})
    out = export(adapter, tmp_path / "out", "--to", "vllm")
    assert read_record(out).form == "merged" and (out / "model.safetensors").is_file()


def test_a_folder_that_holds_something_else_is_left_alone(adapter, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="other: holds something else than an export; name another folder"):
        export(adapter, other, "--to", "adapter", "--replace")
    assert (other / "thesis.txt").read_text() == "years of work"
    out = export(adapter, tmp_path / "out", "--to", "adapter")
    with pytest.raises(UserError, match="out: is there already; --replace puts"):
        export(adapter, out, "--to", "merged")
    export(adapter, out, "--to", "merged", "--replace")
    assert read_record(out).form == "merged" and not (out / "adapter_config.json").exists()
    with pytest.raises(UserError, match="is a file, wanted a folder"):
        export(adapter, other / "thesis.txt", "--to", "merged")


def test_what_cannot_be_exported_is_one_line(repository, adapter, micro_model, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="--dtype: has no meaning for --to gguf, takes --to merged or vllm"):
        export(adapter, out, "--to", "gguf", "--dtype", "float32")
    shutil.copyfile(adapter / "params.yaml", "params.yaml")
    with pytest.raises(UserError, match=r"m9: no model of params.yaml \(base, m1, m2\) \(did you mean m[12]\?\)"):
        export("m9", out, "--to", "merged")
    with pytest.raises(UserError, match="models/m1: no such folder"):
        export("m1", out, "--to", "merged")
    (adapter / "adapter_model.safetensors").rename(adapter / "kept")
    with pytest.raises(UserError, match="has no adapter_model.safetensors: its training has not finished"):
        export(adapter, out, "--to", "merged")
    (adapter / "kept").rename(adapter / "adapter_model.safetensors")
    edit_json(adapter / "adapter_config.json", auto_mapping={"text2sql_base": {"name": "another", "sha256": "0" * 64}})
    for form in ("adapter", "merged", "gguf"):
        with pytest.raises(UserError, match="was trained on another .* and model.base is"):
            export(adapter, out, "--to", form)
    monkeypatch.setattr(engines.Engine, "python", property(lambda engine: "/usr/bin/false"))
    with pytest.raises(UserError, match="--engine llama.cpp: the package llama_cpp is not installed; `make llama-cpp`"):
        export(adapter, out, "--to", "gguf", "--quantization", "q4_k_m")
    assert not out.exists() and not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("options", [["--to", "merged"], ["--to", "gguf"]])
def test_a_full_disk_leaves_nothing(adapter, tmp_path, monkeypatch, options):
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shards.shutil, "disk_usage", lambda place: free)
    with pytest.raises(UserError, match="--out: .*out: not enough disk space; make room"):
        export(adapter, tmp_path / "out", *options)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_a_killed_export_leaves_no_folder_that_looks_finished(adapter, repository, tmp_path):
    """Killed while it writes: the next one starts over, and clears up."""
    out = tmp_path / "out"
    hold = (
        "import sys, time; from text2sql.cli import export; from text2sql.model import merged_model\n"
        "merged_model.MergedModel.write_weights = lambda *rest: (print('writing', flush=True), time.sleep(60))\n"
        "export.main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", hold, str(adapter), "--to", "merged", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert not out.exists() and list(tmp_path.glob(".out*"))
    with pytest.raises(UserError, match="no such folder; wanted one that `text2sql export` wrote"):
        read_record(out)
    export(adapter, out, "--to", "adapter")
    assert read_record(out).form == "adapter" and not list(tmp_path.glob(".out*"))


def test_an_export_that_lost_a_file_is_no_export(adapter, tmp_path):
    out = export(adapter, tmp_path / "out", "--to", "adapter")
    (out / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="has no tokenizer.json, which it was exported with; export again"):
        read_record(out)


def test_the_stored_adapter_of_the_repository_has_its_measured_table(repository, monkeypatch):
    from text2sql.experiments.export.card import export_card

    monkeypatch.chdir(repository)
    source = find_source("adapters/qwen05-ddl")
    card = export_card(source, ExportEntry(model="m1", format="gguf"), whole=True)
    spider = json.loads((repository / "results/qwen05-ddl/metrics/spider/m1.json").read_text())
    assert f"{100 * spider['execution_accuracy']:.2f} %" in card and "apache-2.0" in card
    assert "Spider, CC BY-SA 4.0" in card and "PeftModel" not in card
