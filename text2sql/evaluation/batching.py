"""Work through many prompts in batches: sorted by length, journaled, shared out among processes."""

from collections.abc import Callable, Sequence

from text2sql.core.journal import Journal


def batches_by_length(lengths: Sequence[int], batch_size: int, groups: Sequence[str] | None = None) -> list[list[int]]:
    """Return the positions 0 … n-1 in batches of at most `batch_size`, longest first.

    Sorting keeps padding low; the longest batch comes first, so that memory that does not suffice shows at once.
    Where `groups` names the group of each position, a group is cut only where it is larger than a batch, and follows
    another one in its last batch only where it fits in whole.
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


def run_batches(
    lengths: Sequence[int],
    batch_size: int,
    answer: Callable[[list[int]], list[dict]],
    journal: Journal,
    description: str,
    process: int = 0,
    processes: int = 1,
    groups: Sequence[str] | None = None,
) -> None:
    """Call `answer(positions)` for each batch not yet journaled, and journal the records that it returns.

    The batches are those of `batches_by_length`. `answer` returns one record a position, in the same order; each
    record gets its position as `index`. With several processes each takes every `processes`-th batch: the batches, and
    so the answers, do not depend on their number.
    """
    from tqdm import tqdm

    finished = journal.records()
    batches = batches_by_length(lengths, batch_size, groups)[process::processes]
    with tqdm(total=sum(map(len, batches)), desc=description, unit="question", disable=process > 0) as progress:
        for batch in batches:
            if not all(position in finished for position in batch):
                journal.append(
                    {"index": position, **record} for position, record in zip(batch, answer(batch), strict=True)
                )
            progress.update(len(batch))
