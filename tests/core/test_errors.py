"""Which errors say that memory ran out, and how commands say what went wrong, in whatever encoding."""

import os
import subprocess
import sys

import pytest

from text2sql.core.errors import is_out_of_memory

PROGRAM = """
from text2sql.core.errors import UserError, run

def main(arguments):
    print("São Luís: 3 × 4 ≥ 12 …")
    raise UserError("São Luís: no such file")

run(main)
"""


@pytest.mark.parametrize(
    ("message", "memory"),
    [
        ("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried …", True),
        ("CUDA error: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("CUDA error: device-side assert triggered", False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(message, memory):
    assert is_out_of_memory(RuntimeError(message)) is memory


@pytest.mark.parametrize(
    ("encoding", "printed", "said"),
    [
        ("utf-8", "São Luís: 3 × 4 ≥ 12 …", "São Luís"),
        ("ascii", r"S\xe3o Lu\xeds: 3 \xd7 4 \u2265 12 \u2026", r"S\xe3o Lu\xeds"),
        ("latin-1", r"São Luís: 3 × 4 \u2265 12 \u2026", "São Luís"),
    ],
)
def test_what_the_output_cannot_show_is_escaped(encoding, printed, said, repository):
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, encoding=encoding)
    assert (done.returncode, done.stdout, done.stderr) == (2, f"{printed}\n", f"error: {said}: no such file\n")


@pytest.mark.parametrize(("free", "memory"), [(200 << 20, True), (8 << 30, False)])
def test_cudnn_fails_for_lack_of_memory_only_where_there_is_next_to_none(free, memory):
    message = "Expected mha_graph.execute(handle, variant_pack, workspace_ptr.get()).is_good() to be true"
    assert is_out_of_memory(RuntimeError(message), free) is memory
