"""The benchmark of load, at a size that takes seconds."""

from benchmarks import __main__ as benchmarks_main
from benchmarks import bench_load
from benchmarks.measuring import markdown


def test_it_measures_each_stage_and_prints_what_it_found(monkeypatch):
    monkeypatch.setattr(bench_load, "TRAIN", 30)
    monkeypatch.setattr(bench_load, "DEV", 12)
    found = bench_load.measure_at(1)
    assert {stage: entry["examples"] for stage, entry in found.items()} == {
        "prepare": 30, "eval_spider": 12, "compare": 12,
    }  # fmt: skip
    assert all(entry["seconds"] > 0 and entry["peak_megabytes"] > 1 for entry in found.values())
    four_times = {stage: {**entry, "seconds": entry["seconds"] * 4} for stage, entry in found.items()}
    text = bench_load.report({1: found, 4: four_times})
    assert text.count(" 1.00") == 3 and "reports/report.html" in text


def test_it_runs_among_the_others(monkeypatch):
    monkeypatch.setattr(bench_load, "measure_at", lambda times: {
        stage: {"seconds": float(times), "peak_megabytes": 60.0, "report_megabytes": 1.0, "examples": times}
        for stage in ("prepare", "eval_spider", "compare")
    })  # fmt: skip
    found = benchmarks_main.run("load", {"short": True})
    assert list(found["stages"]) == ["1x", "4x"]
    assert "| compare     | 4x     | 4          | 4.0       | 60        | 1.00     |" in markdown(found)
