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
        verdict                   "broken": the whole interval lies beyond it; "inconclusive": it straddles it; "kept"
    sentences    {"m1" | "m2" | "m1_m2": one sentence of verdict on Spider and MMLU}

Nothing in it depends on time or machine. `cost` adds what does, for the reports alone. `flatten` makes the numbers of
metrics/compare.json, from which `sentences` and `trade_off` follow without any other file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from text2sql.core.errors import UserError
from text2sql.core.files import read_json

MODELS = ("base", "m1", "m2")
TUNED = ("m1", "m2")
PAIRS = (("m1", "base"), ("m2", "base"), ("m1", "m2"))
NAMES = {"base": "Base", "m1": "Model 1", "m2": "Model 2"}
SIGNIFICANCE = 0.05
SPIDER_MEASURES = ("execution_accuracy", "official_execution_accuracy")
_WORSE = ("kept", "inconclusive", "broken")
HEADLINE, CATEGORIES, SUBJECTS = "headline", "mmlu_categories", "mmlu_subjects"


class Limits(Protocol):
    """The section `compare` of the params."""

    max_mmlu_loss_pts: float
    min_spider_gain_pts: float
    bootstrap_samples: int
    seed: int


@dataclass(frozen=True)
class ModelResults:
    """What the evaluation of one model left: two metrics dictionaries, and lines in the form of the files' own."""

    spider_metrics: dict
    mmlu_metrics: dict
    spider_verdicts: Iterable[dict]
    mmlu_verdicts: Iterable[dict]
    predictions: Iterable[dict]


@dataclass(frozen=True)
class _Answers:
    """What is kept of a model's lines: a column each, so that memory does not grow with the results' rows."""

    spider_keys: list[tuple]
    spider: dict[str, list[bool]]
    mmlu_keys: list[tuple]
    mmlu_categories: list[str]
    mmlu: list[bool]
    choices: list[int]
    outputs: list[str]


def compare(results: Mapping[str, ModelResults], limits: Limits) -> dict[str, Any]:
    """Return the comparison of `base`, `m1` and `m2` in the form that the module's docstring describes.

    Raises UserError where the models were not evaluated on the same questions, or lines and metrics do not agree.
    """
    answers = {model: _collect(model, results[model]) for model in MODELS}
    for model in TUNED:
        for what in ("spider_keys", "mmlu_keys"):
            if getattr(answers[model], what) != getattr(answers["base"], what):
                task = what.removesuffix("_keys")
                raise UserError(f"{task}: base and {model} were evaluated on different questions; rerun both")
    comparisons = [
        _compare_pair(answers, pair, limits, **measure) for measure in _measures(answers["base"]) for pair in PAIRS
    ]
    comparison = {
        "models": list(MODELS),
        "spider": {model: results[model].spider_metrics for model in MODELS},
        "mmlu": {model: results[model].mmlu_metrics for model in MODELS},
        "comparisons": comparisons,
        "families": _adjust(comparisons),
        "agreement": {
            pair_name(model, against): _agreement(answers[model], answers[against]) for model, against in PAIRS
        },
    }
    for one in comparisons:
        one["verdict"] = verdict(one["difference_pts"], one["p_holm"])
    flat = flatten(comparison)
    return comparison | {"trade_off": trade_off(flat, limits), "sentences": sentences(flat)}


def pair_name(model: str, against: str) -> str:
    """Return the name of a pair in keys: the tuned model's alone where it stands against base, else both."""
    return model if against == "base" else f"{model}_{against}"


def _collect(model: str, results: ModelResults) -> _Answers:
    answers = _Answers([], {measure: [] for measure in SPIDER_MEASURES}, [], [], [], [], [])
    for line in results.spider_verdicts:
        answers.spider_keys.append((line["index"], line["db_id"]))
        for measure in SPIDER_MEASURES:
            answers.spider[measure].append(line[measure])
    for line in results.mmlu_verdicts:
        answers.mmlu_keys.append((line["subject"], line["index"]))
        answers.mmlu_categories.append(line["category"])
        answers.mmlu.append(line["correct"])
        answers.choices.append(line["choice"])
    prediction_keys = []
    for line in results.predictions:
        prediction_keys.append((line["index"], line["db_id"]))
        answers.outputs.append(line["raw"])
    if prediction_keys != answers.spider_keys:
        raise UserError(f"{model}: its predictions and its Spider verdicts are not of the same examples")
    spider, mmlu = results.spider_metrics, results.mmlu_metrics
    official = sum(answers.spider["official_execution_accuracy"])
    for name, right, wanted in (
        ("Spider total", len(answers.spider_keys), spider["total"]),
        ("Spider successes", sum(answers.spider["execution_accuracy"]), spider["successes"]),
        ("Spider official successes", official, spider["official_successes"]),
        ("MMLU total", len(answers.mmlu), mmlu["total"]),
        ("MMLU correct", sum(answers.mmlu), mmlu["correct"]),
    ):
        if right != wanted:
            raise UserError(f"{model}: its verdicts give {name} {right}, its metrics {wanted}; rerun its evaluation")
        if not right and name.endswith("total"):
            raise UserError(f"{model}: {name} is 0; there is nothing to compare")
    return answers


def _measures(answers: _Answers) -> list[dict]:
    """Return what is compared, in the order of the output: where its verdicts lie, and what it is called."""
    from text2sql.data.mmlu import CATEGORIES as CATEGORY_ORDER

    everything = {"level": "overall", "scope": "all", "family": HEADLINE, "questions": None}
    measures = [{"task": "spider", "measure": measure, **everything} for measure in SPIDER_MEASURES]
    measures.append({"task": "mmlu", "measure": "accuracy", **everything})
    subjects = [subject for subject, _ in answers.mmlu_keys]
    present = set(answers.mmlu_categories)
    names = {
        ("category", CATEGORIES): ([name for name in CATEGORY_ORDER if name in present], answers.mmlu_categories),
        ("subject", SUBJECTS): (list(dict.fromkeys(subjects)), subjects),
    }
    for (level, family), (scopes, column) in names.items():
        places: dict[str, list[int]] = {}
        for place, name in enumerate(column):
            places.setdefault(name, []).append(place)
        measures += [
            {"task": "mmlu", "measure": "accuracy", "level": level, "scope": scope, "family": family,
             "questions": places[scope]}
            for scope in scopes
        ]  # fmt: skip
    return measures


def _compare_pair(
    answers: Mapping[str, _Answers],
    pair: tuple[str, str],
    limits: Limits,
    questions: list[int] | None,
    **names: str,
) -> dict[str, Any]:
    from text2sql.comparison import significance as statistics

    def column(model: str) -> list[bool]:
        verdicts = answers[model].mmlu if names["task"] == "mmlu" else answers[model].spider[names["measure"]]
        return verdicts if questions is None else [verdicts[place] for place in questions]

    model, against = pair
    right, right_against = column(model), column(against)
    total = len(right)
    gained, lost = statistics.discordant(right, right_against)
    low, high = statistics.paired_bootstrap_interval(gained, lost, total, limits.bootstrap_samples, limits.seed)
    detectable = statistics.smallest_detectable_difference(gained, lost, total)
    return {
        **names,
        "model": model,
        "against": against,
        "total": total,
        "accuracy": round(sum(right) / total, 6),
        "accuracy_against": round(sum(right_against) / total, 6),
        "difference_pts": _points((gained - lost) / total),
        "low_pts": _points(low),
        "high_pts": _points(high),
        "gained": gained,
        "lost": lost,
        "both_right": sum(right) - gained,
        "both_wrong": total - sum(right) - lost,
        "p": statistics.mcnemar_p(gained, lost),
        "smallest_detectable_pts": None if detectable is None else round(100 * detectable, 2),
    }


def _points(share: float) -> float:
    return round(100 * share, 4) + 0.0  # never -0.0


def _adjust(comparisons: list[dict]) -> dict[str, str]:
    """Add `p_holm` to each comparison; return what the families are, by name."""
    from text2sql.comparison import significance as statistics

    descriptions = {
        HEADLINE: "Spider (both accuracies) and MMLU overall",
        CATEGORIES: "MMLU by category",
        SUBJECTS: "MMLU by subject",
    }
    families = {}
    for family, description in descriptions.items():
        members = [one for one in comparisons if one["family"] == family]
        for one, adjusted in zip(members, statistics.holm([one["p"] for one in members])):
            # Rounded before any verdict is taken, so that metrics/compare.json leads to the same one.
            one["p"], one["p_holm"] = (float(f"{p:.4g}") for p in (one["p"], adjusted))
        families[family] = f"{description}: {len(members)} comparisons ({len(PAIRS)} pairs of models)"
    return families


def _agreement(answers: _Answers, against: _Answers) -> dict[str, float]:
    def share(ours: list, theirs: list) -> float:
        return round(sum(one == other for one, other in zip(ours, theirs)) / len(ours), 6)

    return {
        "outputs": share(answers.outputs, against.outputs),
        "spider_verdicts": share(answers.spider["execution_accuracy"], against.spider["execution_accuracy"]),
        "mmlu_choices": share(answers.choices, against.choices),
    }


def verdict(difference_pts: float, p_holm: float) -> str:
    """Return "better", "worse" or "not distinguishable": by the Holm-adjusted p alone, with the difference's sign."""
    if p_holm > SIGNIFICANCE or not difference_pts:
        return "not distinguishable"
    return "better" if difference_pts > 0 else "worse"


def entry(comparison: Mapping, model: str, against: str, measure: str, scope: str = "all") -> dict[str, Any]:
    """Return the one entry of `comparison["comparisons"]` for this pair, measure and scope.

    A subject and a category never share a name, so that `scope` tells them apart. Raises KeyError where there is none.
    """
    for found in comparison["comparisons"]:
        if (found["model"], found["against"], found["measure"], found["scope"]) == (model, against, measure, scope):
            return found
    raise KeyError((model, against, measure, scope))


def flatten(comparison: Mapping) -> dict[str, float]:
    """Return the numbers of metrics/compare.json: what a reviewer reads, under names without dots.

    Pairs are named `m1` and `m2` (against base), and `m1_m2` (Model 1 against Model 2). Points of gain count up on
    Spider, points of loss count down on MMLU. A smallest detectable difference that does not exist has no key.
    """
    flat: dict[str, float] = {
        "spider_total": comparison["spider"]["base"]["total"],
        "mmlu_total": comparison["mmlu"]["base"]["total"],
    }
    for model in MODELS:
        for measure in SPIDER_MEASURES:
            flat[f"spider_{measure}_{model}"] = comparison["spider"][model][measure]
    flat |= {f"mmlu_accuracy_{model}": comparison["mmlu"][model]["accuracy"] for model in MODELS}
    for model, against in PAIRS:
        pair = pair_name(model, against)
        official = entry(comparison, model, against, "official_execution_accuracy")
        mmlu = entry(comparison, model, against, "accuracy")
        spider = entry(comparison, model, against, "execution_accuracy")
        flat |= {
            f"spider_gain_pts_{pair}": spider["difference_pts"],
            f"spider_gain_pts_low_{pair}": spider["low_pts"],
            f"spider_gain_pts_high_{pair}": spider["high_pts"],
            f"spider_p_holm_{pair}": spider["p_holm"],
            f"spider_smallest_detectable_pts_{pair}": spider["smallest_detectable_pts"],
            f"spider_official_p_holm_{pair}": official["p_holm"],
            f"mmlu_loss_pts_{pair}": 0.0 - mmlu["difference_pts"],
            f"mmlu_loss_pts_low_{pair}": 0.0 - mmlu["high_pts"],
            f"mmlu_loss_pts_high_{pair}": 0.0 - mmlu["low_pts"],
            f"mmlu_p_holm_{pair}": mmlu["p_holm"],
            f"mmlu_smallest_detectable_pts_{pair}": mmlu["smallest_detectable_pts"],
        }
        agreement = comparison["agreement"][pair]
        flat |= {
            f"agreement_identical_outputs_{pair}": agreement["outputs"],
            f"agreement_identical_verdicts_{pair}": agreement["spider_verdicts"],
            f"agreement_identical_choices_{pair}": agreement["mmlu_choices"],
        }
    return {key: value for key, value in flat.items() if value is not None}


def read_flat(path: str | Path) -> dict[str, float]:
    """Return the numbers of metrics/compare.json. Raises UserError where one is missing or is no number."""
    flat = read_json(path)
    if not isinstance(flat, dict):
        raise UserError(f"{path}: found {type(flat).__name__}, wanted an object of numbers")
    wanted = ["spider_total", "mmlu_total"]
    for pair in (pair_name(model, against) for model, against in PAIRS):
        wanted += [f"spider_{name}_{pair}" for name in ("gain_pts", "gain_pts_low", "gain_pts_high", "p_holm")]
        wanted += [f"mmlu_{name}_{pair}" for name in ("loss_pts", "loss_pts_low", "loss_pts_high", "p_holm")]
    for key in wanted:
        if isinstance(flat.get(key), bool) or not isinstance(flat.get(key), (int, float)):
            raise UserError(f"{path}: {key}: found {flat.get(key)!r}, wanted a number; `dvc repro` writes it anew")
    return flat


def sentences(flat: Mapping[str, float]) -> dict[str, str]:
    """Return one sentence of verdict for each pair of models, from the numbers of metrics/compare.json alone.

    "improved" and "regressed" stand only where the Holm-adjusted p reaches 5 %.
    """
    found = {}
    for model, against in PAIRS:
        pair = pair_name(model, against)
        other = NAMES[against]
        spider = _clause(
            f"{other} on Spider",
            flat[f"spider_gain_pts_{pair}"],
            (flat[f"spider_gain_pts_low_{pair}"], flat[f"spider_gain_pts_high_{pair}"]),
            flat[f"spider_p_holm_{pair}"],
            flat.get(f"spider_smallest_detectable_pts_{pair}"),
            flat["spider_total"],
            tuned_from=against == "base",
        )
        mmlu = _clause(
            f"{other} on MMLU",
            0.0 - flat[f"mmlu_loss_pts_{pair}"],
            (0.0 - flat[f"mmlu_loss_pts_high_{pair}"], 0.0 - flat[f"mmlu_loss_pts_low_{pair}"]),
            flat[f"mmlu_p_holm_{pair}"],
            flat.get(f"mmlu_smallest_detectable_pts_{pair}"),
            flat["mmlu_total"],
            tuned_from=against == "base",
        )
        found[pair] = f"{NAMES[model]} {spider} and {mmlu}."
    return found


def _clause(
    other_on_task: str,
    difference: float,
    interval: tuple[float, float],
    p_holm: float,
    detectable: float | None,
    total: float,
    tuned_from: bool,
) -> str:
    words = {
        ("better", True): "improved on",
        ("worse", True): "regressed from",
        ("better", False): "is better than",
        ("worse", False): "is worse than",
    }
    word = words.get((verdict(difference, p_holm), tuned_from), "is not distinguishable from")
    low, high = interval
    interval_text = f"95 % interval {points(low)} to {points(high)}"
    numbers = f"{points(difference)} points, {interval_text}, Holm-adjusted {p_text(p_holm)}"
    shown = "" if detectable is None else f"; smallest detectable: {detectable:.2f} on {total:,} questions"
    return f"{word} {other_on_task} ({numbers}{shown})"


def points(value: float) -> str:
    """Return points with their sign and two digits: `+3.77`, `-2.00`, `0.00`."""
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text


def p_text(p: float) -> str:
    """Return `p = 0.012`, two significant digits, or `p < 0.0001`; what is above 0.05 is never shown as 0.05."""
    if p < 0.0001:
        return "p < 0.0001"
    text = f"{p:.2g}"
    return f"p = {text if (float(text) <= SIGNIFICANCE) == (p <= SIGNIFICANCE) else f'{p:.4g}'}"


def trade_off(flat: Mapping[str, float], limits: Limits) -> dict[str, dict[str, Any]]:
    """Return how each tuned model stands against the limits of the params, from metrics/compare.json alone.

    The gain is that on Spider by execution accuracy, the paper's; the loss is that on MMLU overall.
    """
    found = {}
    for model in TUNED:
        spider = {
            "points": flat[f"spider_gain_pts_{model}"],
            "low_pts": flat[f"spider_gain_pts_low_{model}"],
            "high_pts": flat[f"spider_gain_pts_high_{model}"],
            "limit_pts": limits.min_spider_gain_pts,
        }
        spider["verdict"] = _against_limit(
            spider["high_pts"] < spider["limit_pts"], spider["low_pts"] >= spider["limit_pts"]
        )
        mmlu = {
            "points": flat[f"mmlu_loss_pts_{model}"],
            "low_pts": flat[f"mmlu_loss_pts_low_{model}"],
            "high_pts": flat[f"mmlu_loss_pts_high_{model}"],
            "limit_pts": limits.max_mmlu_loss_pts,
        }
        mmlu["verdict"] = _against_limit(mmlu["low_pts"] > mmlu["limit_pts"], mmlu["high_pts"] <= mmlu["limit_pts"])
        worst = max(spider["verdict"], mmlu["verdict"], key=_WORSE.index)
        found[model] = {"spider": spider, "mmlu": mmlu, "verdict": worst}
    return found


def _against_limit(wholly_beyond: bool, wholly_within: bool) -> str:
    return "broken" if wholly_beyond else "kept" if wholly_within else "inconclusive"


def gate_lines(trade_offs: Mapping[str, Mapping]) -> list[str]:
    """Say one line a tuned model and limit: its verdict, the points with their interval, and the limit."""
    lines = []
    for model, found in trade_offs.items():
        for task, name, bound in (("spider", "gain on Spider", "at least"), ("mmlu", "loss on MMLU", "at most")):
            limit = found[task]
            lines.append(
                f"{limit['verdict']}: {NAMES[model]}, {name}: {points(limit['points'])} points "
                f"({points(limit['low_pts'])} to {points(limit['high_pts'])}), {bound} {limit['limit_pts']:g} wanted"
            )
    return lines


def gate_outcome(trade_offs: Mapping[str, Mapping]) -> str:
    """Return the worst verdict over all tuned models: "broken", "inconclusive" or "kept"."""
    return max((found["verdict"] for found in trade_offs.values()), key=_WORSE.index)


def cost(comparison: Mapping, timings: Mapping[str, Mapping]) -> dict[str, dict[str, float | None]]:
    """Return what each tuned model's points on Spider cost (the paper's section III.C); for reports alone.

    `timings` is {"train_m1": the dictionary of data/timings/train_m1.json, …}. Each model gets `training_minutes`,
    `minutes_per_spider_point` and `mmlu_points_per_spider_point` (loss counts up); None where no time was recorded,
    and where no gain on Spider can be told from chance, since a cost per point of noise says nothing.
    """
    found = {}
    for model in TUNED:
        spider = entry(comparison, model, "base", "execution_accuracy")
        gain = spider["difference_pts"] if spider["verdict"] == "better" else None
        loss = 0.0 - entry(comparison, model, "base", "accuracy")["difference_pts"]
        timing = timings.get(f"train_{model}")
        minutes = timing["seconds"] / 60 if timing else None
        found[model] = {
            "training_minutes": minutes,
            "minutes_per_spider_point": minutes / gain if gain and minutes is not None else None,
            "mmlu_points_per_spider_point": loss / gain if gain else None,
        }
    return found


def accuracy_rows(comparison: Mapping) -> list[dict[str, Any]]:
    """Return the rows of metrics/plots/accuracy.csv: model, task, accuracy, low, high (shares)."""
    rows = []
    for task, group, measure in (
        ("Spider, execution accuracy", "spider", "execution_accuracy"),
        ("Spider, official execution accuracy", "spider", "official_execution_accuracy"),
        ("MMLU", "mmlu", "accuracy"),
    ):
        for model in MODELS:
            metrics = comparison[group][model]
            rows.append({"model": NAMES[model], "task": task, **_interval(metrics, measure)})
    return rows


def category_rows(comparison: Mapping) -> list[dict[str, Any]]:
    """Return the rows of metrics/plots/mmlu_by_category.csv: also the difference to base in points."""
    rows = []
    for category in categories(comparison):
        for model in MODELS:
            metrics = comparison["mmlu"][model]["by_category"][category]
            difference = 0.0
            if model != "base":
                difference = entry(comparison, model, "base", "accuracy", category)["difference_pts"]
            row = {"model": NAMES[model], "category": category, **_interval(metrics, "accuracy")}
            rows.append(row | {"difference_pts": difference})
    return rows


def categories(comparison: Mapping) -> list[str]:
    """Return the MMLU categories that were asked, in order."""
    return list(dict.fromkeys(found["scope"] for found in comparison["comparisons"] if found["level"] == "category"))


def _interval(metrics: Mapping, measure: str) -> dict[str, float]:
    return {"accuracy": metrics[measure], "low": metrics[f"{measure}_low"], "high": metrics[f"{measure}_high"]}
