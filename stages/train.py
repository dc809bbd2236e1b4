"""Fine-tune one model: its adapter, or all of its weights.

python -m stages.train m1
"""

from collections.abc import Sequence

from text2sql.core.errors import UserError, run
from text2sql.core.files import read_jsonl
from text2sql.core.paths import CONVERSATIONS
from text2sql.core.stage_arguments import model_and_params
from text2sql.core.startup import load_ahead


def main(arguments: Sequence[str]) -> int | None:
    """Write `models/<model>/`, `metrics/train/<model>.json` and `_loss.csv`, and `data/timings/train_<model>.json`."""
    load_ahead()
    name, params = model_and_params(__doc__.splitlines()[0], arguments, tuned_only=True)
    objective = params.train_for(name).objective
    if objective != "sft":
        raise UserError(f"train.objective: {objective}: takes an entry of `learn`, trained by stages.learn")
    from text2sql.training.run import StageRun, interruptible, train_and_publish

    stage = StageRun(name, f"train_{name}", read_jsonl(CONVERSATIONS))
    return interruptible(lambda: train_and_publish(stage, params))


if __name__ == "__main__":
    run(main)
