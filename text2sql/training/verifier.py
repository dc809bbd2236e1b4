"""What a verifier is trained on, as chat messages and one word: of its questions' answers as many right as wrong."""

from text2sql.prompts.verifier import RIGHT, WRONG, VerifierPrompt, shown_result
from text2sql.scoring.contrasts import Contrasts


def verifier_pairs(chosen: Contrasts, prompt: VerifierPrompt) -> list[tuple[list[dict], str]]:
    """Return chat messages and the verdict for each of the `chosen` answers. Raises as `VerifierPrompt` does."""
    pairs = []
    for question, answers in chosen.picked:
        for answer in answers:
            assert answer.result is not None, "contrasts are of answers that run"
            shown = shown_result(answer.result)
            messages = prompt.messages(question.question, question.db_id, answer.sql, shown, question.evidence)
            pairs.append((messages, RIGHT if answer.right else WRONG))
    return pairs
