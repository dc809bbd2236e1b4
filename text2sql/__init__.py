"""What does specialising a language model for text-to-SQL gain, and what does it cost?

The library behind the pipeline in `dvc.yaml`: one subject a file, no DVC, no argv.
Data flows one way: data -> prompts -> models -> predictions -> scores -> comparison.
"""

import os

# Before PyTorch is imported: its threads sleep where they wait for each other. They would spin, and where anything else
# runs keep the one that they wait for from its core: a step of training took three times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
