"""Many prompts in batches: sorted by length, journaled, dealt to processes."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from text2sql.core.journal import HALVED, Journal
from text2sql.core.processes import Processes


@dataclass(frozen=True)
class JournaledRun:
    """Where finished batches are kept, how the progress bar is labelled, and which processes share the batches.

    `first` is the `index` of position 0 in the journal, where more than one run shares it.
    """

    journal: Journal
    description: str
    processes: Processes = Processes()
    first: int = 0


def batches_by_length(lengths: Sequence[int], batch_size: int, groups: Sequence[str] | None = None) -> list[list[int]]:
    """Return the positions 0 … n-1 in batches of at most `batch_size`, longest first.

    Sorting keeps padding low; the longest batch comes first, so that running out of memory shows at once. If `groups`
    names the group of each position, a group is cut only if it is larger than a batch, and shares another group's last
    batch only if it fits in whole.
    """
    members: dict[str | None, list[int]] = {}
    for position in sorted(range(len(lengths)), key=lambda position: (-lengths[position], position)):
        members.setdefault(groups[position] if groups else None, []).append(position)
    batches: list[list[int]] = []
    for group in members.values():
        if batches and len(batches[-1]) + len(group) <= batch_size:
            batches[-1] += group
        else:
            batches += [group[start : start + batch_size] for start in range(0, len(group), batch_size)]
    return batches


Answers = list[dict] | Callable[[], list[dict]]


def run_batches(
    lengths: Sequence[int],
    batch_size: int,
    answer: Callable[[list[int]], Answers],
    run: JournaledRun,
    groups: Sequence[str] | None = None,
    halvings: Callable[[], int] = lambda: 0,
) -> None:
    """Call `answer(positions)` for each batch not yet journaled, and journal the records that it returns.

    The batches are those of `batches_by_length`. `answer` returns one record a position, in the same order, or a
    function that waits for them, which is called when the next batch has begun: a GPU then never waits for what is
    done between batches. Each record gets `run.first` and its position as `index`. Of several processes each takes the
    next batch that none has taken, those with most tokens first: at the end none waits longer than for one of the
    smallest. The batches, and so the answers, do not depend on who takes them.

    `halvings` tells how often memory ran out so far: the records of a batch in which it did say so, by `HALVED`.
    """
    from tqdm import tqdm

    finished, first = run.journal.records(), run.first
    batches = batches_by_length(lengths, batch_size, groups)
    batches.sort(key=lambda batch: -sum(lengths[position] for position in batch))
    before_each = [0, *itertools.accumulate(map(len, batches))]  # so many questions
    with tqdm(total=len(lengths), desc=run.description, unit="question", disable=not run.processes.is_main) as progress:

        def keep(batch: list[int], answers: Answers, mark: dict) -> None:
            records = answers() if callable(answers) else answers
            run.journal.append(
                {"index": first + position, **record, **mark} for position, record in zip(batch, records, strict=True)
            )

        begun: list[tuple] = []  # the batch whose answers have not been waited for
        try:
            for number in run.processes.deal(len(batches)):
                progress.update(before_each[number] - progress.n)  # of all processes together
                batch = batches[number]
                if all(first + position in finished for position in batch):
                    continue
                before, answers = halvings(), answer(batch)
                begun.append((batch, answers, {HALVED: True} if halvings() > before else {}))
                while len(begun) > callable(answers):
                    keep(*begun.pop(0))
        finally:  # what has begun is not lost where the next fails
            while begun:
                keep(*begun.pop(0))
        progress.update(len(lengths) - progress.n)
