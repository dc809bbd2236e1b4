"""Print the messages that ask a question about a database, exactly as they were evaluated: for a client of a server.

    text2sql prompt "How many singers are there?" --db PATH.sqlite --export exports/m1-gguf
    text2sql prompt "How many singers are there?" --db PATH.sqlite --request      the whole body of a request

With --export they are those of that folder's prompt.json, else those of params.yaml. They are one line of JSON.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from text2sql.core.errors import ArgumentParser, UserError
from text2sql.data.in_use import readable
from text2sql.data.schema import schema_from_sqlite

if TYPE_CHECKING:
    from text2sql.prompts.prompt_file import PromptFile


def main(arguments: Sequence[str]) -> None:
    """Print the messages, or the request."""
    parser = ArgumentParser(prog="text2sql prompt", description=__doc__.splitlines()[0])
    parser.add_argument("question", help="a question in words")
    parser.add_argument("--db", required=True, type=Path, help="the SQLite database asked about")
    parser.add_argument("--export", type=Path, metavar="FOLDER", help="what `text2sql export` wrote")
    parser.add_argument("--model", help="without --export: a name of `models` (default: the first tuned)")
    parser.add_argument("--request", action="store_true", help="print the body of a request, without a model's name")
    options = parser.parse_args(arguments)
    if not options.question.strip():
        raise UserError("question: is empty; wanted a question in words")
    if not options.db.is_file():
        raise UserError(f"--db: {options.db}: no such file")
    prompt = _prompt(options.export, options.model)
    with readable(options.db) as database:
        schema = schema_from_sqlite(database, options.db.stem)
        if not schema.tables:
            raise UserError(f"--db: {options.db}: has no tables to ask about")
        write = prompt.request if options.request else prompt.messages
        rich = prompt.rich(lambda db_id: database)
        found = write(options.question, schema, rich)
    for line in rich.lines() if rich else ():
        print(line, file=sys.stderr)
    print(json.dumps(found, ensure_ascii=False))


def _prompt(folder: Path | None, model: str | None) -> "PromptFile":
    from text2sql.prompts.prompt_file import read_prompt_file

    if folder is not None:
        return read_prompt_file(folder)
    from text2sql.core.params import load_params
    from text2sql.experiments.export.source import find_source
    from text2sql.experiments.export.write import prompt_of
    from text2sql.model.chat_tokens import ChatTokens

    source = find_source(model or load_params().model_table.tuned[0])
    return prompt_of(source, ChatTokens.of(source.params.model, source.folder, source.params.prompt.template))
