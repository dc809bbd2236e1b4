"""`prompt.json`: what a program that serves an export needs to send the prompt that was evaluated.

system     the text of the system message, or null where the prompt has none
user       the user message: `template`, in which {schema} and {question} stand for what is asked (a plain
           replacement), and how the schema is written
template_variables   what the chat template is given besides the messages
request    the options of an OpenAI-style request: greedy, and where the answer ends
example    one question: its messages, the text that the model reads, and its token ids
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from text2sql.core.errors import UserError
from text2sql.core.files import read_object, user_cache, write_json
from text2sql.core.params import PromptParams
from text2sql.data.schema import Column, ForeignKey, Schema, Table
from text2sql.prompts.answers import AnswerRule
from text2sql.prompts.messages import FewShot, SchemaForm, render_schema, spider_messages
from text2sql.prompts.rich import CACHE, RichSchemas

PROMPT = "prompt.json"
_FIELDS = {"user": dict, "template_variables": dict, "request": dict, "end_token": dict, "answer": str}
_EXAMPLE = "How many singers are there in each city?"
_EXAMPLE_SCHEMA = Schema(
    "concerts",
    (
        Table("city", (Column("city_id", "INTEGER"), Column("name", "TEXT")), ("city_id",)),
        Table("singer", (Column("singer_id", "INTEGER"), Column("city_id", "INTEGER")), ("singer_id",)),
    ),
    (ForeignKey("singer", "city_id", "city", "city_id"),),
)
_SCHEMA_IN_WORDS = {
    "none": "not shown",
    "name": "Database: and the name of the file, without its ending",
    "tables": "one line a table, in the order of creation: name(column, column), quoted where SQLite needs it",
    "ddl": "a CREATE TABLE statement a table, in the order of creation, with types, primary and foreign keys",
    "rich": "one line a table with types, keys and values of each column, cut to schema_tokens, and a line of values "
    "that the question names: `text2sql prompt` writes it, from the database",
}


@dataclass(frozen=True)
class PromptFile:
    """The prompt of an export. `end` is the special token that ends an answer, `end_id` its id."""

    system: str | None
    form: SchemaForm
    few_shot: Sequence[FewShot]
    variables: Mapping[str, Any]
    rule: AnswerRule
    max_new_tokens: int
    end: str
    end_id: int
    schema_tokens: int = PromptParams.model_fields["schema_tokens"].default

    def rich(self, file_of: Callable[[str], Path | None]) -> RichSchemas | None:
        """Return what shows databases, whose files `file_of` names, where the form is `rich`; else None."""
        return RichSchemas(file_of, self.schema_tokens, user_cache() / CACHE) if self.form == "rich" else None

    def messages(self, question: str, schema: Schema | None, rich: RichSchemas | None = None) -> list[dict]:
        """Return the messages that ask `question` about a database; the system's comes first where there is one."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, *spider_messages(question, schema, self.form, self.few_shot, rich=rich)]

    def request(self, question: str, schema: Schema | None, rich: RichSchemas | None = None) -> dict[str, Any]:
        """Return the body of an OpenAI-style request for a chat completion, without a model's name."""
        kwargs = {"chat_template_kwargs": dict(self.variables)} if self.variables else {}
        return {"messages": self.messages(question, schema, rich), **self._options(), **kwargs}

    def _options(self) -> dict[str, Any]:
        # llama-cpp-python penalises repetition unless it is told not to; OpenAI's own servers ignore that option.
        options = {"temperature": 0, "max_tokens": self.max_new_tokens, "stop": [self.end]}
        return {**options, "frequency_penalty": 0, "presence_penalty": 0, "repeat_penalty": 1.0}

    def write(self, folder: Path, text: str, ids: Sequence[int]) -> None:
        """Write `prompt.json` to `folder`; `text` and `ids` are what the model reads of `example`."""
        rich = self.rich(_nowhere)
        shown = rich.show(_EXAMPLE, _EXAMPLE_SCHEMA) if rich else render_schema(_EXAMPLE_SCHEMA, self.form)
        *_, user = self.example
        template = user["content"].replace(_EXAMPLE, "{question}")
        template = template.replace(shown, "{schema}") if shown else template
        content = {
            "system": self.system,
            "user": {
                "template": template,
                "schema": self.form,
                "schema_in_words": _SCHEMA_IN_WORDS[self.form],
                **({"schema_tokens": self.schema_tokens} if rich else {}),
                "few_shot": [{**asdict(shot), "schema": shot.schema.to_dict()} for shot in self.few_shot],
            },
            "template_variables": dict(self.variables),
            "request": self._options(),
            "end_token": {"text": self.end, "id": self.end_id},
            "answer": self.rule,
            "example": {
                "schema": shown,
                "question": _EXAMPLE,
                "messages": self.example,
                "text": text,
                "ids": list(ids),
            },
        }
        write_json(folder / PROMPT, content)

    @property
    def example(self) -> list[dict]:
        """The messages of the example question."""
        return self.messages(_EXAMPLE, _EXAMPLE_SCHEMA, self.rich(_nowhere))


def _nowhere(db_id: str) -> None:
    return None


def read_prompt_file(folder: Path) -> PromptFile:
    """Return the prompt of the export in `folder`. Raises UserError where it has no sound `prompt.json`."""
    path = folder / PROMPT
    if not path.is_file():
        raise UserError(f"{folder}: has no {PROMPT}; wanted a folder that `text2sql export` wrote")
    found = read_object(path, _FIELDS)
    try:
        user, end, system = found["user"], found["end_token"], found["system"]
        if user["schema"] not in get_args(SchemaForm) or not isinstance(system, (str, type(None))):
            raise UserError(f"{path}: damaged; export again")
        shots = [
            FewShot(shot["db_id"], shot["question"], shot["query"], Schema.from_dict(shot["schema"]))
            for shot in user["few_shot"]
        ]
        return PromptFile(
            system,
            user["schema"],
            shots,
            found["template_variables"],
            found["answer"],
            found["request"]["max_tokens"],
            end["text"],
            end["id"],
            **{name: user[name] for name in ("schema_tokens",) if name in user},
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged: {error}; export again") from None
