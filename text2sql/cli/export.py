"""Export a model for others to load or serve, with the prompt that it was evaluated with. docs/export.md says more.

    text2sql export m1 --to adapter --out exports/m1          PEFT's format, as others load it
    text2sql export m1 --to merged --out exports/m1-merged    full weights, in bfloat16 (--dtype float32)
    text2sql export m1 --to gguf --out exports/m1-gguf        for llama.cpp and Ollama, q8_0 (--quantization q4_k_m, …)
    text2sql export m1 --to vllm --out exports/m1-vllm        for vLLM, with its command line

`text2sql verify FOLDER` then asks the export itself.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from text2sql.core.errors import ArgumentParser, UserError
from text2sql.core.params import FORMATS, ExportEntry


def main(arguments: Sequence[str]) -> None:
    """Write the export, and say where it is."""
    parser = ArgumentParser(prog="text2sql export", description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a name of `models` in params.yaml, or an adapter's folder with its params.yaml")
    parser.add_argument("--to", required=True, choices=FORMATS, help="the form")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="a new folder")
    parser.add_argument("--dtype", choices=_values("dtype"), help="of merged weights (default: bfloat16)")
    parser.add_argument("--quantization", choices=_values("quantization"), help="of a GGUF file (default: q8_0)")
    parser.add_argument("--params", type=Path, help="default: the adapter's own params.yaml, or that of this folder")
    parser.add_argument("--replace", action="store_true", help="put it in the place of an export that is there")
    options = parser.parse_args(arguments)
    for option, forms in (("dtype", ("merged", "vllm")), ("quantization", ("gguf",))):
        if getattr(options, option) and options.to not in forms:
            raise UserError(f"--{option}: has no meaning for --to {options.to}, takes --to {' or '.join(forms)}")
    from text2sql.experiments.export.source import find_source
    from text2sql.experiments.export.write import check_target, export

    check_target(options.out, options.replace)
    source = find_source(options.model, options.params)
    chosen = {name: getattr(options, name) for name in ("dtype", "quantization") if getattr(options, name)}
    entry = ExportEntry(model=source.model, format=options.to, **chosen)
    print(export(source, entry, options.out, options.replace))


def _values(field: str) -> tuple[str, ...]:
    return get_args(ExportEntry.model_fields[field].annotation)
