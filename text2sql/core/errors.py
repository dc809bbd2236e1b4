"""The two kinds of error that end a command, and how they are reported.

Every command of this project (`python -m stages.…`, `python -m text2sql.…`) runs its `main` through `run`.
"""

import argparse
import errno
import gc
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

# Disk full, quota exceeded, file size limit.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Out of memory in PyTorch's plain RuntimeErrors: its CPU allocator, CUDA outside its allocator, cuBLAS.
NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
DEBUG_VARIABLE = "TEXT2SQL_DEBUG"


class UserError(Exception):
    """The user's mistake: a param, a file, an argument. Exit code 2.

    The message is one line that names the file, line or key, what was found, and what was expected.
    """


class RunError(Exception):
    """A failure that is not the user's mistake: no memory, no disk, no connection. Exit code 1."""


class ArgumentParser(argparse.ArgumentParser):
    """Arguments as argparse reads them; one that is wrong or missing is a `UserError`, one line like all others.

    Options cannot be abbreviated: a new option then never changes what an old script means.
    """

    def __init__(self, *positional: object, **options: object) -> None:
        super().__init__(*positional, **{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Raise UserError instead of printing the usage and leaving the process."""
        raise UserError(f"{message}; --help shows what there is")

    def check_choice(self, name: str, value: str, known: Sequence[str]) -> None:
        """Raise UserError unless `value`, the argument `name`, is one of `known`."""
        if value not in known:
            self.error(f"argument {name}: invalid choice: {value!r} (choose from {', '.join(map(repr, known))})")


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Run `main(arguments)` and leave the process with its exit code.

    A `UserError` exits with 2, any other exception with 1, each with one line on standard error;
    `--debug` among the arguments, or TEXT2SQL_DEBUG=1, shows the traceback as well.
    """
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if len(arguments) < len(sys.argv) - 1:
        os.environ[DEBUG_VARIABLE] = "1"
    try:
        code = main(arguments) or 0
        gc.freeze()  # exits faster: the garbage collector skips what libraries left
        sys.exit(code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output (`| head`) has closed it: nothing to report, nothing to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        else:
            print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UserError) else 1)


def shown(value: Any) -> str:
    """Return how messages show a value: its repr, truncated if long, with its type."""
    if value is None:
        return "null"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def one_line(error: BaseException) -> str:
    """Return `error` as one line: its message, prefixed with its type unless it is one of ours."""
    message = " ".join(str(error).split())
    if isinstance(error, (UserError, RunError)):
        return message
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}not enough disk space ({error.strerror}); with more of it, the same command goes on"
    return f"{type(error).__name__}: {message} (set {DEBUG_VARIABLE}=1 for the traceback)"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is out of memory, on the GPU or the host."""
    import torch

    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(text in str(error) for text in NO_MEMORY)
