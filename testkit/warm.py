"""A `python` and a `dvc` that start at once, for tests that run many of them.

    with warm_python() as folder:  # put it first in PATH: it holds `python` and `dvc`
        …

`python -m stages.…`, `dvc` and `python -m pip` are then forked from a server that has the libraries loaded, but nothing
of this project: the code is that of the folder in which it runs, as usual. Anything else is run by the real Python.
Files, folder, environment and arguments are those of who asks; all else, such as a process's limits, is the server's.
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
if len(arguments) > 1 and arguments[0] == "-m" and arguments[1].partition(".")[0] in ("stages", "dvc", "pip"):
    with socket.socket(socket.AF_UNIX) as server:
        server.connect({address!r})
        socket.send_fds(server, [json.dumps([os.getcwd(), dict(os.environ), arguments[1:]]).encode()], [0, 1, 2])
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
        (folder / "dvc").symlink_to(client)
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


def serve(listening: socket.socket, libraries: Sequence[str]) -> None:
    """Fork a process for each that asks, until it is killed."""
    sys.path.pop(0)  # this repository: each stage has its own folder there
    for library in libraries:
        importlib.import_module(library)
    gc.freeze()  # else each collection would copy what is loaded
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for here
    while True:
        asking, _ = listening.accept()
        if os.fork() == 0:
            code = 1
            try:
                listening.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
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
    """Run the module that is asked for as `python -m` does, with the files of who asks; return its exit code."""
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
    sys.path.insert(0, folder)
    sys.argv = arguments
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
