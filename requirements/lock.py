"""Pin what pyproject.toml names, with hashes, for Python 3.11 to 3.13 on any system.

    make lock               keep the pins that still fit
    make lock UPGRADE=1     the newest versions within the bounds

uv resolves. torch is resolved with the rest, but neither it nor what it alone brings (CUDA's libraries, sympy, …) is
written: its build is the machine's choice, and `requirements/torch.txt` is the one pin.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
TORCH = FOLDER / "torch.txt"
HEADER = "# Made by `make lock`: never edited by hand.\n"
# The first has the most; the others take its versions.
LOCKS = {
    "develop.txt": ["pyproject.toml", "--extra=train", "--extra=test", "--group=pyproject.toml:check"],
    "base.txt": ["pyproject.toml"],
    "gpu.txt": ["pyproject.toml", "--extra=train", "--extra=gpu"],
    "llama-cpp.txt": ["pyproject.toml", "--extra=llama-cpp"],
    "uv.txt": ["--group=pyproject.toml:install"],
}


def main(options: list[str]) -> None:
    """Write the locks; `options` are passed on to `uv pip compile`."""
    with tempfile.TemporaryDirectory() as scratch:
        pins, no_torch = Path(scratch, "pins.txt"), Path(scratch, "no-torch.txt")
        pins.write_text("")
        no_torch.write_text("torch ; python_version < '3'\n")
        for name, chosen in LOCKS.items():
            chosen = [*chosen, f"--constraint={TORCH}", f"--constraint={pins}", *options]
            # As a preference: uv keeps the versions of an output file that is there.
            output = FOLDER / name
            brought = _names(_compile(chosen, output)) - _names(_compile([*chosen, f"--override={no_torch}"], output))
            left_out = [f"--no-emit-package={package}" for package in sorted(brought)]
            locked = _compile([*chosen, *left_out, "--generate-hashes"], output)
            output.write_text(HEADER + locked)
            if not pins.read_text():
                pins.write_text("\n".join(re.findall(r"^[\w.-]+==[^\\\n]+", locked, re.MULTILINE)))
            without = f"; not {', '.join(sorted(brought))}" if brought else ""
            print(f"{output.relative_to(FOLDER.parent)}: {len(_names(locked))} packages{without}")


def _compile(options: list[str], preferred: Path) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch, "lock.txt")
        if preferred.exists():
            output.write_text(preferred.read_text())
        command = [
            "uv",
            "--system-certs",
            "pip",
            "compile",
            "--quiet",
            "--universal",
            "--python-version=3.11",
            "--no-header",
        ]
        command += ["--no-annotate", f"--output-file={output}", *options]
        subprocess.run(command, cwd=FOLDER.parent, check=True, stdout=subprocess.DEVNULL)
        return output.read_text()


def _names(locked: str) -> set[str]:
    return set(re.findall(r"^([\w.-]+)==", locked, re.MULTILINE))


if __name__ == "__main__":
    main(sys.argv[1:])
