"""The proof of an export: an engine asked the evaluated questions by it, against the answers that were scored.

Where the engine's dtype or device is not that of the scored answers, the adapter itself is asked in the engine's dtype
on this machine too: what the export loses then stands apart from what the dtype does.
"""

from collections.abc import Callable
from pathlib import Path

from text2sql.core.errors import UserError
from text2sql.core.params import Params
from text2sql.experiments.export.asking import ask_adapter, ask_engine
from text2sql.experiments.export.engines import ENGINES, OF_FORMAT, Engine
from text2sql.experiments.export.evaluated import Options, read_evaluated
from text2sql.experiments.export.proof import Proof, proof_of
from text2sql.experiments.export.record import Record, read_record


def verify(folder: Path, params: Params, options: Options, say: Callable[[str], object] = lambda text: None) -> Proof:
    """Ask the export in `folder`, and compare; `say` is told what is under way.

    Raises UserError for what is no finished export or is not of the project's questions, and for an engine that cannot
    read it or is not installed; RunError where the engine reads other token ids than were evaluated, or ends.
    """
    engine = _engine(read_record(folder), options)
    engine.require()
    case = read_evaluated(folder, params, options, with_mmlu=options.mmlu and engine.log_likelihoods)
    of_mmlu = f" and {len(case.mmlu.prompts)} of MMLU" if case.mmlu else ""
    say(f"asking {len(case.asked)} questions{of_mmlu} by {engine.name}")
    answers = ask_engine(engine, case, options.base)
    own = None
    if answers.used != case.scored:
        own = ask_adapter(case, answers.used.dtype, say)
    return proof_of(case, answers, own)


def _engine(record: Record, options: Options) -> Engine:
    engine = ENGINES[options.engine or OF_FORMAT[record.format]]
    if record.form not in engine.forms:
        able = [one.name for one in ENGINES.values() if record.form in one.forms]
        raise UserError(f"--engine {engine.name}: does not read a {record.form} export, takes {' or '.join(able)}")
    if options.base is not None and record.form != "adapter":
        raise UserError("--base: is for an adapter, and this export holds its base's weights")
    return engine
