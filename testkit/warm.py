"""A `python` and a `dvc` that start at once, for tests that run many of them.

    with warm_python() as folder:  # put it first in PATH: it holds `python`, `dvc` and `text2sql`
        …

`python -m stages.…`, `python -m text2sql`, `dvc`, `python -m pip` and the script that asks an export are then forked
from a server that has the libraries loaded, but nothing of this project: the code is that of the folder in which it
runs, as usual. Anything else is run by the real Python. Files, folder, environment and arguments are those of who asks;
all else, such as a process's limits, is the server's. Who kills what it starts has to start the real Python: a signal
reaches the one that asks, and not what was forked.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

# What the stages import when they need it, which takes seconds.
LIBRARIES = (
    "torch", "transformers", "transformers.models.llama.modeling_llama", "transformers.trainer", "peft", "accelerate",
    "trl.trainer.sft_trainer", "datasets", "pyarrow.parquet", "scipy.stats", "statsmodels.stats.multitest", "jinja2",
    "pydantic", "ruamel.yaml", "tabulate", "dvc.cli.parser", "dvc.repo.experiments", "dvc.repo.plots",
)  # fmt: skip
PIP = ("pip._internal.commands.download",)
# One thread each: a pool of threads does not survive a fork.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}  # fmt: skip

# Hands its files, folder, environment and arguments to the server, and ends with the stage's exit code.
CLIENT = """#!{python} -IS
import json, os, socket, sys
name = os.path.basename(sys.argv[0])
arguments = sys.argv[1:] if name == "python" else ["-m", name, *sys.argv[1:]]
asked = arguments[1:] if arguments[:1] == ["-m"] else arguments
if asked and (
    asked[0].partition(".")[0] in ("stages", "text2sql", "dvc", "pip") if asked is not arguments
    else os.path.basename(asked[0]) == "transformers_worker.py"
):
    with socket.socket(socket.AF_UNIX) as server:
        server.connect({address!r})
        socket.send_fds(server, [json.dumps([os.getcwd(), dict(os.environ), asked]).encode()], [0, 1, 2])
        server.shutdown(socket.SHUT_WR)
        code = server.recv(1)
    sys.exit(code[0] if code else "the stage ended without an exit code")
os.execv({python!r}, [{python!r}, *arguments])
"""


@contextlib.contextmanager
def warm_python(libraries: Sequence[str] = LIBRARIES) -> Iterator[Path]:
    """Start the server, which runs while the block does, and yield the folder of the `python` that asks it."""
    # Not pytest's folder: a socket's address has about a hundred characters at most.
    with tempfile.TemporaryDirectory(prefix="warm-") as name, socket.socket(socket.AF_UNIX) as listening:
        folder = Path(name)
        listening.bind(str(folder / "server"))
        listening.listen()  # clients wait until the libraries are loaded
        client = folder / "python"
        client.write_text(CLIENT.format(python=sys.executable, address=str(folder / "server")))
        client.chmod(0o755)
        for name in ("dvc", "text2sql"):
            (folder / name).symlink_to(client)
        server = subprocess.Popen(
            [sys.executable, "-m", "testkit.warm", str(listening.fileno()), *libraries],
            pass_fds=[listening.fileno()],
            cwd=Path(__file__).parent.parent,
            env={**os.environ, **ENVIRONMENT},
        )
        listening.close()
        try:
            yield folder
        finally:
            server.kill()  # whatever signals it ignores, as who started it does
            server.wait()


def read_locks_quickly() -> None:
    """Have DVC read its lock, as it does before it writes what a stage made, by YAML's parser in C.

    The one in Python, which takes a quarter of a second a stage, keeps comments and quotes; DVC's lock has none but its
    own, and what is written stays the same (tests/stages/test_warm.py).
    """
    from dvc.utils.serialize import _yaml

    others = _yaml.parse_yaml_for_update
    _yaml.parse_yaml_for_update = lambda text, path: (
        _yaml.parse_yaml(text, path) if os.path.basename(path) == "dvc.lock" else others(text, path)
    )


def serve(listening: socket.socket, libraries: Sequence[str]) -> None:
    """Fork a process for each that asks, until it is killed."""
    sys.path.pop(0)  # this repository: each stage has its own folder there
    for library in libraries:
        importlib.import_module(library)
    if any(library.startswith("dvc") for library in libraries):
        read_locks_quickly()
    gc.freeze()  # else each collection would copy what is loaded
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for here
    client = str(Path(listening.getsockname()).parent / "python")
    while True:
        asking, _ = listening.accept()
        if os.fork() == 0:
            code = 1
            try:
                listening.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                sys.executable = client  # what a command starts starts at once as well
                code = _run(asking)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                asking.sendall(bytes([code]))
                os._exit(code)
        asking.close()


def _run(asking: socket.socket) -> int:
    """Run the module or script that is asked for as `python` does, with the files of who asks; return its exit code."""
    request, descriptors, _, _ = socket.recv_fds(asking, 65_536, 3)
    while part := asking.recv(65_536):
        request += part
    for place, descriptor in enumerate(descriptors):
        os.dup2(descriptor, place)
        os.close(descriptor)
    # New ones: those of the server believe in its own files, which may be seekable where these are not.
    sys.stdout, sys.stderr = (open(place, "w", buffering=1, closefd=False) for place in (1, 2))
    folder, environment, arguments = json.loads(request)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    is_script = arguments[0].endswith(".py")
    sys.path.insert(0, str(Path(arguments[0]).parent) if is_script else folder)
    sys.argv = arguments
    try:
        if is_script:
            runpy.run_path(arguments[0], run_name="__main__")
        else:
            runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
