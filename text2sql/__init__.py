"""What does specialising a language model for text-to-SQL gain, and what does it cost?

The library behind the pipeline in `dvc.yaml`: one subject a file, no DVC, no argv.
Data flows one way: data -> prompts -> models -> predictions -> scores -> comparison.
"""

import os
import sys

if sys.dont_write_bytecode:
    from text2sql.core.bytecode import keep_bytecode

    keep_bytecode()

# Before PyTorch is imported: its threads (GNU's OpenMP) soon sleep where they wait for each other. They would spin, and
# take the core from what the other one waits for: on two cores, one busy with something else, a step of training took
# 59 s, and so 40 s; with nothing else 18 and 19 s.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__version__ = "0.1.0"
