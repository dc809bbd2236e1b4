"""Batches and journals: a killed run resumes where it stopped, and no result depends on how the work was split."""

import threading

import pytest

from text2sql.core.dependencies import Key
from text2sql.core.digests import digest_of, digest_of_tree
from text2sql.core.group import Group, Member
from text2sql.core.journal import HALVED, Journal
from text2sql.core.processes import Processes
from text2sql.evaluation.batching import JournaledRun, batches_by_length, run_batches

KEY = Key.of({"lr": 1})
LENGTHS = [5, 9, 9, 1, 7, 3, 8, 2, 6, 4]


class Killed(Exception):
    pass


def answers(asked):
    def answer(positions):
        asked.append(positions)
        return [{"answer": LENGTHS[position] * 10} for position in positions]

    return answer


def test_batches_are_sorted_longest_first_and_hold_each_position_once():
    batches = batches_by_length(LENGTHS, 4)
    assert batches == [[1, 2, 6, 4], [8, 0, 9, 5], [7, 3]]


def test_groups_are_cut_only_where_they_are_too_large():
    assert batches_by_length(LENGTHS, 4, groups="abababaaca") == [[1, 5, 3], [2, 6, 4, 0], [9, 7, 8]]


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    first = []

    def killed_in_the_second_batch(positions):
        if len(first) == 1:
            raise Killed
        return answers(first)(positions)

    with pytest.raises(Killed):
        run_batches(LENGTHS, 4, killed_in_the_second_batch, JournaledRun(Journal("work", KEY, folder=tmp_path), "work"))
    second = []
    journal = Journal("work", KEY, folder=tmp_path)
    run_batches(LENGTHS, 4, answers(second), JournaledRun(journal, "work"))
    assert first + second == batches_by_length(LENGTHS, 4)
    assert {index: record["answer"] for index, record in journal.records().items()} == {
        index: length * 10 for index, length in enumerate(LENGTHS)
    }


def test_a_batch_is_waited_for_when_the_next_has_begun(tmp_path):
    events = []

    def answer(positions):
        events.append(f"begin {positions[0]}")
        if len(events) == 4:
            raise Killed

        def wait():
            events.append(f"wait {positions[0]}")
            return [{"answer": LENGTHS[position] * 10} for position in positions]

        return wait

    journal = Journal("work", KEY, folder=tmp_path)
    with pytest.raises(Killed):
        run_batches(LENGTHS, 4, answer, JournaledRun(journal, "work"))
    assert events == ["begin 1", "begin 8", "wait 1", "begin 7", "wait 8"]
    assert sorted(Journal("work", KEY, folder=tmp_path).records()) == [0, 1, 2, 4, 5, 6, 8, 9]


def test_other_params_do_not_pick_it_up(tmp_path):
    Journal("work", KEY, folder=tmp_path).append([{"index": 0}])
    assert Journal("work", Key.of({"lr": 2}), folder=tmp_path).records() == {}


def test_a_line_cut_short_is_passed_over_and_done_again(tmp_path):
    journal = Journal("work", KEY, folder=tmp_path)
    journal.append([{"index": 0, "answer": "a"}, {"index": 1, "answer": "b"}])
    (file,) = tmp_path.glob("*.jsonl")
    file.write_bytes(file.read_bytes()[:-5])
    again = Journal("work", KEY, folder=tmp_path)
    assert list(again.records()) == [0]
    again.append([{"index": 1, "answer": "b"}])
    assert again.records() == {0: {"index": 0, "answer": "a"}, 1: {"index": 1, "answer": "b"}}


@pytest.mark.parametrize("damage", [b"\xff\xfe\n", b"[1, 2]\n", b"{}\n", b"null\n", b"\n", b'{"index": 7'])
def test_damage_in_the_journal_costs_no_more_than_its_line(tmp_path, damage):
    journal = Journal("work", KEY, folder=tmp_path)
    journal.append([{"index": 0, "answer": "a"}])
    (file,) = tmp_path.glob("*.jsonl")
    file.write_bytes(file.read_bytes() + damage)
    Journal("work", KEY, folder=tmp_path).append([{"index": 1, "answer": "b"}])
    assert journal.records() == {0: {"index": 0, "answer": "a"}, 1: {"index": 1, "answer": "b"}}


def test_shares_of_several_processes_make_up_the_whole(tmp_path):
    asked = []
    for process in range(3):
        journal = Journal("work", KEY, process, folder=tmp_path)
        run_batches(LENGTHS, 2, answers(asked), JournaledRun(journal, "work", Processes(process, 3)))
    assert sorted(asked) == sorted(batches_by_length(LENGTHS, 2))
    assert sorted(Journal("work", KEY, folder=tmp_path).records()) == list(range(len(LENGTHS)))


def test_processes_take_batches_as_they_come_those_with_most_tokens_first(tmp_path):
    from torch.distributed import HashStore

    store, asked = HashStore(), []
    members = [Member.here()] * 4  # for three batches

    def work(index):
        journal = Journal("work", KEY, index, folder=tmp_path)
        processes = Processes(index, 4, Group(store, index, members))
        run_batches(LENGTHS, 4, answers(asked), JournaledRun(journal, "work", processes), groups="abababaaca")

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(asked) == sorted(batches_by_length(LENGTHS, 4, groups="abababaaca"))
    assert sorted(Journal("work", KEY, folder=tmp_path).records()) == list(range(len(LENGTHS)))
    alone = []
    run = JournaledRun(Journal("alone", KEY, folder=tmp_path), "alone")
    run_batches(LENGTHS, 4, answers(alone), run, groups="abababaaca")
    assert alone == [[2, 6, 4, 0], [1, 5, 3], [9, 7, 8]]  # 29, 13 and 12 tokens


def test_what_one_process_did_another_number_of_them_need_not_do_again(tmp_path):
    journal = Journal("work", KEY, 1, folder=tmp_path)
    run_batches(LENGTHS, 2, answers([]), JournaledRun(journal, "work", Processes(1, 2)))
    asked = []
    run_batches(LENGTHS, 2, answers(asked), JournaledRun(Journal("work", KEY, folder=tmp_path), "work"))
    assert asked == batches_by_length(LENGTHS, 2)[0::2]


def test_a_published_journal_is_removed_and_no_other(tmp_path):
    journal, other = Journal("work", KEY, folder=tmp_path), Journal("work", Key.of({"lr": 2}), folder=tmp_path)
    journal.append([{"index": 0}])
    other.append([{"index": 0}])
    journal.remove()
    assert len(list(tmp_path.iterdir())) == 1
    assert other.records() == {0: {"index": 0}}


def test_text_that_is_no_utf8_survives_the_journal(tmp_path):
    journal = Journal("work", KEY, folder=tmp_path)
    journal.append([{"index": 0, "raw": "lone \ud800 surrogate, é, \u2028"}])
    assert journal.records()[0]["raw"] == "lone \ud800 surrogate, é, \u2028"


def test_digests_follow_content_and_names(tmp_path):
    (tmp_path / "a").write_text("1")
    before = digest_of_tree(tmp_path)
    assert digest_of_tree(tmp_path) == before
    (tmp_path / "a").rename(tmp_path / "b")
    renamed = digest_of_tree(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({before, renamed, digest_of_tree(tmp_path)}) == 3
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 1})


def test_the_records_of_a_halved_batch_say_so_after_a_kill_too(tmp_path):
    halvings = []

    def answer(positions):
        if 8 in positions:
            halvings.append(positions)
        return answers([])(positions)

    def run():
        journal = Journal("work", KEY, folder=tmp_path)
        run_batches(LENGTHS, 4, answer, JournaledRun(journal, "work"), halvings=lambda: len(halvings))
        return {index for index, record in journal.records().items() if HALVED in record}

    assert run() == {8, 0, 9, 5}
    halvings.clear()
    assert run() == {8, 0, 9, 5} and not halvings
