"""Choose among the answers of a samples file, by every rule and number of samples, and score what is chosen.

    text2sql choose --samples FILE --predictions FILE --spider PATH [--n 8 --choice majority --out FILE]

FILE are data/samples/<model>.jsonl and data/predictions/<model>.jsonl of a run, or a result set's, compressed by gzip
or not; --log-odds takes data/log_odds/<model>.jsonl, where a verifier judged the samples (a trade-off curve's samples
hold their log-odds themselves). PATH is a folder or zip in Spider's layout, or own data. Prints a table; --out writes
the answers that one rule chooses, as `text2sql score` reads them. Needs no model. docs/choice.md has the rules.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from tabulate import tabulate

from text2sql.core.arguments import share
from text2sql.core.errors import ArgumentParser, UserError
from text2sql.core.files import user_cache, write_json, write_jsonl
from text2sql.core.params import BY_VERIFIER, ChoiceRule, ChoiceTime
from text2sql.data.layouts import SPIDER
from text2sql.data.sources import open_source
from text2sql.execution.executor import Limits
from text2sql.report.numbers import percent, words
from text2sql.scoring.choice import Question, run_answers
from text2sql.scoring.chosen import Scored, score_answers
from text2sql.scoring.golds import FailingGold
from text2sql.scoring.predictions import read_predictions
from text2sql.scoring.samples import read_questions


def main(arguments: Sequence[str]) -> None:
    """Print the table of all rules and numbers of samples; write `--out`."""
    options = _parse(arguments)
    limits = Limits()
    with (
        open_source(options.spider, options.holdout) as source,
        tempfile.TemporaryDirectory(prefix="text2sql-") as folder,
    ):
        examples = source.examples(options.split)[: options.limit]

        def database_of(db_id: str) -> Path:
            path = Path(folder) / f"{db_id}.sqlite"
            if not path.is_file():
                source.extract_database(db_id, path)
            return path

        greedy = read_predictions(options.predictions, examples)
        questions = read_questions(options.samples, greedy, examples, options.log_odds)
        number = options.n or max(len(question.samples) for question in questions)
        _check(options, number, questions)
        scored = score_answers(
            examples,
            questions,
            run_answers(questions, database_of, limits),
            database_of,
            limits,
            cache_dir=user_cache() / "gold",
            failing_gold=options.failing_gold,
        )
    print(table(scored))
    if options.json:
        verifier = {"verifier": scored.verifier()} if scored.judged else {}
        write_json(options.json, {"questions": len(scored.questions), "by_samples": scored.by_samples(), **verifier})
    if options.out:
        chosen = scored.chosen(number, options.choice, options.when)
        lines = zip(scored.questions, chosen, strict=True)
        write_jsonl(options.out, (one.record(question) for question, one in lines))
        print(f"\nWrote {options.out}: {words(options.choice)} of {number}.")


def _check(options: argparse.Namespace, number: int, questions: Sequence[Question]) -> None:
    """Raise UserError where the samples do not have what the options ask for."""
    numbers = [len(question.samples) for question in questions]
    most, sampled = max(numbers), sum(map(bool, numbers))
    if most == 0:
        raise UserError(f"{options.samples}: holds no samples; they are drawn with generation.samples of 2 or more")
    if number > most:
        raise UserError(f"--n: got {number}, takes at most {most}: so many samples a question has {options.samples}")
    if options.choice in BY_VERIFIER and not any(one.log_odds is not None for q in questions for one in q.samples):
        raise UserError(f"--choice: {options.choice} chooses by a verifier's log-odds; wanted --log-odds as well")
    if options.out and options.choice != "first_executable" and options.when == "always" and sampled < len(numbers):
        raise UserError(
            f"--when: got always, and {options.samples} has samples of {sampled} of {len(numbers)} questions alone: "
            "takes failed"
        )


def table(scored: Scored) -> str:
    """Return accuracies by number of samples and way to choose, in percent."""
    greedy = [scored.verdicts[question.index, question.greedy] for question in scored.questions]
    total = len(greedy)
    right = (sum(v.official_execution_accuracy for v in greedy), sum(v.execution_accuracy for v in greedy))
    rows = [["-", "greedy", *(percent(count / max(total, 1)) for count in right), *[""] * 4]]
    for number, ways in scored.by_samples().items():
        rows += [[number, words(way), *_cells(entry)] for way, entry in ways.items()]
    headers = ["n", "answer", "official", "execution", "changed", "rescued", "lost", "none ran"]
    text = tabulate(rows, headers, colalign=["right", "left", *["right"] * 6], disable_numparse=True)
    return f"{text}\n\n{total} questions, {scored.sampled} with samples."


def _cells(entry: Mapping[str, Any]) -> list[str]:
    accuracies = [percent(entry["official_execution_accuracy"]), percent(entry["execution_accuracy"])]
    return accuracies + [str(entry.get(name, "")) for name in ("changed", "rescued", "lost", "none_ran")]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="text2sql choose", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", metavar="FILE", type=Path, required=True, help="a file of samples")
    parser.add_argument("--predictions", metavar="FILE", type=Path, required=True, help="the greedy answers")
    parser.add_argument("--log-odds", metavar="FILE", type=Path, help="what a verifier says of the samples")
    parser.add_argument(
        "--spider", metavar="PATH", type=Path, required=True, help="folder or zip in Spider's layout, or own data"
    )
    parser.add_argument("--holdout", metavar="SHARE", type=share, help="of own data without splits: data.holdout")
    parser.add_argument("--split", choices=sorted(SPIDER.splits), default="dev", help="default: dev")
    parser.add_argument("--limit", metavar="N", type=_positive, help="the first N questions alone: data.dev_limit")
    parser.add_argument("--n", metavar="N", type=_positive, help="choose among the first N samples; default: all")
    parser.add_argument("--choice", choices=get_args(ChoiceRule), default="majority", help="default: majority")
    parser.add_argument("--when", choices=get_args(ChoiceTime), default="always", help="default: always")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the chosen answers there, a JSON line each")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the table's figures there")
    parser.add_argument(
        "--failing-gold",
        choices=get_args(FailingGold),
        default="refuse",
        help="what becomes of examples whose gold query fails; default: refuse",
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text}, wanted a whole number of at least 1")
    return int(text)
