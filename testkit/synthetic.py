"""Invented results of a few models in the form that the stages write: no model runs, the same seed gives the same.

    from testkit import synthetic

    made = synthetic.results(examples=60)
    made.write(tmp_path)          data/…, metrics/… and params.yaml, as a pipeline leaves them before `compare`

The base answers a few questions, the first tuned model about a quarter, the second repeats the base on nearly all, and
any further one answers some. Some texts are hostile (markup, quotes, a very long line), since a report must show them
as they are.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML

from text2sql.comparison.compare import ModelResults
from text2sql.core import files
from text2sql.core.models import PAPER_MODELS, ModelTable
from text2sql.data.mmlu import SUBJECT_CATEGORY
from text2sql.scoring.failures import CAUSE_GROUPS, CAUSES
from text2sql.scoring.hardness import HARDNESS_LEVELS
from text2sql.scoring.mmlu_chat import LETTER, OTHER, SQL

FOUR_MODELS = ModelTable({"base": "Start", "m1": "First", "m2": "Second", "m3": "Third"})
SUBJECTS = ("high_school_computer_science", "philosophy", "high_school_macroeconomics")
PARAMS = Path(__file__).parent.parent / "params.yaml"
HOSTILE = (
    "<script>document.title = 'owned'</script>",
    "</script><img src=x onerror=alert(1)> & \"quotes\" 'single' `ticks` {{ braces }} | pipe",
    "SELECT " + "x" * 3000,
)
FAILURES = {  # cause: (SQL, SQLite's message), where the query does not run
    "unknown_table": ("SELECT count(*) FROM visitor", "no such table: visitor"),
    "unknown_column": ("SELECT title FROM singer", "no such column: title"),
    "not_sql": ("To answer the question, we count the singers.", 'near "To": syntax error'),
    "syntax_error": ("SELECT FROM singer", 'near "FROM": syntax error'),
    "limit_reached": ("WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r) SELECT * FROM r", "step limit"),
    "forbidden_operation": ("DROP TABLE singer", "not authorized"),
}


@dataclass(frozen=True)
class Results:
    """What the stages before `compare` leave behind; each field is named as in the files' layout."""

    models: ModelTable
    predictions: dict[str, list[dict]]
    spider_verdicts: dict[str, list[dict]]
    mmlu_verdicts: dict[str, list[dict]]
    spider_metrics: dict[str, dict]
    mmlu_metrics: dict[str, dict]
    train_metrics: dict[str, dict]
    losses: dict[str, list[dict]]
    timings: dict[str, dict]
    schemas: dict[str, dict]
    chat_verdicts: dict[str, list[dict]] = field(default_factory=dict)  # of models that were asked MMLU in chat

    def write(self, root: str | Path) -> Path:
        """Write all of it under `root`, and the project's params with these models; return `root`."""
        root = Path(root)
        for model in self.models.names:
            files.write_jsonl(root / f"data/predictions/{model}.jsonl", self.predictions[model])
            files.write_jsonl(root / f"data/verdicts/spider/{model}.jsonl", self.spider_verdicts[model])
            files.write_jsonl(root / f"data/verdicts/mmlu/{model}.jsonl", self.mmlu_verdicts[model])
            files.write_json(root / f"metrics/spider/{model}.json", self.spider_metrics[model])
            files.write_json(root / f"metrics/mmlu/{model}.json", self.mmlu_metrics[model])
        for model, metrics in self.train_metrics.items():
            files.write_json(root / f"metrics/train/{model}.json", metrics)
            lines = ["step,epoch,loss,learning_rate"]
            lines += [",".join(str(value) for value in row.values()) for row in self.losses[model]]
            files.write_text(root / f"metrics/train/{model}_loss.csv", "\n".join(lines) + "\n")
        for stage, timing in self.timings.items():
            files.write_json(root / f"data/timings/{stage}.json", timing)
        files.write_json(root / "data/prepared/spider/schemas.json", self.schemas)
        write_params(root / "params.yaml", self.models)
        return root

    def of_model(self, model: str) -> ModelResults:
        """Return what the comparison takes of one model."""
        return ModelResults(
            spider_metrics=self.spider_metrics[model],
            mmlu_metrics=self.mmlu_metrics[model],
            spider_verdicts=self.spider_verdicts[model],
            mmlu_verdicts=self.mmlu_verdicts[model],
            predictions=self.predictions[model],
            chat_verdicts=self.chat_verdicts.get(model),
        )


def write_params(path: Path, models: ModelTable) -> None:
    """Write the project's params, where `models` are others with these: `train` is the first's recipe, as it is there.

    A model without a section there gets one, `train_<name>`, with a rate of its own.
    """
    text = PARAMS.read_text(encoding="utf-8")
    if models != PAPER_MODELS:
        params = YAML().load(text)
        params["data"]["name"] = models.questions
        params["models"] = {models.base: {"title": models.titles[models.base]}}
        for model in models.tuned:
            recipe = "train" if model == models.tuned[0] else f"train_{model}"
            params["models"][model] = {"title": models.titles[model], "recipe": recipe}
            params.setdefault(recipe, {"lr": 0.003})
        with files.atomic_file(path) as file:
            YAML().dump(params, file)
    else:
        files.write_text(path, text)


def results(
    seed: int = 0,
    examples: int = 60,
    questions: int = 24,
    subjects: tuple[str, ...] = SUBJECTS,
    hostile: bool = True,
    models: ModelTable = PAPER_MODELS,
) -> Results:
    """Return invented results over `examples` of Spider and `questions` of each MMLU subject."""
    rng = random.Random(seed)
    schemas = {f"concert_{number}": _schema(f"concert_{number}") for number in range(1 + examples // 50)}
    spider = _spider(rng, examples, sorted(schemas), hostile, models)
    mmlu = _mmlu(rng, questions, subjects, models)
    training = [_training(0.41, 0.9), _training(2.9, 2.91), _training(1.2, 1.5)]
    curves = [(0.4, 2e-3), (2.9, 2e-8), (1.2, 3e-3)]
    return Results(
        models=models,
        predictions={
            model: [
                {key: line[key] for key in ("index", "db_id", "question", "gold")}
                | {"raw": f"```sql\n{line['sql']};\n```", "sql": line["sql"], "new_tokens": len(line["sql"]) // 4 + 8}
                for line in spider[model]
            ]
            for model in models.names
        },
        spider_verdicts=spider,
        mmlu_verdicts=mmlu,
        spider_metrics={model: spider_metrics(spider[model]) for model in models.names},
        mmlu_metrics={model: mmlu_metrics(mmlu[model]) for model in models.names},
        train_metrics=dict(zip(models.tuned, training)),
        losses={model: _loss(rng, 2.9, *curve) for model, curve in zip(models.tuned, curves)},
        timings=_timings(rng, examples, models),
        schemas=schemas,
    )


def _spider(
    rng: random.Random, examples: int, databases: list[str], hostile: bool, models: ModelTable
) -> dict[str, list[dict]]:
    verdicts: dict[str, list[dict]] = {model: [] for model in models.names}
    for index in range(examples):
        hardness = HARDNESS_LEVELS[rng.choices(range(4), (248, 446, 174, 166))[0]]
        common = {
            "index": index,
            "db_id": databases[index * len(databases) // examples],
            "hardness": hardness,
            "question": f"How many singers are older than {index}?",
            "gold": f"SELECT count(*) FROM singer WHERE age > {index}",
        }
        if hostile and index == 1:
            common["question"] = f"Which singer is called {HOSTILE[1]}?"
        base = _spider_line(rng, common, 0.06)
        verdicts[models.base].append(base)
        for place, model in enumerate(models.tuned):
            if place == 1:
                kept, accuracy = rng.random() < 0.95, 0.06
            else:
                kept, accuracy = base["execution_accuracy"] and rng.random() < 0.8, 0.15 if place else 0.25
            verdicts[model].append(base if kept else _spider_line(rng, common, accuracy))
    if hostile:
        first = verdicts[models.tuned[0]]
        for index, text in enumerate(HOSTILE[: len(first)]):
            error = f'near "{text[:20]}": syntax error'
            first[index] = first[index] | {
                "sql": text, "execution_accuracy": False, "official_execution_accuracy": False,
                "outcome": "not_sql", "error": error, "result": None,
            }  # fmt: skip
    return verdicts


def _spider_line(rng: random.Random, common: dict, accuracy: float) -> dict:
    count = 100 - common["index"] % 90
    gold_result = {"columns": ["count(*)"], "rows": [[count]], "row_count": 1}
    line = {**common, "sql": common["gold"], "execution_accuracy": True, "official_execution_accuracy": True,
            "outcome": "correct", "error": None, "gold_result": gold_result, "result": gold_result}  # fmt: skip
    if rng.random() < accuracy:
        if rng.random() < 0.1:  # equal as sets of rows, not as bags
            twice = {"columns": ["count(*)"], "rows": [[count]] * 2, "row_count": 2}
            sql = f"SELECT (SELECT count(*) FROM singer WHERE age > {common['index']}) FROM concert"
            line |= {"sql": sql, "official_execution_accuracy": False, "outcome": "wrong_duplicates", "result": twice}
        return line
    line |= {"execution_accuracy": False, "official_execution_accuracy": False}
    cause = rng.choice([*FAILURES, "wrong_rows", "wrong_columns", "empty_result"])
    if cause in FAILURES:
        sql, error = FAILURES[cause]
        return line | {"sql": sql, "outcome": cause, "error": error, "result": None}
    sql, result = {
        "wrong_rows": ("SELECT count(*) FROM concert", {"columns": ["count(*)"], "rows": [[-1]], "row_count": 1}),
        "wrong_columns": (
            "SELECT name, age FROM singer",
            {"columns": ["name", "age"], "rows": [[f"Ana <b>{row}</b>", None] for row in range(5)], "row_count": 17},
        ),
        "empty_result": ("SELECT age FROM singer WHERE 0", {"columns": ["age"], "rows": [], "row_count": 0}),
    }[cause]
    return line | {"sql": sql, "outcome": cause, "result": result}


def _mmlu(rng: random.Random, questions: int, subjects: tuple[str, ...], models: ModelTable) -> dict[str, list[dict]]:
    verdicts: dict[str, list[dict]] = {model: [] for model in models.names}
    for subject in subjects:
        for index in range(questions):
            answer = rng.randrange(4)
            common = {
                "subject": subject,
                "category": SUBJECT_CATEGORY[subject],
                "index": index,
                "question": f"Which is right of {subject} {index}?",
                "choices": ["first", "second", "third", "fourth"],
            }
            base = [rng.uniform(-4, -1) + 3 * (rng.random() < 0.2 and option == answer) for option in range(4)]
            for model, noise in zip(models.names, (0.0, 0.8, 0.0, 0.4)):
                likelihoods = [round(value + rng.gauss(0, noise), 4) for value in base]
                choice = max(range(4), key=likelihoods.__getitem__)
                verdicts[model].append(
                    {
                        **common,
                        "log_likelihoods": likelihoods,
                        "choice": choice,
                        "answer": answer,
                        "correct": choice == answer,
                    }  # fmt: skip
                )
    return verdicts


def ask_mmlu_otherwise(made: Results, seed: int = 0) -> Results:
    """Add to `made` MMLU over the rotations of its options, and the base's and the first tuned model's in chat.

    The base answers with letters, the first tuned model mostly with SQL.
    """
    from text2sql.evaluation.mmlu import summarise_rotations

    rng = random.Random(seed)
    for model, lines in made.mmlu_verdicts.items():
        for line in lines:
            others = [line["choice"] if rng.random() < 0.5 else rng.randrange(4) for _ in range(3)]
            line["rotation_choices"] = [line["choice"], *others]
            line["rotations_right"] = line["rotation_choices"].count(line["answer"])
        made.mmlu_metrics[model]["rotated"] = summarise_rotations(lines)
    for model, sql in zip(made.models.names, (0.0, 0.9)):
        kinds = [SQL if rng.random() < sql else rng.choice((LETTER, LETTER, OTHER)) for _ in made.mmlu_verdicts[model]]
        made.chat_verdicts[model] = [
            {
                **{key: line[key] for key in ("subject", "category", "index", "answer")},
                "raw": "B" if kind == LETTER else "SELECT 1",
                "kind": kind,
                "choice": line["choice"] if kind == LETTER else None,
                "correct": kind == LETTER and line["correct"],
                "at_limit": kind == OTHER,
            }
            for kind, line in zip(kinds, made.mmlu_verdicts[model])
        ]
    return made


def as_of_bird(made: Results, difficulty: bool = True) -> Results:
    """Give the results what a benchmark in BIRD's layout has besides: its own accuracy, and all by difficulty.

    Of the answers that are right by the paper's definition, each fourth is wrong by BIRD's.
    """
    names = dict(zip(HARDNESS_LEVELS, ("simple", "moderate", "challenging", "challenging")))
    for model, lines in made.spider_verdicts.items():
        right = 0
        for place, line in enumerate(lines):
            right += line["execution_accuracy"]
            of_bird = {"bird_execution_accuracy": line["execution_accuracy"] and right % 4 != 0}
            lines[place] = line | of_bird | ({"difficulty": names[line["hardness"]]} if difficulty else {})
        metrics = made.spider_metrics[model] | _birds_accuracy(lines)
        if difficulty:
            levels = {level: [line for line in lines if line["difficulty"] == level] for level in names.values()}
            metrics["by_difficulty"] = {
                level: _both_accuracies(chosen) | _birds_accuracy(chosen) for level, chosen in levels.items()
            }
        made.spider_metrics[model] = metrics
    return made


def _birds_accuracy(verdicts: list[dict]) -> dict:
    right = sum(line["bird_execution_accuracy"] for line in verdicts)
    return {**_interval("bird_execution_accuracy", right, len(verdicts)), "bird_successes": right}


def spider_metrics(verdicts: list[dict]) -> dict:
    """Return the dictionary of metrics/spider/<model>.json for these verdict lines."""
    wrong = [line for line in verdicts if line["outcome"] != "correct"]
    causes = {cause: sum(line["outcome"] == cause for line in wrong) for cause in CAUSES}
    return {
        **_both_accuracies(verdicts, failures=True),
        "lenient_successes": sum(line["official_execution_accuracy"] for line in verdicts) + causes["tie"],
        "by_hardness": {
            level: _both_accuracies([line for line in verdicts if line["hardness"] == level])
            for level in HARDNESS_LEVELS
        },
        "by_database": {
            database: _counts([line for line in verdicts if line["db_id"] == database])
            for database in sorted({line["db_id"] for line in verdicts})
        },
        "causes": causes,
        "causes_by_hardness": {
            level: {
                cause: sum(line["outcome"] == cause and line["hardness"] == level for line in wrong) for cause in CAUSES
            }
            for level in HARDNESS_LEVELS
        },
        "cause_groups": {group: sum(causes[cause] for cause in members) for group, members in CAUSE_GROUPS.items()},
        "sqlite_version": "3.46.1",
    }


def _counts(verdicts: list[dict]) -> dict[str, int]:
    return {
        "total": len(verdicts),
        "successes": sum(line["execution_accuracy"] for line in verdicts),
        "official_successes": sum(line["official_execution_accuracy"] for line in verdicts),
    }


def mmlu_metrics(verdicts: list[dict]) -> dict:
    """Return the dictionary of metrics/mmlu/<model>.json for these verdict lines."""

    def by(key: str) -> dict:
        names = dict.fromkeys(line[key] for line in verdicts)
        return {name: _accuracy([line for line in verdicts if line[key] == name]) for name in names}

    categories = by("category")
    mean = sum(entry["accuracy"] for entry in categories.values()) / len(categories)
    return _accuracy(verdicts) | {
        "mean_of_categories": round(mean, 6), "by_category": categories, "by_subject": by("subject"),
    }  # fmt: skip


def _both_accuracies(verdicts: list[dict], failures: bool = False) -> dict:
    right = sum(line["execution_accuracy"] for line in verdicts)
    official = sum(line["official_execution_accuracy"] for line in verdicts)
    return {
        **_interval("execution_accuracy", right, len(verdicts)),
        "successes": right,
        **({"failures": len(verdicts) - right} if failures else {}),
        "total": len(verdicts),
        **_interval("official_execution_accuracy", official, len(verdicts)),
        "official_successes": official,
    }


def _accuracy(verdicts: list[dict]) -> dict:
    right = sum(line["correct"] for line in verdicts)
    return {**_interval("accuracy", right, len(verdicts)), "correct": right, "total": len(verdicts)}


def _interval(name: str, right: int, total: int) -> dict:
    from scipy.stats import binomtest

    if not total:
        return {name: 0.0, f"{name}_low": 0.0, f"{name}_high": 1.0}
    interval = binomtest(right, total).proportion_ci(method="wilson")
    values = (right / total, interval.low, interval.high)
    return {key: round(float(value), 6) for key, value in zip((name, f"{name}_low", f"{name}_high"), values)}


def _training(final_loss: float, mean_loss: float) -> dict:
    return {
        "final_loss": final_loss, "mean_loss": mean_loss, "steps": 30, "epochs": 1.0, "examples": 240,
        "tokens": 30720, "trainable_parameters": 4884480, "total_parameters": 139399488, "trainable_share": 0.035039,
    }  # fmt: skip


def _loss(rng: random.Random, first: float, last: float, rate: float) -> list[dict]:
    return [
        {
            "step": step,
            "epoch": round(step / 30, 4),
            "loss": round(first + (last - first) * step / 30 + rng.uniform(-0.05, 0.05), 4),
            "learning_rate": rate * (1 - step / 30),
        }
        for step in range(1, 31)
    ]


# What a stage's timing says of the model that it loaded.
LOADED = {"base": {"name": "someone/a-base", "revision": "fedcba98", "sha256": "0f" * 32}, "dtype": "bfloat16"}


def _timings(rng: random.Random, examples: int, models: ModelTable) -> dict[str, dict]:
    stages = [("prepare", None), *(("train", model) for model in models.tuned)]
    stages += [(stage, model) for stage in ("predict_spider", "eval_spider", "eval_mmlu") for model in models.names]
    return {
        f"{stage}_{model}" if model else stage: {
            "stage": stage,
            "model": model,
            "seconds": round(rng.uniform(5, 200), 2),
            "tokens": 30720,
            "tokens_per_second": round(rng.uniform(100, 900), 1),
            "peak_memory_gb": round(rng.uniform(0.5, 3), 2),
            "peak_gpu_memory_gb": None,
            "device": "cpu",
            "gpu": None,
            "cpus": 2,
            "versions": {"python": "3.11.2", "torch": "2.13.0", "transformers": "5.17.0"},
            "examples": examples,
            **(LOADED if stage in ("train", "predict_spider", "eval_mmlu") else {}),
        }
        for stage, model in stages
    }


def _schema(db_id: str) -> dict:
    def table(name: str, *columns: tuple[str, str]) -> dict:
        return {
            "name": name,
            "columns": [{"name": column, "type": kind} for column, kind in columns],
            "primary_key": [columns[0][0]],
        }

    return {
        "db_id": db_id,
        "tables": [
            table("singer", ("singer_id", "INTEGER"), ("name", "TEXT"), ("age", "INTEGER")),
            table("concert", ("concert_id", "INTEGER"), ("title", "TEXT"), ("singer_id", "INTEGER")),
        ],
        "foreign_keys": [{"table": "concert", "column": "singer_id", "ref_table": "singer", "ref_column": "singer_id"}],
    }
