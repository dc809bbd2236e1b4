"""Several processes of one run, started as users start them, by torchrun: they do what one does.

On CPUs, with gloo, and on two "nodes" that share this machine and its disk. Each start takes seconds, so the tests
look at what a few of them did.
"""

import os
import re
import shutil
import signal
import socket
from pathlib import Path

import pytest

from testkit import shared_work
from testkit.launched import Outcome, Start, kill, on_one_node, on_two_nodes, seconds_until_gone
from testkit.shared_work import ASKED, FOURTEEN
from text2sql.core.errors import RunError, UserError
from text2sql.core.processes import Processes, check_gpus

STEPS = 100
LARGEST_DIFFERENCE = 1e-4  # of the losses, as a share
LARGEST_OF_ELEMENTS = 1e-5
WORK = ["train", "predict", "mmlu", "few"]

torchrun = pytest.mark.long
slow = pytest.mark.slow  # beside `torchrun`


def curve(outcome: Outcome, name: str = "adapter") -> list[float]:
    return [row["loss"] for row in outcome.read(name)["curve"]]


def largest_share(ours: list[float], theirs: list[float]) -> float:
    """Return by which share of it the losses of a step differ at most."""
    return max(abs(one - other) / other for one, other in zip(ours, theirs, strict=True))


def largest_difference(one: Path, other: Path) -> float:
    """Return how far the elements of two adapters are apart at most."""
    from safetensors.torch import load_file

    first, second = (load_file(folder / "adapter_model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys() and len(first) > 0
    return max((first[name] - second[name]).abs().max().item() for name in first)


@pytest.fixture(scope="module")
def one(micro_model, tmp_path_factory):
    """What one process does, without a launcher: this one."""
    folder = tmp_path_factory.mktemp("one")
    shared_work.main([str(micro_model), str(folder), *WORK])
    return Outcome(folder)


@pytest.fixture(scope="module")
def two(micro_model, tmp_path_factory):
    return [Start(micro_model, tmp_path_factory.mktemp("two"), [*WORK, "dropped"], on_one_node(2)).succeeded()]


@pytest.fixture(scope="module")
def four(micro_model, tmp_path_factory):
    return [Start(micro_model, tmp_path_factory.mktemp("four"), WORK, on_one_node(4)).succeeded()]


@pytest.fixture(scope="module")
def nodes(micro_model, one, tmp_path_factory):
    """Four processes, two on each of two nodes, that answer with the adapter of one."""
    folder = tmp_path_factory.mktemp("nodes")
    shutil.copytree(one.folder / "adapter", folder / "adapter")
    starts = [Start(micro_model, folder, WORK[1:], node) for node in on_two_nodes(2)]
    return [start.succeeded() for start in starts]


@pytest.fixture(params=["two", pytest.param("four", marks=slow), pytest.param("nodes", marks=slow)])
def several(request):
    """So many processes: what they did, and the number."""
    return request.getfixturevalue(request.param)[0], {"two": 2}.get(request.param, 4)


@torchrun
def test_so_many_processes_are_as_many(several):
    start, count = several
    found = start.read("processes")
    assert [(process["index"], process["count"]) for process in found] == [(index, count) for index in range(count)]
    assert len({process["pid"] for process in found}) == count


@torchrun
@pytest.mark.parametrize(("number", "count"), [("two", 2), pytest.param("four", 4, marks=slow)])
def test_several_processes_train_the_adapter_that_one_trains(one, request, number, count):
    """Every other step has two examples: where there are four processes, two of them have none of these."""
    (start,) = request.getfixturevalue(number)
    assert any(f"on 14 examples; base in float32 on cpu × {count} processes" in line for line in start.lines)
    ours, theirs = start.read("adapter"), one.read("adapter")
    assert theirs["metrics"]["steps"] == STEPS and theirs["metrics"]["examples"] == len(FOURTEEN) == 14
    share = largest_share(curve(start), curve(one))
    print(f"largest difference of a step's loss: {share:.2g} of it")
    assert len(curve(one)) == STEPS and share <= LARGEST_DIFFERENCE
    assert largest_difference(one.folder / "adapter", start.folder / "adapter") <= LARGEST_OF_ELEMENTS
    assert ours["metrics"] | {"final_loss": 0, "mean_loss": 0} == theirs["metrics"] | {"final_loss": 0, "mean_loss": 0}


@torchrun
def test_a_share_that_is_dropped_shows_in_curve_and_adapter(two):
    """What the test before this one compares tells two processes from one of the two."""
    assert largest_share(curve(two[0], "dropped"), curve(two[0], "undropped")) > 100 * LARGEST_DIFFERENCE
    assert largest_difference(two[0].folder / "undropped", two[0].folder / "dropped") > 100 * LARGEST_OF_ELEMENTS


@torchrun
def test_several_processes_answer_as_one_does(one, several):
    start, count = several
    assert start.read("predict") == one.read("predict")
    assert len({prediction["raw"] for prediction in one.read("predict")}) > 5
    ours, theirs = start.read("mmlu"), one.read("mmlu")
    assert [row["choice"] for row in ours] == [row["choice"] for row in theirs]
    assert len({row["choice"] for row in theirs}) > 1
    for our, their in zip(ours, theirs, strict=True):
        assert our["log_likelihoods"] == pytest.approx(their["log_likelihoods"], abs=1e-4)
    for task in ("predict", "mmlu"):  # each of them worked, and none did what another had done
        assert sorted(start.journaled(task)) == list(range(count))
        assert sum(start.journaled(task).values()) == len(ASKED)


@torchrun
def test_more_processes_than_questions_answer_each_once(one, several):
    start, _ = several
    for task in ("few-predict", "few-mmlu"):
        assert len(start.read(task)) == 1 and sum(start.journaled(task).values()) == 1
    assert start.read("few-predict") == one.read("few-predict")
    assert start.read("few-mmlu")[0]["choice"] == one.read("few-mmlu")[0]["choice"]


def is_under_way(start: Start, task: str, victim: int) -> bool:
    return start.checkpoint() >= 4 if task == "train" else start.journaled(task).get(victim, 0) > 0


@torchrun
@pytest.mark.parametrize(
    ("task", "count", "victim", "goes_on"),
    [
        pytest.param("predict", 4, 2, 2, marks=slow),
        ("mmlu", 2, 0, 1),
        pytest.param("mmlu", 2, 0, 4, marks=slow),
        pytest.param("train", 4, 3, 2, marks=slow),
    ],
)
def test_the_others_name_a_killed_process_and_nothing_is_lost(micro_model, one, tmp_path, task, count, victim, goes_on):
    if task != "train":
        shutil.copytree(one.folder / "adapter", tmp_path / "adapter")
    start = Start(micro_model, tmp_path, [task], on_one_node(count))
    pids = start.pids()
    start.wait_until(lambda: is_under_way(start, task, victim))
    kill(pids[victim])
    assert seconds_until_gone(pids) < 60
    assert start.wait().code != 0
    assert start.errors() == [
        f"error: process {victim + 1} of {count} (pid {pids[victim]} on {socket.gethostname()}) was killed by SIGKILL; "
        "once what ended it is mended, the same command goes on"
    ]
    kept, step = sum(start.journaled(task).values()), start.checkpoint()

    again = Start(micro_model, tmp_path, [task], on_one_node(goes_on)).succeeded()
    assert [process["count"] for process in again.read("processes")] == [goes_on] * goes_on
    if task == "train":
        assert any(f"going on from the checkpoint at step {step}" in line for line in again.lines)
        assert largest_share(curve(again), curve(one)) <= LARGEST_DIFFERENCE
        assert largest_difference(one.folder / "adapter", again.folder / "adapter") <= LARGEST_OF_ELEMENTS
        return
    assert 0 < kept < len(ASKED) == sum(again.journaled(task).values())  # those that were kept were not asked again
    answer = {"predict": "raw", "mmlu": "choice"}[task]
    assert [row[answer] for row in again.read(task)] == [row[answer] for row in one.read(task)]


@torchrun
@slow
def test_killed_on_one_machine_it_goes_on_on_two_to_the_same_bytes(micro_model, two, tmp_path):
    start = Start(micro_model, tmp_path, ["train"], on_one_node(2))
    pids = start.pids()
    start.wait_until(lambda: is_under_way(start, "train", 0))
    kill(pids[0])
    assert start.wait().code != 0
    nodes = [Start(micro_model, tmp_path, ["train"], node) for node in on_two_nodes()]
    lines = [line for node in nodes for line in node.succeeded().lines]
    assert any("going on from the checkpoint" in line for line in lines)
    assert [process["count"] for process in nodes[0].read("processes")] == [2, 2]
    assert nodes[0].adapter_bytes() == two[0].adapter_bytes()
    assert nodes[0].read("adapter") == two[0].read("adapter")


@torchrun
@slow
def test_a_process_killed_on_one_node_ends_those_of_the_other(micro_model, tmp_path):
    starts = [Start(micro_model, tmp_path, ["predict"], node) for node in on_two_nodes()]
    pids = starts[0].pids()
    starts[0].wait_until(lambda: is_under_way(starts[0], "predict", 1))
    kill(pids[1])
    assert seconds_until_gone(pids) < 60
    assert [start.wait().code != 0 for start in starts] == [True, True]
    (said,) = [line for start in starts for line in start.errors()]
    assert said.startswith(f"error: process 2 of 2 (pid {pids[1]} on ")


@torchrun
@slow
def test_the_others_name_a_process_without_a_sign_of_life(micro_model, tmp_path):
    start = Start(micro_model, tmp_path, ["predict"], on_one_node(2))
    pids = start.pids()
    start.wait_until(lambda: is_under_way(start, "predict", 1))
    os.kill(pids[1], signal.SIGSTOP)
    try:
        assert seconds_until_gone(pids[:1]) < 60
    finally:
        kill(pids[1])  # torchrun would do so in half a minute
    assert start.wait().code != 0
    assert start.errors() == [
        f"error: process 2 of 2 (pid {pids[1]} on {socket.gethostname()}) gave no sign of life for 45 s; "
        "once what ended it is mended, the same command goes on"
    ]


@torchrun
@slow
def test_no_process_outlives_its_launcher(micro_model, tmp_path):
    start = Start(micro_model, tmp_path, ["predict"], on_one_node(2))
    pids = start.pids()
    start.wait_until(lambda: is_under_way(start, "predict", 1))
    os.kill(pids[1], signal.SIGSTOP)  # so that the other has to wait for it, however quick it is
    try:
        start.kill_torchrun()
        assert seconds_until_gone(pids[:1]) < 60
    finally:
        kill(pids[1])
    assert [line.partition(" (pid")[0] for line in start.wait().errors()] == ["error: the launcher of process 1 of 2"]


@torchrun
@slow
def test_a_stopped_run_says_so_and_names_no_process_as_lost(micro_model, tmp_path):
    start = Start(micro_model, tmp_path, ["predict"], on_one_node(2))
    pids = start.pids()
    start.wait_until(lambda: is_under_way(start, "predict", 1))
    start.terminate()
    assert seconds_until_gone(pids) < 60
    assert start.wait().code != 0
    said = [line for line in start.errors() if not line.startswith("Traceback")]  # torchrun's own
    assert said and set(said) <= {f"process {number} of 2: stopped by SIGTERM" for number in (1, 2)}


@torchrun
@slow
def test_other_libraries_on_the_second_node_are_one_line(micro_model, tmp_path):
    other = tmp_path / "other" / "trl-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: trl\nVersion: 0.0.1\n")
    paths = os.pathsep.join([str(other.parent), os.environ.get("PYTHONPATH", "")])
    first, second = on_two_nodes()
    starts = [
        Start(micro_model, tmp_path, ["predict"], first),
        Start(micro_model, tmp_path, ["predict"], second, PYTHONPATH=paths),
    ]
    output = "\n".join(line for start in starts for line in start.wait().lines)
    host = re.escape(socket.gethostname())
    (said,) = [line for start in starts for line in start.errors()]
    assert re.fullmatch(
        rf"error: trl: \S+ in process 1 \(on {host}\), \S+ in process 2 \(on {host}\); all processes of a run take the "
        "same",
        said,
    )
    assert " 0.0.1 " in said
    assert re.search(r"exitcode +: 2 ", output) and not re.search(r"exitcode +: 1 ", output)


@torchrun
@slow
def test_unsloth_in_several_processes_is_one_line(micro_model, tmp_path):
    start = Start(micro_model, tmp_path, ["unsloth"], on_one_node(2)).wait()
    assert start.errors() == ["error: model.loader: unsloth trains in one process, and there are 2; takes transformers"]
    output = "\n".join(start.lines)
    assert re.search(r"exitcode +: 2 ", output) and not re.search(r"exitcode +: 1 ", output)


def test_more_processes_than_gpus_are_one_line():
    check_gpus(2, 2)
    with pytest.raises(UserError, match="^4 processes on this machine, which has 2 GPUs: takes at most --nproc_per_"):
        check_gpus(4, 2)


@pytest.fixture
def sigterm():
    """Put back what SIGTERM does in this process, which other tests' processes inherit."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("sigterm")
@pytest.mark.parametrize(
    "message",
    [
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:21337",
        "Application timeout caused pair closure (gloo)",
    ],
)
def test_only_the_loss_of_a_process_is_called_so(message):
    with pytest.raises(RunError, match="another process of this run has ended"), Processes(1, 3).together():
        raise RuntimeError(message)
    with pytest.raises(RuntimeError, match="shape"), Processes(1, 3).together():
        raise RuntimeError("The size of tensor a must match: shape")
    with pytest.raises(RuntimeError, match="gloo"), Processes().together():
        raise RuntimeError("gloo")
