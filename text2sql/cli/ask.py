"""Ask a model about a database of your own: prints the SQL, runs it in the sandbox, shows the rows.

    text2sql ask "How many singers are there?" --db PATH.sqlite [--model models/m1] [--strength 0.5]
    text2sql ask --db PATH.sqlite          interactive, with history; the model stays loaded
    text2sql ask … --samples 8             choose among 8 answers by what they return, and say how many agree

The model, its loader and the prompt are those of `params.yaml`, or of the file of that name beside the adapter: those
under `adapters/` bring theirs. The database is opened read-only: nothing that the
model writes can change it. One that an application writes to is read as it stands at the start. The exit code is 1
where the query did not run.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from text2sql.core.errors import ArgumentParser, UserError, did_you_mean
from text2sql.core.params import BY_VERIFIER, GenerationParams, Params, changed, load_params
from text2sql.data.in_use import readable
from text2sql.data.schema import schema_from_sqlite
from text2sql.execution.executor import Executor, Limits, Result
from text2sql.prompts.messages import load_few_shot
from text2sql.scoring.choice import Answer, by_rule, outcome_of

if TYPE_CHECKING:
    from text2sql.evaluation.spider import Predictor

PARAMS = Path("params.yaml")
ROWS_SHOWN = 20
CHARACTERS_SHOWN = 80  # of a cell

_Run = Callable[[Sequence[str]], list[Result]]


class Reply(NamedTuple):
    """The SQL that answers a question, what it returns, and how many samples agree, in words; empty without any."""

    sql: str
    result: Result
    agreement: str = ""


def main(arguments: Sequence[str]) -> int:
    """Answer one question, or a person's questions one after the other; return the exit code."""
    parser = ArgumentParser(prog="text2sql ask", description=__doc__.splitlines()[0])
    parser.add_argument("question", nargs="?", help="without it, an interactive prompt")
    parser.add_argument("--db", required=True, type=Path, help="the SQLite database asked about")
    parser.add_argument("--model", type=Path, help="a tuned model's folder, such as models/m1 (default: the base)")
    parser.add_argument("--other-base", action="store_true", help="load an adapter that was trained on another base")
    parser.add_argument("--strength", type=float, help="scale what the adapter changes: 0.5 is half of it")
    parser.add_argument("--samples", type=int, help="choose among N sampled answers (default: the params')")
    parser.add_argument("--params", type=Path, help="default: the adapter's own params.yaml, or that of this folder")
    options = parser.parse_args(arguments)
    if options.question is not None and not options.question.strip():
        raise UserError("question: is empty; wanted a question in words")
    params = load_params(options.params or _params_of(options.model))
    if options.strength is not None:
        params = _with_strength(params, options.strength, options.model)
    if options.samples is not None:
        one = {"generation.choice": None, "generation.when": "always"} if options.samples == 1 else {}
        params = changed(params, {"generation.samples": options.samples, **one}, "--samples")
    with readable(options.db) as database:
        answer = answerer(params, database, options.model, options.other_base)
        if options.question is not None:
            reply = answer(options.question)
            print(shown(*reply))
            return 1 if reply.result.error else 0
        _converse(answer)
    return 0


def _params_of(adapter: Path | None) -> Path:
    """Return the params that an adapter was trained with, where its folder holds them, else the project's."""
    own = adapter / PARAMS if adapter else PARAMS
    return own if own.is_file() else PARAMS


def _with_strength(params: Params, strength: float, adapter: Path | None) -> Params:
    if adapter is None:
        raise UserError("--strength: scales an adapter, and there is none; wanted --model as well")
    return changed(params, {"model.strength": strength}, "--strength")


def answerer(params: Params, database: Path, adapter: Path | None, other_base: bool = False) -> Callable[[str], Reply]:
    """Load the model once; return a function from a question to its SQL and the result of running that.

    Raises UserError for a database or an adapter that is not there or not one, and, unless `other_base`, for an
    adapter that was trained on another base.
    """
    rule = params.generation.rule
    if rule in BY_VERIFIER:
        raise UserError(f"generation.choice: {rule}: ask loads no verifier; takes majority or first_executable")
    if database.is_dir():
        raise UserError(f"--db: {database}: is a folder, wanted an SQLite file")
    if not database.is_file():
        raise UserError(f"--db: {database}: no such file")
    if adapter is not None and not adapter.is_dir():
        there = [path.name for path in adapter.parent.glob("*/")]
        raise UserError(
            f"--model: {adapter}: no such folder; wanted an adapter, such as models/m1 after `make repro`"
            + did_you_mean(adapter.name, there)
        )
    schema = schema_from_sqlite(database, database.stem)
    if not schema.tables:
        raise UserError(f"--db: {database}: has no tables to ask about")
    few_shot = load_few_shot(params.prompt.few_shot_file, params.prompt.few_shot)
    limits = Limits(**params.execution.model_dump())

    from text2sql.evaluation.spider import Predictor, SpiderPrompt
    from text2sql.model.language_model import LanguageModel

    model = LanguageModel(params.model, adapter, other_base, template=params.prompt.template)
    prompt = SpiderPrompt.of(params.prompt, {database.stem: schema}, few_shot, lambda db_id: database)
    predictor = Predictor(model, prompt, params.generation.max_new_tokens, params.generation.grammar)

    def answer(question: str) -> Reply:
        prompt_ids = predictor.prompt_ids(question, database.stem)
        if prompt.rich and (database.stem, question) in prompt.rich.cut:
            print(f"the schema was cut to prompt.schema_tokens {prompt.rich.room:,}", file=sys.stderr)
        predictor.check([prompt_ids])
        run = functools.partial(_run_all, database, limits=limits)
        return _reply(predictor, prompt_ids, database.stem, params.generation, run)

    return answer


def _run_all(database: Path, queries: Sequence[str], limits: Limits) -> list[Result]:
    with Executor(limits, workers=1) as executor:
        return executor.run_all([(database, sql) for sql in queries])


def _reply(
    predictor: "Predictor",
    prompt: list[int],
    db_id: str,
    generation: GenerationParams,
    run: Callable[[Sequence[str]], list[Result]],
) -> Reply:
    """Return the greedy answer, or the one that is chosen among samples; `run` runs queries."""

    def greedy() -> Reply:
        (found,) = predictor.answers([prompt], [db_id])
        (result,) = run([found.sql])
        return Reply(found.sql, result)

    number, majority = generation.samples, generation.rule == "majority" and generation.when == "always"
    if number == 1 or not majority:
        first = greedy()
        if number == 1 or not first.result.error:
            return first

    from text2sql.evaluation.sampling import draw

    (samples,) = draw(predictor, [prompt], [db_id], [0], generation)
    results = run([sample.sql for sample in samples])
    outcomes = list(map(outcome_of, results))
    place = by_rule(outcomes, [Answer(sample.sql, sample.log_likelihood) for sample in samples], generation.rule)
    if place is None:
        return (greedy() if majority else first)._replace(agreement=f"None of {number} samples runs.")
    agreeing = sum(outcome.rows == outcomes[place].rows for outcome in outcomes)
    return Reply(samples[place].sql, results[place], f"{agreeing} of {number} samples give this result.")


def shown(sql: str, result: Result, agreement: str = "") -> str:
    """Return an answer as a person reads it: the SQL, a table of the first rows or what went wrong, the agreement."""
    return f"{_shown(sql, result)}\n\n{agreement}" if agreement else _shown(sql, result)


def _shown(sql: str, result: Result) -> str:
    from tabulate import tabulate

    sql = "\n".join(map(_printable, sql.splitlines())) or "(the model wrote no SQL)"
    if result.error:
        return f"{sql}\n\nThe query did not run: {_printable(result.error)}"
    if not result.rows:
        return f"{sql}\n\nNo rows."
    rows = [list(map(_cell, row)) for row in result.rows[:ROWS_SHOWN]]
    table = tabulate(rows, headers=list(map(_cell, result.columns)), disable_numparse=True)
    count = len(result.rows)
    rest = f"\n({count:,} rows, the first {ROWS_SHOWN} shown)" if count > ROWS_SHOWN else ""
    return f"{sql}\n\n{table}{rest}"


def _cell(value: object) -> str:
    if value is None:
        return "NULL"
    text = f"x'{value.hex()}'" if isinstance(value, bytes) else str(value)
    cut = f"{text[: CHARACTERS_SHOWN - 1]}…" if len(text) > CHARACTERS_SHOWN else text
    return _printable(cut)


def _printable(text: str) -> str:
    """Return `text` with control characters escaped: what a model or a database holds shall not steer the terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _converse(answer: Callable[[str], Reply]) -> None:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory

    from text2sql.core.files import user_cache

    user_cache().mkdir(parents=True, exist_ok=True)
    session: PromptSession = PromptSession(history=FileHistory(str(user_cache() / "ask_history")))
    print("Ask in words; Ctrl-D ends.")
    with contextlib.suppress(EOFError):
        while True:
            # Ctrl-C gives up the line, or the answer, but not the session.
            with contextlib.suppress(KeyboardInterrupt):
                question = session.prompt("? ").strip()
                if question:
                    print(shown(*answer(question)), end="\n\n")
