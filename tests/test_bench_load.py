"""The benchmark of load, at a size that takes seconds."""

from benchmarks import bench_load


def test_it_measures_each_stage_and_prints_what_it_found(monkeypatch):
    monkeypatch.setattr(bench_load, "TRAIN", 30)
    monkeypatch.setattr(bench_load, "DEV", 12)
    found = bench_load.measure(1)
    assert {stage: entry["examples"] for stage, entry in found.items()} == {
        "prepare": 30, "eval_spider": 12, "compare": 12,
    }  # fmt: skip
    assert all(entry["seconds"] > 0 and entry["peak_megabytes"] > 1 for entry in found.values())
    four_times = {stage: {**entry, "seconds": entry["seconds"] * 4} for stage, entry in found.items()}
    text = bench_load.report({1: found, 4: four_times})
    assert text.count(" 1.00") == 3 and "reports/report.html" in text
