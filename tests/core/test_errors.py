"""Which errors say that memory ran out."""

import pytest

from text2sql.core.errors import is_out_of_memory


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
