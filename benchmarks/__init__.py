"""Speed, measured against what people would use instead: each script prints ratios against named peers of one run."""

import os
import tempfile

# Before any library is imported: no network, no telemetry, and no compiled files in the repository.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", os.path.join(tempfile.gettempdir(), "unsloth_compiled_cache"))
