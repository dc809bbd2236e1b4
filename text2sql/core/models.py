"""The models of one experiment, as the section `models` of params.yaml names them: the base first, then the tuned."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelTable:
    """Which models are evaluated and compared, in order.

    `titles` maps each name, as it stands in files and keys ("m1"), to its title in reports ("Model 1"); the first is
    the base, all others are tuned.
    """

    titles: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the base's first."""
        return tuple(self.titles)

    @property
    def base(self) -> str:
        """The base's name."""
        return self.names[0]

    @property
    def tuned(self) -> tuple[str, ...]:
        """The names of the tuned models."""
        return self.names[1:]

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """What is compared, as (model, against): each tuned one with the base, then the first with each later one."""
        first, *later = self.tuned or (self.base,)
        return tuple((model, self.base) for model in self.tuned) + tuple((first, model) for model in later)

    def pair_name(self, model: str, against: str) -> str:
        """Return a pair's name in keys: the tuned model's alone where it stands against the base, else both."""
        return model if against == self.base else f"{model}_{against}"


PAPER_MODELS = ModelTable({"base": "Base", "m1": "Model 1", "m2": "Model 2"})
