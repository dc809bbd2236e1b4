"""The two kinds of error that end a command, and how they are reported.

Every command of this project (`text2sql …`, `python -m stages.…`) runs its `main` through `run`.
"""

import argparse
import errno
import gc
import io
import itertools
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

# Disk full, quota exceeded, file size limit.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Out of memory in PyTorch's plain RuntimeErrors: its CPU allocator, CUDA outside its allocator, cuBLAS.
NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
# What cuDNN says where it fails for any reason (PyTorch 2.11): no memory is one, if next to none is left.
CUDNN_FAILED = ("mha_graph.execute", "CUDNN_STATUS_EXECUTION_FAILED", "CUDNN_STATUS_INTERNAL_ERROR")
NEXT_TO_NONE = 1 << 30  # bytes of a GPU's memory: cuDNN's workspace and kernels take some hundred megabytes
DEBUG_VARIABLE = "TEXT2SQL_DEBUG"


class UserError(Exception):
    """The user's mistake: a param, a file, an argument. Exit code 2.

    The message is one line that names the file, line or key, what was found, and what was expected.
    """


class RunError(Exception):
    """A failure that is not the user's mistake: no memory, no disk, no connection. Exit code 1."""


class ArgumentParser(argparse.ArgumentParser):
    """Arguments as argparse reads them; one that is wrong or missing is a `UserError`, one line like all others.

    Options cannot be abbreviated: a new option then never changes what an old script means. An unknown option or choice
    is named with the nearest one that exists.
    """

    def __init__(self, *positional: Any, **options: Any) -> None:
        super().__init__(*positional, **{"allow_abbrev": False, **options})
        self._given: list[str] = []

    def parse_known_args(  # type: ignore[override]  # argparse's has overloads for the namespace's type
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse as argparse does, but take no unknown argument: a sub-command knows its options better than `self`."""
        self._given = list(sys.argv[1:] if args is None else args)
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        """Raise UserError instead of printing the usage and leaving the process."""
        # A misspelt option often makes a required one missing, which argparse would report instead. What it says of
        # one argument ("argument --base: expected one argument") is more exact.
        if not message.startswith("argument ") and (unknown := self._unknown_options()):
            known = list(self._option_string_actions)
            hints = (name + did_you_mean(name, known) for name in unknown)
            message = f"unrecognized arguments: {' '.join(hints)}"
        raise UserError(f"{message}; --help shows what there is")

    def _unknown_options(self) -> list[str]:
        options = itertools.takewhile(lambda argument: argument != "--", self._given)
        names = [argument.partition("=")[0] for argument in options if argument.startswith("--")]
        return [name for name in names if name not in self._option_string_actions]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None:
            self.check_choice("/".join(action.option_strings) or action.metavar or action.dest, value, action.choices)

    def check_choice(self, name: Any, value: str, known: Iterable[str]) -> None:
        """Raise UserError unless `value`, the argument `name`, is one of `known`."""
        known = list(known)
        if value not in known:
            choices = ", ".join(map(repr, known))
            self.error(
                f"argument {name}: invalid choice: {value!r}{did_you_mean(value, known)} (choose from {choices})"
            )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean …?)` with that of `known` which is nearest to `name`, or nothing where none is near."""
    import difflib

    plain = {one.lower().lstrip("-"): one for one in known}
    # 0.5: one letter of two, as in `m9` for `m1`.
    near = difflib.get_close_matches(name.lower().lstrip("-"), plain, n=1, cutoff=0.5)
    return f" (did you mean {plain[near[0]]}?)" if near else ""


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Run `main(arguments)` and leave the process with its exit code.

    A `UserError` exits with 2, any other exception with 1, each with one line on standard error;
    `--debug` among the arguments, or TEXT2SQL_DEBUG=1, shows the traceback as well.
    """
    show_any_text()
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
        from text2sql.core.processes import last_words  # of several processes one says what all would

        code = 2 if isinstance(error, UserError) else 1
        line = last_words(one_line(error), code, names_process=code == 1)
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        elif line is not None:
            print(f"error: {line}", file=sys.stderr)
        sys.exit(code)


def show_any_text() -> None:
    """Escape what standard output and error cannot encode: containers, cron and pipes often have no UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


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


def is_out_of_memory(error: BaseException, free: int | None = None) -> bool:
    """Whether `error` is out of memory, on the GPU or the host.

    `free`: the bytes of the GPU's memory that no process has, asked for where it is None.
    """
    import torch

    text = str(error)
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(sign in text for sign in NO_MEMORY):
        return True
    if not any(sign in text for sign in CUDNN_FAILED):
        return False
    if free is None:
        free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else NEXT_TO_NONE
    return free < NEXT_TO_NONE
