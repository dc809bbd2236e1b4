"""Compare base, Model 1 and Model 2: what was gained, what it cost, and whether either is more than chance.

    python -m stages.compare            write metrics/compare.json, metrics/plots/ and the reports
    python -m stages.compare --show     print the tables again
    python -m stages.compare --gate     exit 1 where a tuned model breaks a limit of `compare` in params.yaml

The stage itself never fails over a score. The gate reads metrics/compare.json and params.yaml alone, so that it works
in a fresh clone; what its interval leaves open is named as inconclusive, and passes.
"""

import csv
import itertools
import subprocess
from collections.abc import Sequence
from pathlib import Path

from text2sql.comparison import compare as comparison
from text2sql.comparison.compare import MODELS, TUNED
from text2sql.core.errors import ArgumentParser, UserError, run
from text2sql.core.files import atomic_file, iter_jsonl, read_json, read_object, write_json, write_text
from text2sql.core.params import load_params
from text2sql.report import lock

FLAT = Path("metrics/compare.json")
PLOTS = Path("metrics/plots")
MARKDOWN = Path("reports/report.md")
HTML = Path("reports/report.html")
# What is read here of each line and file. The rest of them is their own stage's affair.
VERDICT = {
    "index": int, "db_id": str, "hardness": str, "question": str, "gold": str, "sql": str,
    "execution_accuracy": bool, "official_execution_accuracy": bool, "outcome": str,
}  # fmt: skip
CHOICE = {"subject": str, "category": str, "index": int, "choice": int, "correct": bool}
PREDICTION = {"index": int, "db_id": str, "raw": str}
SPIDER_METRICS = {
    "execution_accuracy": float, "official_execution_accuracy": float, "successes": int, "official_successes": int,
    "total": int, "by_hardness": dict, "causes": dict, "causes_by_hardness": dict, "sqlite_version": str,
}  # fmt: skip
MMLU_METRICS = {"accuracy": float, "correct": int, "total": int, "by_category": dict, "by_subject": dict}
TRAINING = {"final_loss": float, "steps": int, "examples": int, "trainable_parameters": int}
TIMING = {"stage": str, "seconds": float, "versions": dict}
TIMED_STAGES = ("prepare", "train", "predict_spider", "eval_spider", "eval_mmlu", "compare")


def main(arguments: Sequence[str]) -> int:
    """Write the comparison, or show it, or hold it against the limits. Returns the exit code."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--gate", action="store_true", help="exit 1 where a limit is broken, 0 otherwise")
    only.add_argument("--show", action="store_true", help="print the tables of the last comparison")
    options = parser.parse_args(arguments)
    if options.gate:
        return gate()
    if options.show:
        show()
    else:
        write()
    return 0


def gate() -> int:
    """Print each limit's verdict; return 1 where one is broken, else 0. Needs neither numpy nor scipy."""
    trade_offs = comparison.trade_off(comparison.read_flat(FLAT), load_params().compare)
    print("\n".join(comparison.gate_lines(trade_offs)))
    outcome = comparison.gate_outcome(trade_offs)
    print(f"gate: {outcome}")
    return 1 if outcome == "broken" else 0


def show() -> None:
    """Print the report, and where everything lies."""
    try:
        print(MARKDOWN.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{MARKDOWN}: no such file; `dvc repro` writes it (`dvc pull` where a remote has it)") from None
    print(f"Metrics: {FLAT}, metrics/spider/, metrics/mmlu/, metrics/train/ (`dvc metrics show`)")
    print(f"Plots:   {PLOTS}/ (`dvc plots show`)")
    print(f"Reports: {MARKDOWN}, {HTML}")


def write() -> None:
    """Compare what the stages before left, and write metrics, plots' data and both reports."""
    from text2sql.report import html as html_report
    from text2sql.report import markdown as report

    params = load_params()
    verdict_lines = {model: f"data/verdicts/spider/{model}.jsonl" for model in MODELS}
    found = comparison.compare(
        {
            model: comparison.ModelResults(
                spider_metrics=read_object(f"metrics/spider/{model}.json", SPIDER_METRICS),
                mmlu_metrics=read_object(f"metrics/mmlu/{model}.json", MMLU_METRICS),
                spider_verdicts=iter_jsonl(verdict_lines[model], VERDICT),
                mmlu_verdicts=iter_jsonl(f"data/verdicts/mmlu/{model}.jsonl", CHOICE),
                predictions=iter_jsonl(f"data/predictions/{model}.jsonl", PREDICTION),
            )
            for model in MODELS
        },
        params.compare,
    )
    training = {model: read_object(f"metrics/train/{model}.json", TRAINING) for model in TUNED}
    timings = read_timings(Path("data/timings"))
    # Read again, since the explorer shows not all of a great many.
    step = html_report.explorer_step(found["spider"]["base"]["total"])
    page = html_report.html(
        found,
        params=params.model_dump(by_alias=True),
        metrics={"train": training},
        verdicts={
            model: list(itertools.islice(iter_jsonl(path), 0, None, step)) for model, path in verdict_lines.items()
        },
        schemas=read_json("data/prepared/spider/schemas.json"),
        timings=timings,
        loss_curves={model: read_loss_curve(Path(f"metrics/train/{model}_loss.csv")) for model in TUNED},
        provenance=provenance(timings, found),
    )
    write_csv(PLOTS / "accuracy.csv", comparison.accuracy_rows(found))
    write_csv(PLOTS / "mmlu_by_category.csv", comparison.category_rows(found))
    write_text(MARKDOWN, report.markdown(found, params, training, timings))
    write_text(HTML, page)
    write_json(FLAT, comparison.flatten(found))
    print(report.bullets([*found["sentences"].values(), *comparison.gate_lines(found["trade_off"])]))
    print(f"compare: wrote {FLAT}, {PLOTS}/, {MARKDOWN} and {HTML}")
    print("The tables: python -m stages.compare --show")


def read_timings(folder: Path) -> dict[str, dict]:
    """Return {file's stem: its dictionary} in the pipeline's order."""
    timings = {path.stem: read_object(path, TIMING) for path in folder.glob("*.json")}

    def place(stem: str) -> tuple[int, str]:
        stage = timings[stem]["stage"]
        # base, m1 and m2 sort as they stand.
        return (TIMED_STAGES.index(stage) if stage in TIMED_STAGES else len(TIMED_STAGES), stem)

    return {stem: timings[stem] for stem in sorted(timings, key=place)}


def read_loss_curve(path: Path) -> list[dict[str, float]]:
    """Return the rows of a loss curve as numbers."""
    rows = []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            for row in reader:
                rows.append({name: float(value) for name, value in row.items()})
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}, line {reader.line_num}: wanted numbers alone: {error}") from None
    return rows


def write_csv(path: Path, rows: Sequence[dict]) -> None:
    """Write `rows`, which share their keys, whole or not at all."""
    with atomic_file(path) as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def provenance(timings: dict[str, dict], found: dict) -> dict:
    """Return what the run was made of: git's revision, library versions, and the raw data's checksums by DVC."""
    versions = {"sqlite": found["spider"]["base"]["sqlite_version"]}
    for timing in timings.values():
        versions |= timing["versions"]
    return {"git": _git_revision(), "versions": versions, "data": _data_checksums(Path("dvc.lock"))}


def _git_revision() -> dict[str, str]:
    try:
        revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {"revision": "not in a git repository"}
    return {"revision": revision.stdout.strip()}


def _data_checksums(lock_file: Path) -> dict[str, str]:
    """Return {raw data path: md5} as `prepare` found it: DVC writes its lock after each stage."""
    if not lock_file.is_file():
        return {}
    dependencies = lock.read(lock.read_stages(lock_file, own=True))
    return {path: md5 for stage, path, md5 in dependencies if stage == "prepare" and not path.endswith(".py")}


if __name__ == "__main__":
    run(main)
