"""Where the stages of dvc.yaml leave what later ones read, relative to the project's folder: the only such list."""

from pathlib import Path

SAMPLE_SPIDER = Path("data/sample/spider")
PREPARED = Path("data/prepared")
CONVERSATIONS = PREPARED / "spider/qa_sharegpt.jsonl"
DEV = PREPARED / "spider/dev.jsonl"
SCHEMAS = PREPARED / "spider/schemas.json"
DATABASES = PREPARED / "databases"
QUESTIONS = PREPARED / "mmlu"
PREDICTIONS = Path("data/predictions")
VERDICTS = Path("data/verdicts")  # spider/ and mmlu/, a file a model
TIMINGS = Path("data/timings")  # <stage>_<model>.json
METRICS = Path("metrics")
MODELS = Path("models")  # a folder a tuned model


def adapter_of(model: str, base: str) -> Path | None:
    """Return the folder of a model's adapter, or None for the base."""
    return None if model == base else MODELS / model
