"""Where the stages of dvc.yaml leave what later ones read, relative to the project's folder: the only such list."""

from pathlib import Path

from text2sql.core.errors import UserError

SAMPLE_SPIDER = Path("data/sample/spider")
PREPARED = Path("data/prepared")
TRAIN = PREPARED / "spider/train.jsonl"
CONVERSATIONS = PREPARED / "spider/qa_sharegpt.jsonl"
DEV = PREPARED / "spider/dev.jsonl"
SCHEMAS = PREPARED / "spider/schemas.json"
DATABASES = PREPARED / "databases"
QUESTIONS = PREPARED / "mmlu"
ALSO = Path("data/also")  # a folder a further evaluation set: dev.jsonl, schemas.json, databases/ of its own
PREDICTIONS = Path("data/predictions")  # a file a model; also/, a folder a set
SAMPLES = Path("data/samples")  # a file a model, and so in the next two
TRAIN_SAMPLES = SAMPLES / "train"  # of answers to training questions, with verdicts, compressed
CHOSEN = Path("data/chosen")
LOG_ODDS = Path("data/log_odds")  # a file a model: what the verifier says of its samples
VERIFIERS = Path("data/verifiers")  # a folder a verifier
VERDICTS = Path("data/verdicts")  # spider/, spider_choice/, mmlu/, mmlu_chat/, a file a model; also/, a folder a set
CHOSEN_VERDICTS = VERDICTS / "spider_choice"
TIMINGS = Path("data/timings")  # <stage>_<model>.json, <stage>_<set>_<model>.json
METRICS = Path("metrics")
EXPORTS = METRICS / "export"  # a file an export
EXPORT_VERDICTS = VERDICTS / "export"
EXPORT_FOLDERS = Path("data/exports")  # a folder an export
MODELS = Path("models")  # a folder a tuned model


def adapter_of(model: str, base: str) -> Path | None:
    """Return the folder of a model's adapter, or None for the base."""
    return None if model == base else MODELS / model


def database_of(db_id: str) -> Path:
    """Return the file of a prepared database. Raises UserError if it is missing."""
    path = DATABASES / db_id / f"{db_id}.sqlite"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run prepare again")
    return path
