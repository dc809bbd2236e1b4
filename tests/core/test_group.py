"""What the processes of a run tell one another: over a real store of PyTorch's, with a thread in a process's place."""

import re
import threading
import time

import pytest

from text2sql.core import group
from text2sql.core.errors import UserError
from text2sql.core.group import Group, Member, check_same_versions

PARTS = 20


@pytest.fixture
def groups():
    """Return a function that makes the groups of so many members over one store."""
    from torch.distributed import HashStore

    def make(count: int) -> list[Group]:
        store, members = HashStore(), [Member.here()] * count
        return [Group(store, index, members) for index in range(count)]

    return make


def taken(members: list[Group], parts: int, slow: int | None = None) -> list[list[int]]:
    """Return what parts each took, all at once; the `slow` one begins first and holds its part until all others end."""
    found: list[list[int]] = [[] for _ in members]
    begun, ended = threading.Event(), threading.Event()

    def work(index: int) -> None:
        if slow not in (None, index):
            begun.wait()
        for part in members[index].deal(parts):
            found[index].append(part)
            if index == slow:
                begun.set()
                ended.wait()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(members))]
    for thread in threads:
        thread.start()
    for index, thread in enumerate(threads):
        if index != slow:
            thread.join()
    ended.set()
    if slow is not None:
        threads[slow].join()
    return found


@pytest.mark.parametrize("parts", [PARTS, 3, 1, 0])
def test_each_part_is_dealt_once_and_to_one_in_the_parts_order(groups, parts):
    members = groups(4)
    for _ in range(2):  # a second work begins at its first part
        found = taken(members, parts)
        assert sorted(sum(found, [])) == list(range(parts))
        assert all(own == sorted(own) for own in found)


def test_a_slow_process_takes_fewer(groups):
    found = taken(groups(3), PARTS, slow=1)
    assert found[1] == [0]
    assert sorted(found[0] + found[2]) == list(range(1, PARTS))


def test_a_process_that_others_wait_for_is_named_once(groups, monkeypatch, capfd):
    monkeypatch.setattr(group, "SLOW_S", 0.2)
    monkeypatch.setattr(group, "BEAT_S", 0.05)
    members = groups(3)
    for member in members:
        member.watch()
    said, deadline = "", time.monotonic() + 60
    with members[0].waiting(), members[2].waiting():
        while not said and time.monotonic() < deadline:
            time.sleep(0.05)
            said += capfd.readouterr().err
        time.sleep(0.5)
        said += capfd.readouterr().err
        with members[1].waiting():
            pass
    for member in members:
        member.leave()
    assert re.fullmatch(r"waiting for process 2 of 3 \(pid \d+ on .*\) for 0 s by now\n", said)


def test_other_versions_are_named_with_their_processes():
    here = Member.here()
    other = Member("node2", "another", 7, {**here.versions, "torch": "1.0"})
    check_same_versions([here, here])
    with pytest.raises(UserError, match=rf"^torch: \S+ in process 1 \(on {here.host}\), 1.0 in process 3 \(on node2\)"):
        check_same_versions([here, here, other])
    missing = Member("node2", "another", 7, {name: v for name, v in here.versions.items() if name != "peft"})
    with pytest.raises(UserError, match=r"^peft: not installed in process 1 \(on node2\), \S+ in process 2"):
        check_same_versions([missing, here])
