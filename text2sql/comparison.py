"""What a fine-tune gained, what it cost, and whether either is more than chance.

`compare` takes the results of the three models and returns one dictionary from which the reports are written:

    models       ["base", "m1", "m2"]
    spider       {model: the dictionary of metrics/spider/<model>.json}
    mmlu         {model: the dictionary of metrics/mmlu/<model>.json}
    comparisons  a list, one entry a model pair and measure:
        task                      "spider" | "mmlu"
        measure                   "execution_accuracy" | "official_execution_accuracy" (Spider) | "accuracy" (MMLU)
        level                     "overall" | "category" | "subject"
        scope                     "all", or the category's or subject's name
        model, against            "m1" and "base", "m2" and "base", or "m1" and "m2"
        total                     number of questions, the same ones for both models
        accuracy, accuracy_against   shares from 0 to 1
        difference_pts, low_pts, high_pts   `model` less `against` in points, with its paired bootstrap 95 % interval
        gained, lost, both_right, both_wrong   questions that `model` alone, `against` alone, both or neither answer
        p                         exact McNemar, two-sided
        family, p_holm            the key in `families`, and p adjusted by Holm's method across that family
        smallest_detectable_pts   smallest difference that so many questions show with 80 % power at the observed
                                  discordance and an unadjusted level of 5 %; None where there is none
        verdict                   "better" | "worse" | "not distinguishable": from p_holm and the sign alone
    families     {family: its description, with the number of comparisons in it}
    agreement    {"m1" | "m2": with base, "m1_m2": with one another}, each
        outputs, spider_verdicts, mmlu_choices   shares of identical raw outputs, execution-accuracy verdicts, choices
    trade_off    {"m1" | "m2": {"spider": limit, "mmlu": limit, "verdict": the worse of the two}}, where a limit is
        points, low_pts, high_pts   the gain on Spider (execution accuracy), or the loss on MMLU, with its interval
        limit_pts                 the least gain, or the greatest loss, that the params allow
        verdict                   "broken" (the whole interval lies beyond it) | "inconclusive" (it straddles it) | "kept"
    sentences    {"m1" | "m2" | "m1_m2": one sentence of verdict on Spider and MMLU}

Nothing in it depends on time or machine. `cost` adds what does, for the reports alone. `flatten` makes the numbers of
metrics/compare.json, from which `sentences` and `trade_off` follow without any other file.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from text2sql.errors import UserError

MODELS = ("base", "m1", "m2")
TUNED = ("m1", "m2")
PAIRS = (("m1", "base"), ("m2", "base"), ("m1", "m2"))
NAMES = {"base": "Base", "m1": "Model 1", "m2": "Model 2"}
SIGNIFICANCE = 0.05
