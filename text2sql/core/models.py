"""The models of one experiment, as the section `models` of params.yaml names them: the base first, then the tuned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SPIDER = "Spider"  # what reports call the text-to-SQL questions, unless they are a user's own


@dataclass(frozen=True)
class ModelTable:
    """Which models are evaluated and compared, in order, and on what.

    `titles` maps each name, as it stands in files and keys ("m1"), to its title in reports ("Model 1"); the first is
    the base, all others are tuned. `questions` is what reports call the text-to-SQL questions: `data.name`. Keys and
    stages are named after Spider whatever it is, so that metrics of all data have one form.
    """

    titles: Mapping[str, str]
    questions: str = SPIDER

    @property
    def on_spider(self) -> bool:
        """Whether the questions are Spider's, so that the paper's figures may stand beside them."""
        return self.questions == SPIDER

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


# What the HTML report's address keeps besides the models' outcomes.
_OF_EXPLORER = ("example", "search", "hardness", "database", "judged")
_BOUNDS = ("low", "high")  # of an interval: `spider_gain_pts_low_m1`


def name_clash(names: Sequence[str]) -> str | None:
    """Return which of the models' names would be taken for something else in files and keys, in words, or None."""
    table = ModelTable({name: name for name in names})
    pairs = {table.pair_name(*pair): pair for pair in table.pairs if pair[1] != table.base}
    for name in names:
        if name in _OF_EXPLORER:
            return f"{name}: the report's explorer has a filter of this name; takes another name"
        if name.partition("_")[0] in _BOUNDS:
            return f"{name}: metrics/compare.json has keys that begin so; takes another name"
        if name in pairs:
            return f"{name}: stands for {' against '.join(pairs[name])} in metrics/compare.json; takes another name"
    return None


PAPER_MODELS = ModelTable({"base": "Base", "m1": "Model 1", "m2": "Model 2"})
