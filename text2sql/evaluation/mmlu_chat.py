"""MMLU in chat: does a model asked a question without SQL in it answer with a letter, or with SQL?

Log-likelihoods (`text2sql.evaluation.mmlu`) do not see what a model would write. See docs/mmlu.md for the rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from text2sql.core.journal import HALVED
from text2sql.data.mmlu import Question
from text2sql.evaluation.answering import generate_answers
from text2sql.evaluation.batching import JournaledRun, run_batches
from text2sql.model.language_model import LanguageModel
from text2sql.prompts.answers import extract_sql
from text2sql.prompts.choices import chosen_option
from text2sql.prompts.messages import mmlu_chat_messages
from text2sql.scoring.failures import begins_as_query
from text2sql.scoring.mmlu_chat import LETTER, OTHER, SQL, summarise
from text2sql.scoring.parsing import are_queries

MAX_NEW_TOKENS = 64
DRAW_SEED = 0  # of the questions that `mmlu.chat_limit` draws


@dataclass(frozen=True)
class ChatAnswers:
    """The records of a model's answers; `drawn_from` is the number of questions that they were drawn from."""

    records: list[dict]
    drawn_from: int

    @property
    def new_tokens(self) -> int:
        """How many tokens were generated."""
        return sum(record["new_tokens"] for record in self.records)

    def metrics(self) -> dict:
        """Return the content of `metrics/mmlu_chat/<model>.json`."""
        drawn = {"drawn_from": self.drawn_from, "draw_seed": DRAW_SEED} if self.drawn_from > len(self.records) else {}
        return {**summarise(self.records), **drawn, "max_new_tokens": MAX_NEW_TOKENS}


def ask_in_chat(
    model: LanguageModel,
    questions: Sequence[Question],
    categories: Mapping[str, str],
    batch_size: int,
    run: JournaledRun,
    drawn_from: int = 0,
) -> ChatAnswers | None:
    """Ask `questions` in the chat template, greedily; return one record each, in their order.

    `categories` holds the category of each subject. A record holds `subject`, `category`, `index`, `question`,
    `choices`, `raw` (the model's text), `new_tokens`, `at_limit` (it ran to MAX_NEW_TOKENS), `kind` (`LETTER`, `SQL`
    or `OTHER`), `choice` (None for none), `answer` and `correct`, and `HALVED` where memory ran out. Finished batches
    are journaled and not asked again. Returns None in all processes but the main one. Raises UserError where a prompt
    does not fit the model's context.
    """
    prompts = [model.chat_ids(mmlu_chat_messages(question)) for question in questions]
    model.check_prompts(prompts, MAX_NEW_TOKENS, "mmlu.subjects: a question is too long")

    def answer(positions: list[int]) -> list[dict]:
        asked = [prompts[position] for position in positions]
        return [asdict(found) for found in generate_answers(model, asked, MAX_NEW_TOKENS)]

    run_batches(list(map(len, prompts)), batch_size, answer, run, halvings=lambda: model.halvings)
    run.processes.wait()
    if not run.processes.is_main:
        return None
    finished = run.journal.records()
    answers = [finished[position] for position in range(len(questions))]
    kinds = judge([found["raw"] for found in answers], [question.choices for question in questions])
    records = [
        {
            "subject": question.subject,
            "category": categories[question.subject],
            "index": question.index,
            "question": question.question,
            "choices": list(question.choices),
            "raw": found["raw"],
            "new_tokens": found["new_tokens"],
            "at_limit": not found["ended"],
            "kind": kind,
            "choice": choice,
            "answer": question.answer,
            "correct": choice == question.answer,
            **({HALVED: True} if HALVED in found else {}),
        }
        for question, found, (kind, choice) in zip(questions, answers, kinds, strict=True)
    ]
    return ChatAnswers(records, max(drawn_from, len(records)))


def judge(answers: Sequence[str], choices: Sequence[Sequence[str]]) -> list[tuple[str, int | None]]:
    """Return for each of `answers` what it is, `LETTER`, `SQL` or `OTHER`, and the option that it names, or None.

    An option counts where it is named outside of the query in the answer, if any. What a query holds names none, nor
    does what one holds that SQLite does not parse: it may have been cut.
    """
    queries = [extract_sql(answer) for answer in answers]
    found: list[tuple[str, int | None]] = []
    for answer, options, query, is_query in zip(answers, choices, queries, are_queries(queries), strict=True):
        choice = chosen_option(answer, options, without=query if begins_as_query(query) else "")
        found.append((SQL if choice is None and is_query else OTHER if choice is None else LETTER, choice))
    return found
