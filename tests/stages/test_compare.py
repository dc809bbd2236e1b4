"""`python -m stages.compare` on invented results: what it writes, that it repeats itself, and its gate."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages import compare
from testkit import synthetic
from text2sql.core.errors import UserError
from text2sql.core.files import read_json, write_json
from text2sql.core.models import PAPER_MODELS
from text2sql.report.run import read_timings

COMMITTED = ("metrics/compare.json", "metrics/plots/accuracy.csv", "metrics/plots/mmlu_by_category.csv")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder as the pipeline leaves it before `compare`, which is the current one."""
    synthetic.results(examples=60, questions=12).write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_limits(project, loss, gain):
    path = project / "params.yaml"
    lines = path.read_text(encoding="utf-8").splitlines()
    changed = {"max_mmlu_loss_pts": loss, "min_spider_gain_pts": gain}
    for place, line in enumerate(lines):
        key = line.partition(":")[0].strip()
        if key in changed:
            lines[place] = f"  {key}: {changed[key]}"
    path.write_text("\n".join(lines), encoding="utf-8")


def test_it_writes_metrics_plots_and_both_reports(project, capsys):
    assert compare.main([]) == 0
    flat = read_json("metrics/compare.json")
    assert all(isinstance(value, (int, float)) for value in flat.values())
    assert flat["spider_total"] == 60 and flat["mmlu_total"] == 36
    with open("metrics/plots/mmlu_by_category.csv", encoding="utf-8", newline="") as file:
        plotted = list(csv.DictReader(file))
    assert {row["category"] for row in plotted} == {"stem", "humanities", "social_sciences"}
    markdown = Path("reports/report.md").read_text(encoding="utf-8")
    assert "75 of 1,034: 7.25 %" in markdown
    page = Path("reports/report.html").read_text(encoding="utf-8")
    assert "<html" in page and "train_m1" not in json.dumps(flat)
    printed = capsys.readouterr().out
    assert "Model 1" in printed and "metrics/compare.json" in printed and "reports/report.html" in printed


def test_dvcs_plots_draw_what_the_plots_files_hold(project, repository):
    compare.main([])
    template = (repository / ".dvc/plots/intervals.json").read_text(encoding="utf-8")
    wanted = set(re.findall(r"datum\.(\w+)", template)) | {"model"}
    for name, group in (("accuracy", "task"), ("mmlu_by_category", "category")):
        with open(f"metrics/plots/{name}.csv", encoding="utf-8", newline="") as file:
            columns = set(csv.DictReader(file).fieldnames)
        assert wanted - {"task", "category"} | {group} <= columns
    entries = _dvc_yaml(repository)["plots"]
    pictures = [entry for entry in entries if isinstance(entry, str)]
    assert pictures and all((repository / path).is_file() for path in pictures)
    plots = {name: plot for entry in entries if entry not in pictures for name, plot in entry.items()}
    for name in ("accuracy", "mmlu_by_category"):
        assert plots[name]["template"] == "intervals"
        assert plots[name]["y"] == {f"metrics/plots/{name}.csv": "model"}
    assert json.loads(template)["data"] == {"values": "<DVC_METRIC_DATA>"}


def _dvc_yaml(repository):
    return YAML(typ="safe").load((repository / "dvc.yaml").read_text(encoding="utf-8"))


def test_what_git_holds_depends_on_neither_time_nor_machine(project):
    compare.main([])
    before = [Path(name).read_bytes() for name in COMMITTED]
    for timing in Path("data/timings").glob("*.json"):
        write_json(timing, read_json(timing) | {"seconds": 9999.0, "tokens_per_second": 1.0, "cpus": 64})
    compare.main([])
    assert [Path(name).read_bytes() for name in COMMITTED] == before


def test_it_works_without_timings_git_or_lock(project):
    for timing in Path("data/timings").glob("*.json"):
        timing.unlink()
    assert compare.main([]) == 0
    assert "No durations were recorded." in Path("reports/report.md").read_text(encoding="utf-8")


def test_show_prints_the_tables_and_where_the_metrics_lie(project, capsys):
    with pytest.raises(UserError, match=r"reports/report.md: no such file"):
        compare.main(["--show"])
    compare.main([])
    capsys.readouterr()
    compare.main(["--show"])
    printed = capsys.readouterr().out
    assert "| Model 2 " in printed and "metrics/spider/" in printed


def test_a_missing_file_is_named_and_earlier_outputs_stay(project):
    compare.main([])
    before = [Path(name).read_bytes() for name in COMMITTED]
    Path("data/verdicts/mmlu/m2.jsonl").unlink()
    with pytest.raises(UserError, match=r"data/verdicts/mmlu/m2.jsonl: no such file"):
        compare.main([])
    assert [Path(name).read_bytes() for name in COMMITTED] == before


@pytest.mark.parametrize(
    ("loss", "gain", "code", "outcome"),
    [(100, 0, 0, "kept"), (0, 0, 0, "inconclusive"), (100, 90, 1, "broken")],
)
def test_the_gate_fails_where_a_limit_is_broken_alone(project, capsys, loss, gain, code, outcome):
    set_limits(project, loss, gain)
    assert compare.main([]) == 0  # the stage never fails over a score
    capsys.readouterr()
    assert compare.main(["--gate"]) == code
    printed = capsys.readouterr().out
    assert printed.endswith(f"gate: {outcome}\n")
    assert any(line.startswith(outcome) for line in printed.splitlines()[:-1])


def test_gate_exit_codes_are_the_scripts_own(project, repository):
    def gate():
        return subprocess.run(
            [sys.executable, "-m", "stages.compare", "--gate"],
            cwd=project, env={"PYTHONPATH": str(repository), "PATH": ""}, capture_output=True, text=True,
        )  # fmt: skip

    missing = gate()
    assert missing.returncode == 2
    assert missing.stderr == "error: metrics/compare.json: no such file\n"
    compare.main([])
    set_limits(project, 100, 90)
    assert gate().returncode == 1


def test_gate_and_review_need_none_of_the_heavy_libraries(repository):
    code = (
        "import sys, stages.compare, text2sql.cli.review, text2sql.report.review, text2sql.comparison.gate\n"
        "print([name for name in ('numpy', 'scipy', 'statsmodels', 'pandas', 'torch', 'jinja2', 'pyarrow', 'dvc')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_timings_are_listed_in_the_pipelines_order(project):
    names = list(read_timings(Path("data/timings"), PAPER_MODELS))
    assert names[:4] == ["prepare", "train_m1", "train_m2", "predict_spider_base"]
    assert names[-1] == "eval_mmlu_m2"


def test_the_data_checksums_are_those_that_dvc_recorded(project):
    Path("dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  prepare:\n    cmd: x\n    deps:\n"
        "    - path: data/sample/spider\n      hash: md5\n      md5: abc.dir\n"
        "    - path: stages/prepare.py\n      hash: md5\n      md5: def\n",
        encoding="utf-8",
    )
    compare.main([])
    assert "abc.dir" in Path("reports/report.html").read_text(encoding="utf-8")


def test_a_third_tuned_model_of_the_params_is_compared_reported_and_gated(tmp_path, monkeypatch, capsys):
    synthetic.results(examples=60, questions=12, models=synthetic.FOUR_MODELS).write(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert compare.main([]) == 0
    flat = read_json("metrics/compare.json")
    assert {"spider_gain_pts_m3", "mmlu_loss_pts_m1_m3", "spider_execution_accuracy_m3"} <= set(flat)
    for name in ("accuracy", "mmlu_by_category"):
        with open(f"metrics/plots/{name}.csv", encoding="utf-8", newline="") as file:
            assert [row["model"] for row in csv.DictReader(file)][:4] == ["Start", "First", "Second", "Third"]
    assert "| Third and Start " in Path("reports/report.md").read_text(encoding="utf-8")
    assert "Third" in Path("reports/report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    compare.main(["--gate"])
    assert capsys.readouterr().out.count(": Third, ") == 2
