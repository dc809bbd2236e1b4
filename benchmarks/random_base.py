"""Write a random base of a named shape: the arithmetic of a real model, where its weights cannot be had.

    python -m benchmarks.random_base FOLDER [--shape llama-3.2-3b]

With SmolLM2's tokenizer and chat template. The embeddings of its special tokens are tiny, and the output is tied to
them: no greedy answer ends before its last token, whoever generates it. In bfloat16, 6.4 GB for 3B, 3.1 GB for
1.5B, 1 GB for 0.5B.
"""

import argparse
import sys
from pathlib import Path

from testkit.random_models import SHAPES, write_random_base


def main(arguments: list[str]) -> None:
    """Write the base that `arguments` name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="llama-3.2-3b")
    options = parser.parse_args(arguments)
    print(write_random_base(options.folder, options.shape))


if __name__ == "__main__":
    main(sys.argv[1:])
