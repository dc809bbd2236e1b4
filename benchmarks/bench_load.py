"""Does it hold with a lot of data? Time and peak memory of the stages that work without a model, at 1, 4 and 16 times.

    python -m benchmarks.bench_load [--times N …] [--save]

At 1x a training file of 6,250 examples goes through `prepare`, and 1,250 dev examples of one model through
`eval_spider` and `compare`; at 16x it is 100,000 and 20,000. The examples are those of data/sample over and over, each
with a number of its own in question and query, so that no result is found twice. Each stage runs in a process of its
own, whose peak memory is the kernel's figure for it and its workers. Growth is the exponent b of time ~ size^b between
the smallest and the largest: 1 is linear.
"""

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from benchmarks.material import REPOSITORY
from benchmarks.measuring import result
from benchmarks.results import show

TRAIN, DEV = 6_250, 1_250  # at 1x
MODELS = ("base", "m1", "m2")
HEADINGS = ("stage", "size", "examples", "seconds", "peak MB", "growth")


def measure(short: bool = False, times: Sequence[int] | None = None) -> dict:
    """Return seconds and peak memory of the stages at each of `times` the smallest size."""
    found = {}
    for one in sorted(times or ((1, 4) if short else (1, 4, 16))):
        found[one] = measure_at(one)
        print(f"  {one}x: " + ", ".join(f"{stage} {entry['seconds']:.3g} s" for stage, entry in found[one].items()))
    return result(
        "load",
        "the stages that work without a model, with more and more data",
        {"train": TRAIN, "dev": DEV},
        [],
        [],
        stages={f"{one}x": stages for one, stages in found.items()},
        markdown=report(found),
    )


def measure_at(times: int) -> dict[str, dict[str, float]]:
    """Return {stage: {"seconds", "peak_megabytes", "examples"}} at `times` the smallest size."""
    with tempfile.TemporaryDirectory(prefix="text2sql-load-") as folder:
        project = Path(folder)
        _write_project(project, times)
        found = {"prepare": _run(project, "prepare", TRAIN * times)}
        _write_predictions(project)
        found["eval_spider"] = _run(project, "eval_spider base", DEV * times)
        _write_results_of_other_models(project)
        found["compare"] = _run(project, "compare", DEV * times)
        found["compare"]["report_megabytes"] = (project / "reports/report.html").stat().st_size / 1e6
    return found


def report(found: dict[int, dict[str, dict[str, float]]]) -> str:
    """Return the measurements as a table, with the growth of each stage's time."""
    rows = []
    for stage in next(iter(found.values())):
        smallest, largest = min(found), max(found)
        growth = "-"
        if largest > smallest:
            ratio = found[largest][stage]["seconds"] / found[smallest][stage]["seconds"]
            growth = f"{math.log(ratio) / math.log(largest / smallest):.2f}"
        for times, stages in found.items():
            entry = stages[stage]
            rows.append(
                [stage, f"{times}x", f"{entry['examples']:,}", f"{entry['seconds']:.1f}",
                 f"{entry['peak_megabytes']:.0f}", growth if times == largest else ""]
            )  # fmt: skip
    table = tabulate(rows, HEADINGS, tablefmt="github", disable_numparse=True)
    sizes = ", ".join(f"{stages['compare']['report_megabytes']:.1f} MB at {times}x" for times, stages in found.items())
    return f"{table}\n\nreports/report.html: {sizes}"


def _run(project: Path, stage: str, examples: int) -> dict[str, float]:
    """Run a stage; return its seconds, and the peak memory of its process or of one of its workers."""
    name, *arguments = stage.split()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(project / "cache")}
    # A process in between, whose children are this stage's alone.
    code = (
        "import json, resource, subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-m', *sys.argv[1:]], stdout=subprocess.DEVNULL)\n"
        "print(json.dumps([done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, f"stages.{name}", *arguments],
        cwd=project, env=environment, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    seconds = time.monotonic() - started
    exit_code, peak = json.loads(done.stdout)
    if exit_code:
        raise SystemExit(f"{stage}: exit code {exit_code}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": seconds, "peak_megabytes": peak * unit / 1e6, "examples": examples}


def _write_project(project: Path, times: int) -> None:
    """Write Spider with so many examples, MMLU as in the sample, and params that use all of it."""
    sample = REPOSITORY / "data/sample"
    shutil.copytree(sample, project / "data/sample")
    for name, count in (("train_spider", TRAIN * times), ("dev", DEV * times)):
        examples = json.loads((sample / f"spider/{name}.json").read_text(encoding="utf-8"))
        with (project / f"data/sample/spider/{name}.json").open("w", encoding="utf-8") as file:
            file.write("[")
            for number in range(count):
                file.write(",\n" if number else "\n")
                json.dump(_numbered(examples[number % len(examples)], number), file)
            file.write("\n]\n")
    params = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    (project / "params.yaml").write_text(re.sub(r"train_limit: \d+", "train_limit: null", params), encoding="utf-8")


def _numbered(example: dict, number: int) -> dict:
    """Return an example that occurs once: its query asks what it asked, under a comment of its own."""
    return {
        "db_id": example["db_id"],
        "question": f"{example['question']} ({number})",
        "query": f"{example['query']} /* {number} */",
    }


def _write_predictions(project: Path) -> None:
    """Write predictions of `base`: right, wrong, not SQL, and a text of some length, in turn."""
    from text2sql.core.files import iter_jsonl, write_jsonl

    def predictions():
        for line in iter_jsonl(project / "data/prepared/spider/dev.jsonl"):
            number = line["index"]
            answers = (line["query"], f"SELECT {number}", f"I do not know ({number}).", "SELECT x, " * 40 + str(number))
            sql = answers[number % 4]
            yield {
                "index": number, "db_id": line["db_id"], "question": line["question"], "gold": line["query"],
                "raw": sql, "sql": sql, "new_tokens": len(sql) // 4,
            }  # fmt: skip

    write_jsonl(project / "data/predictions/base.jsonl", predictions())


def _write_results_of_other_models(project: Path) -> None:
    """Give Models 1 and 2 the results of `base`, and all of them invented ones on MMLU and in training."""
    from testkit import synthetic
    from text2sql.core.files import write_json, write_jsonl, write_text

    for model in MODELS[1:]:
        for name in ("data/predictions/{}.jsonl", "data/verdicts/spider/{}.jsonl", "metrics/spider/{}.json"):
            shutil.copyfile(project / name.format("base"), project / name.format(model))
    made = synthetic.results(examples=4, questions=50)
    for model in MODELS:
        write_jsonl(project / f"data/verdicts/mmlu/{model}.jsonl", made.mmlu_verdicts[model])
        write_json(project / f"metrics/mmlu/{model}.json", made.mmlu_metrics[model])
    for model, metrics in made.train_metrics.items():
        write_json(project / f"metrics/train/{model}.json", metrics)
        write_text(project / f"metrics/train/{model}_loss.csv", "step,epoch,loss,learning_rate\n1,0.5,2.0,0.1\n")


def main(arguments: Sequence[str]) -> None:
    """Measure as `arguments` say, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, nargs="+", metavar="N", help="default: 1 4 16")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--save", action="store_true", help="merge into benchmarks/results")
    options = vars(parser.parse_args(arguments))
    saved = options.pop("save")
    show(measure(**options), saved)


if __name__ == "__main__":
    main(sys.argv[1:])
