"""Several processes of one run, started as users start them, by torchrun: they do what one does.

On CPUs, with gloo, and on two "nodes" that share this machine and its disk. Each start takes seconds, so the tests
look at what a few of them did.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from testkit import shared_work
from testkit.shared_work import ASKED, DIES_AT_BATCH, DIES_AT_STEP, EIGHT
from text2sql.core.errors import RunError
from text2sql.core.processes import Processes

REPOSITORY = Path(__file__).parents[2]
STEPS = 12
LONGEST_S = 240  # of a start: a run that hangs waits for half an hour
LARGEST_DIFFERENCE = 1e-5

torchrun = pytest.mark.long


class Outcome:
    """What the tasks of one start of `testkit.shared_work` wrote into `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str) -> dict:
        return json.loads((self.folder / f"{name}.json").read_text())

    def adapter_bytes(self) -> bytes:
        return (self.folder / "adapter" / "adapter_model.safetensors").read_bytes()


class Start(Outcome):
    """One start by torchrun."""

    def __init__(self, base: Path, folder: Path, tasks: list[str], launcher: list[str]) -> None:
        super().__init__(folder)
        torchrun = [sys.executable, "-m", "torch.distributed.run", *launcher]
        command = [*torchrun, "-m", "testkit.shared_work", str(base), str(folder), *tasks]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        environment.pop("TEXT2SQL_DEBUG", None)
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def wait(self) -> "Start":
        try:
            output, _ = self._process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.communicate()
            raise
        self.lines, self.code = output.splitlines(), self._process.returncode
        return self

    def succeeded(self) -> "Start":
        assert self.wait().code == 0, "\n".join(self.lines[-40:])
        return self

    def last_words(self) -> list[str]:
        """What the processes said of their end, torchrun's own long words left out."""
        return re.findall(r"(?:error: )?process \d of \d: .*", "\n".join(self.lines))


def on_one_node(count: int) -> list[str]:
    return ["--nproc_per_node", str(count)]


def on_two_nodes() -> list[list[str]]:
    """One process each, which find each other over loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = ["--nnodes", "2", "--nproc_per_node", "1", "--rdzv-backend", "c10d", "--local-addr", "127.0.0.1"]
    return [[*common, "--rdzv-endpoint", f"127.0.0.1:{port}"]] * 2


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
    shared_work.main([str(micro_model), str(folder), "train", "answers"])
    return Outcome(folder)


@pytest.fixture(scope="module")
def two(micro_model, tmp_path_factory):
    return Start(micro_model, tmp_path_factory.mktemp("two"), ["train", "answers"], on_one_node(2)).succeeded()


@pytest.fixture(scope="module")
def three(micro_model, tmp_path_factory):
    tasks = ["train", "answers", "dropped"]
    return Start(micro_model, tmp_path_factory.mktemp("three"), tasks, on_one_node(3)).succeeded()


@pytest.fixture(params=[2, 3])
def several(request):
    """So many processes: their start, and the number."""
    return request.getfixturevalue({2: "two", 3: "three"}[request.param]), request.param


@torchrun
def test_so_many_processes_are_as_many(several):
    start, count = several
    found = start.read("processes")
    assert [(process["index"], process["count"]) for process in found] == [(index, count) for index in range(count)]
    assert len({process["pid"] for process in found}) == count
    assert any(f"on 8 examples; base in float32 on cpu × {count} processes" in line for line in start.lines)
    # Each of them worked: two questions a batch, in turns.
    assert start.read("answers")["asked"] == {2: [6, 4], 3: [4, 4, 2]}[count]


@torchrun
def test_several_processes_train_the_adapter_that_one_trains(one, several):
    """Every other step has two examples: where there are three processes, two of them have none of these."""
    start, _ = several
    ours, theirs = start.read("adapter"), one.read("adapter")
    assert theirs["metrics"]["steps"] == STEPS and theirs["metrics"]["examples"] == len(EIGHT) == 8
    difference = largest_difference(one.folder / "adapter", start.folder / "adapter")
    print(f"largest difference of an element: {difference:.2g}")
    assert difference <= LARGEST_DIFFERENCE
    assert [row["loss"] for row in ours["curve"]] == pytest.approx([row["loss"] for row in theirs["curve"]], abs=1e-4)
    assert ours["metrics"] | {"final_loss": 0, "mean_loss": 0} == theirs["metrics"] | {"final_loss": 0, "mean_loss": 0}


@torchrun
def test_a_share_that_is_dropped_shows_in_the_adapter(one, three):
    """What the test before this one compares tells three processes from two of the three."""
    assert largest_difference(one.folder / "adapter", three.folder / "dropped") > 100 * LARGEST_DIFFERENCE


@torchrun
def test_several_processes_answer_as_one_does(one, several):
    start, _ = several
    ours, theirs = start.read("answers"), one.read("answers")
    assert ours["predicted"] == theirs["predicted"]
    assert len({prediction["raw"] for prediction in theirs["predicted"]}) > 5
    assert [row["choice"] for row in ours["chosen"]] == [row["choice"] for row in theirs["chosen"]]
    assert len({row["choice"] for row in theirs["chosen"]}) > 1
    for our, their in zip(ours["chosen"], theirs["chosen"], strict=True):
        assert our["log_likelihoods"] == pytest.approx(their["log_likelihoods"], abs=1e-4)


@torchrun
def test_killed_processes_lose_nothing_and_the_others_end_with_one_line(micro_model, two, tmp_path):
    """Killed on one machine, it goes on on two, to the same bytes and answers."""
    killed = Start(micro_model, tmp_path, ["train-dies"], on_one_node(2)).wait()
    assert killed.code != 0 and "Traceback" not in "\n".join(killed.lines).split("Sending process")[0]
    assert killed.last_words() == [
        "error: process 2 of 2: another process of this run has ended; "
        "once what ended it is mended, the same command goes on"
    ]
    nodes = [Start(micro_model, tmp_path, ["train", "answers-dies"], node) for node in on_two_nodes()]
    output = [line for node in nodes for line in node.wait().lines]
    assert all(node.code != 0 for node in nodes)
    # The checkpoint of the step in which the main process was killed was not yet written.
    assert f"train_m1: going on from the checkpoint at step {DIES_AT_STEP - 1}" in output, output
    assert nodes[0].adapter_bytes() == two.adapter_bytes()
    assert nodes[0].read("adapter")["metrics"] == two.read("adapter")["metrics"]
    assert nodes[0].read("adapter")["curve"] == two.read("adapter")["curve"]
    assert [process["count"] for process in nodes[0].read("processes")] == [2, 2]
    (said,) = [words for node in nodes for words in node.last_words()]
    assert said.startswith("error: process 1 of 2: another process of this run has ended") or said == (
        "process 1 of 2: stopped by SIGTERM"
    )

    journaled = sum(len(path.read_text().splitlines()) for path in (tmp_path / "journals").glob("predict-*.jsonl"))
    assert journaled >= 2 * (DIES_AT_BATCH - 1)
    again = Start(micro_model, tmp_path, ["answers"], on_one_node(2)).succeeded()
    assert again.read("answers")["predicted"] == two.read("answers")["predicted"]
    assert [row["choice"] for row in again.read("answers")["chosen"]] == [
        row["choice"] for row in two.read("answers")["chosen"]
    ]
    assert sum(again.read("answers")["asked"]) == len(ASKED) - journaled


@torchrun
@pytest.mark.parametrize(("killed", "goes_on"), [(2, 1), (1, 3)])
def test_a_training_goes_on_with_another_number_of_processes(micro_model, one, tmp_path, killed, goes_on):
    assert Start(micro_model, tmp_path, ["train-dies"], on_one_node(killed)).wait().code != 0
    again = Start(micro_model, tmp_path, ["train"], on_one_node(goes_on)).succeeded()
    assert any(f"going on from the checkpoint at step {DIES_AT_STEP - 1}" in line for line in again.lines)
    assert [process["count"] for process in again.read("processes")] == [goes_on] * goes_on
    assert largest_difference(one.folder / "adapter", again.folder / "adapter") <= LARGEST_DIFFERENCE


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
    with (
        pytest.raises(RunError, match="process 2 of 3: another process of this run has ended"),
        Processes(1, 3).together(),
    ):
        raise RuntimeError(message)
    with pytest.raises(RuntimeError, match="shape"), Processes(1, 3).together():
        raise RuntimeError("The size of tensor a must match: shape")
    with pytest.raises(RuntimeError, match="gloo"), Processes().together():
        raise RuntimeError("gloo")
