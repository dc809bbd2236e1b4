"""SmolLM2's tokenizer with some of its tokens: loading it whole is most of what a small model takes."""

import functools
import json
import tempfile
from pathlib import Path

from text2sql.model.bases import embedded_base

REPOSITORY = Path(__file__).parent.parent
FIRST_TOKENS = 4096
TEXTS = ("data/sample/spider/dev.json", "text2sql/prompts/messages.py", "testkit/train_once.py")


def short_tokenizer() -> Path:
    """Return a folder with the tokenizer, which lasts as long as this process."""
    return Path(_folder().name)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory:
    from transformers import AutoTokenizer

    folder = tempfile.TemporaryDirectory(prefix="tokenizer-")
    AutoTokenizer.from_pretrained(embedded_base()).save_pretrained(folder.name)
    _shorten(Path(folder.name))
    return folder


def _shorten(folder: Path) -> None:
    """Cut a byte-pair tokenizer to its first tokens and those of our texts, with the tokens that these are made of.

    It goes on splitting the sample's questions and queries, and the template's and the prompts' words, as before.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    whole, tokens = Tokenizer.from_file(str(path)), set()
    for text in (folder / "chat_template.jinja", *(REPOSITORY / name for name in TEXTS)):
        tokens |= set(whole.encode(text.read_text(encoding="utf-8")).tokens)
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    model = tokenizer["model"]
    tokens |= {token for token, number in model["vocab"].items() if number < FIRST_TOKENS}
    for first, second in reversed(model["merges"]):  # a token's parts come before it
        if first + second in tokens:
            tokens |= {first, second}
    kept = sorted(tokens, key=model["vocab"].get)
    model["vocab"] = {token: number for number, token in enumerate(kept)}
    model["merges"] = [merge for merge in model["merges"] if "".join(merge) in tokens]
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
