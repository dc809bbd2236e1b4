"""Model 1's adapter of a set, kept in git under `adapters/<name>/` so that `text2sql ask` needs no training.

Weights are rounded to bfloat16, half of what training keeps. A run that evaluates in bfloat16 multiplies with just
these (`model.adapters.cast_adapter_to_base`), so that such a set's figures are those of the stored file. Beside them
lie params.yaml, with which `ask` loads them, and SHA256SUMS (`sha256sum -c SHA256SUMS`).
"""

import shutil
from pathlib import Path

from text2sql.core.digests import file_sha256
from text2sql.core.errors import UserError
from text2sql.core.files import atomic_directory, read_json, write_text
from text2sql.core.params import load_params
from text2sql.model.adapters import CONFIG, WEIGHTS, check_adapter
from text2sql.model.whole_model import is_whole
from text2sql.report import lock
from text2sql.report.numbers import count, percent
from text2sql.report.result_sets import MMLU_ALL, RESULTS

ADAPTERS = Path("adapters")
SOURCE = Path("models/m1")
SUMS = "SHA256SUMS"
CARD = "README.md"


def export_adapter(name: str, replace: bool = False) -> str:
    """Write the adapter in models/m1, in bfloat16, to `adapters/<name>/`; return a line about it.

    Raises UserError where it is not the adapter of the set `results/<name>`, or one of that name is there.
    """
    target, whole = ADAPTERS / name, RESULTS / name
    if target.exists() and not replace:
        raise UserError(f"{target}: is there already; --replace puts this adapter in its place")
    if not whole.is_dir():
        raise UserError(f"{whole}: no such set; export the run first, then its adapter")
    if is_whole(SOURCE):
        raise UserError(f"{SOURCE}: is a whole model (train.method: full), and no adapter: too large to keep in git")
    check_adapter(SOURCE)
    if lock.md5(SOURCE) != lock.written(lock.read_stages(whole / "dvc.lock")).get(SOURCE.as_posix(), ("", ""))[1]:
        raise UserError(f"{SOURCE}: is not the adapter of {whole}; `dvc checkout`, or export the run again")
    with atomic_directory(target) as folder:
        _write_rounded(SOURCE / WEIGHTS, folder / WEIGHTS)
        shutil.copyfile(SOURCE / CONFIG, folder / CONFIG)
        shutil.copyfile(whole / "params.yaml", folder / "params.yaml")
        sum_ = file_sha256(folder / WEIGHTS)
        write_text(folder / SUMS, f"{sum_}  {WEIGHTS}\n")
        card = (SOURCE / CARD).read_text(encoding="utf-8").replace(SOURCE.as_posix(), target.as_posix())
        write_text(folder / CARD, f"{card.rstrip()}\n\n{_about(whole, target, sum_)}\n")
    return f"{target}: {(target / WEIGHTS).stat().st_size / 1e6:.1f} MB, sha256 {sum_}"


def _write_rounded(source: Path, target: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(source)
    save_file({name: value.to(torch.bfloat16) for name, value in weights.items()}, target, metadata={"format": "pt"})
    target.chmod(0o644)  # safetensors makes its file readable by its owner only


def _about(whole: Path, target: Path, sum_: str) -> str:
    """Return the card's section on this copy, with the set's figures where they are those of the rounded weights."""
    lines = [
        "## This copy",
        f"Rounded to bfloat16; sha256 of `{WEIGHTS}`: `{sum_}`. To ask it about a database of your own:",
        f'    text2sql ask "How many singers are there?" --db PATH.sqlite --model {target.as_posix()}',
    ]
    # unsloth keeps the adapter in float32.
    by_transformers = load_params(whole / "params.yaml").model.loader == "transformers"
    if not by_transformers or read_json(whole / "timings/predict_spider_m1.json").get("dtype") != "bfloat16":
        lines.append(f"{whole.as_posix()} was not evaluated with rounded weights: its figures are not this file's.")
        return "\n\n".join(lines)
    spider = read_json(whole / "metrics/spider/m1.json")
    questions = load_params(whole / "params.yaml").data.name
    figures = [f"{percent(spider['execution_accuracy'])} of {questions}'s {count(spider['total'])} dev questions"]
    figures.append(f"{percent(spider['official_execution_accuracy'])} by the official definition")
    for folder in (whole, whole / MMLU_ALL):
        if folder.is_dir():
            mmlu = read_json(folder / "metrics/mmlu/m1.json")
            figures.append(f"{percent(mmlu['accuracy'])} of {count(mmlu['total'])} MMLU questions")
    return "\n\n".join([*lines, f"{whole.as_posix()}, evaluated with these weights in bfloat16: {', '.join(figures)}."])


def check_adapters() -> None:
    """Hold each stored adapter against its sha256 and its set. Raises UserError for the first that does not fit."""
    for sums in sorted(ADAPTERS.glob(f"*/{SUMS}")):
        folder = sums.parent
        check_adapter(folder)
        if sums.read_text(encoding="utf-8").split() != [file_sha256(folder / WEIGHTS), WEIGHTS]:
            raise UserError(f"{folder / WEIGHTS}: has not the sha256 of {sums}")
        params = RESULTS / folder.name / "params.yaml"
        if not params.is_file() or params.read_bytes() != (folder / "params.yaml").read_bytes():
            raise UserError(f"{folder}: its params.yaml is not that of {params.parent}")
        print(f"{folder}: its sha256, and its set's params")
