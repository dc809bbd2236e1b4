"""What the paper prints: "TP4 Análise Quantitativa", Igor Lima, Universidade Federal do Amazonas.

Its Table III (MMLU) is not printed: of MMLU only the differences in the text are known. Its models are those of
`core.models.PAPER_MODELS`, by name; of any other model it prints nothing.
"""

BASE = "Llama-3.2-3B-Instruct"  # in 4 bit

# Table I, by the names of this project's params; the text names the base with "-Instruct-bnb-4bit".
_TABLE_1 = {
    "base": "unsloth/Llama-3.2-3B",
    "lora.r": 16,
    "lora.alpha": 16,
    "lora.dropout": 0,
    "lora.target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "grad_accum": 4,
    "optim": "adamw_8bit",
}
TABLE_1 = {
    "m1": _TABLE_1 | {"batch_size": 2, "epochs": 1, "lr": 2e-4, "seed": 3407},
    "m2": _TABLE_1 | {"batch_size": 4, "epochs": 3, "lr": 2e-8, "seed": 8000},
}
TRAINING_MINUTES = {"m1": 28.43, "m2": 63.30}  # on the GPU below
GPU = "Tesla T4"
TRAINABLE_SHARE = 0.0081  # section I.B; 24,313,856 adapter parameters beside a base of 3.21 B are 0.75 %

# Table II: execution accuracy on Spider's dev split.
SPIDER_TOTAL = 1034
SPIDER_SUCCESSES = {"base": 36, "m1": 75, "m2": 62}

# Section II.C, in points against base, the same for both models: four of 50 questions of philosophy, one of 50 of
# computer science, three of 150 in all.
MMLU_TOTAL = 150
MMLU_DIFFERENCE_PTS = {"humanities": -8.00, "stem": 2.00, "all": -2.00}


def mmlu_difference_pts(model: str, scope: str) -> float | None:
    """Return the points against base that the paper prints for a tuned model on a category or "all"; None: nothing."""
    return MMLU_DIFFERENCE_PTS.get(scope) if model in TABLE_1 else None
