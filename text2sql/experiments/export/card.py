"""The README of an export: what it is, how to use it, what was measured of it, and the licences."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from text2sql.core.files import read_json
from text2sql.core.params import ExportEntry
from text2sql.core.paths import SAMPLE_SPIDER
from text2sql.experiments.export.source import Source
from text2sql.model.model_card import base_in_words, front_matter, licence_of
from text2sql.report.markdown_text import table
from text2sql.report.numbers import count, in_percent, interval, percent

CARD = "README.md"
_USE = {
    "adapter": """Load it unmerged on its base, which its `adapter_config.json` names:

    from peft import PeftModel
    model = PeftModel.from_pretrained(base, FOLDER)""",
    "merged": """All weights are here; it needs no base beside it:

    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(FOLDER)""",
    "gguf": """With llama.cpp, or by Ollama:

    llama-server -m model.gguf
    ollama create text2sql -f Modelfile""",
    "vllm": "`serve.sh` holds the command line of vLLM.",
}
_PROMPT = """`prompt.json` holds the prompt that was evaluated: send that one, or figures do not carry over.
The messages for a question about a database of yours are printed by

    text2sql prompt "How many singers are there?" --db PATH.sqlite --export FOLDER"""


def export_card(source: Source, entry: ExportEntry, whole: bool) -> str:
    """Return the card. `whole`: the folder holds a whole model, and no adapter."""
    parts = [
        front_matter(source.params.model, whole),
        _about(source, entry),
        f"## How to use it\n\n{_USE[entry.format]}\n\n{_PROMPT}",
        f"## Measured\n\n{_measured(source)}",
        f"## Licences\n\n{_licences(source)}",
    ]
    return "\n\n".join(parts) + "\n"


def _about(source: Source, entry: ExportEntry) -> str:
    """Return the trained model's own card without its front matter and its ways of use; of others, a line."""
    form = {"merged": f", merged, {entry.dtype}", "gguf": f", merged, GGUF {entry.quantization}"}.get(entry.format, "")
    own = source.folder / CARD if source.folder else None
    if own is None or not own.is_file():
        title = source.params.models[source.model].title
        return f"# {title}{form}\n\nMade of {base_in_words(source.params.model)} for questions about databases."
    text = own.read_text(encoding="utf-8")
    text = text.split("\n---\n", 1)[-1] if text.startswith("---\n") else text
    head, found, rest = text.partition("## How to use it")
    text = head + rest[rest.find("\n## ") + 1 :] if found and "\n## " in rest else head if found else text
    title, _, body = text.strip().partition("\n")
    return f"{title}{form}\n{body}"


def _measured(source: Source) -> str:
    if source.measured is None:
        return "Nothing: no metrics of this model were beside it when it was exported."
    models = source.params.model_table
    rows = []
    for model in dict.fromkeys((models.base, source.model)):
        spider, mmlu = (_read(source.measured / f"{task}/{model}.json") for task in ("spider", "mmlu"))
        rows.append(
            [
                models.titles[model],
                _share(spider, "execution_accuracy"),
                _share(spider, "official_execution_accuracy"),
                _share(mmlu, "accuracy"),
                count(spider["total"]) if spider else "-",
                count(mmlu["total"]) if mmlu else "-",
            ]
        )
    headings = ["Model", "Spider, execution accuracy", "Spider, official", "MMLU", "Questions", "of MMLU"]
    of_adapter = (
        "With 95 % intervals (Wilson's), of the adapter on its base, not of this file: `text2sql verify` asks an "
        "export itself, and says what it loses."
    )
    return f"{table(headings, rows)}\n\n{of_adapter}"


def _read(path: Path) -> Mapping[str, Any]:
    return read_json(path) if path.is_file() else {}


def _share(metrics: Mapping[str, Any], measure: str) -> str:
    if measure not in metrics:
        return "-"
    low, high = (in_percent(metrics[f"{measure}_{end}"]) for end in ("low", "high"))
    return f"{percent(metrics[measure])} ({interval(low, high)})"


def _licences(source: Source) -> str:
    params = source.params
    base = licence_of(params.model) or "that of its own repository, which holds for this model too"
    if Path(params.data.spider) == SAMPLE_SPIDER:
        data = "the project's own sample, Apache-2.0"
    elif params.data.spider == "hub" or "spider" in params.data.spider.lower():
        data = "Spider, CC BY-SA 4.0"
    else:
        data = "a local data set, under its owner's"
    return f"- The base, {params.model.base}: {base}\n- The data that it was trained on: {data}"
