"""Older forms of params.yaml: what each implied, so that an older result set can be read as it was meant.

Version 1 (no key `version`) is that of the result sets made before the models stood in params.yaml.
"""

from collections.abc import Mapping
from typing import Any

# A key that came later, as a dotted path, and what every file of version 1 implied.
IMPLIED: dict[str, Any] = {
    "version": 2,
    "models": {
        "base": {"title": "Base"},
        "m1": {"title": "Model 1", "recipe": "train"},
        "m2": {"title": "Model 2", "recipe": "train_m2"},
    },
    "data.failing_gold": "refuse",
    "prompt.answer": "paper",
}


def upgraded(params: Mapping) -> dict:
    """Return the mapping of an older params.yaml with what it implied; one of today's form comes back as it is."""
    new = {key: dict(value) if isinstance(value, Mapping) else value for key, value in params.items()}
    if "version" in new:
        return new
    for path, value in IMPLIED.items():
        *sections, key = path.split(".")
        place: Any = new
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.setdefault(key, value)
    return new
