#!/usr/bin/env bash
# optuna 5.0.0: `suggest_categorical` with choices that Python calls equal.
#
# A good engineer would guess: a trial's params are what the objective got, and `study.best_params` is the setting that
# gave `study.best_value`; `BruteForceSampler` ends when it has tried each choice.
# Seen: of 1 (a single row) and 1.0 (all rows), as scikit-learn tells them apart, or of False (off) and 0, the objective
# gets either, and the trial says the first. Here 1.0 alone gives the best value, and `best_params` says 1, in memory and
# in a storage. `BruteForceSampler` does not know when it is done: 12 trials of three choices. No warning; choices of
# None, bool, int, float and str are what the documentation recommends.
# For who searches a share or a number of rows, or a limit that can be off: the setting that is kept was not the one that
# was good. A name for each choice ("one", "all") and a table from name to value settle it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q optuna==5.0.0 2>/dev/null
cd "$folder"
cat > look.py <<'PYTHON'
import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)


def search(sampler, storage=None):
    ran = []

    def error_rate(trial):
        rows = trial.suggest_categorical("rows", [1, 1.0, 0.5])
        ran.append(rows)
        return 0.1 if rows == 1 and isinstance(rows, float) else 0.9

    study = optuna.create_study(sampler=sampler, storage=storage)
    study.optimize(error_rate, n_trials=12)
    kept = {repr(trial.params["rows"]) for trial in study.trials}
    print(len(ran), "trials ran", *sorted({repr(rows) for rows in ran}), "and kept", *sorted(kept), end="; ")
    print("best", study.best_value, "by", study.best_params["rows"])


search(optuna.samplers.TPESampler(seed=0))
search(optuna.samplers.TPESampler(seed=0), "sqlite:///trials.db")
search(optuna.samplers.BruteForceSampler(seed=0))
PYTHON
seen=$(venv/bin/python look.py 2>said) || { tail -3 said >&2; exit 1; }
echo "$seen"
# Output seen, 30 November 2026 (TPE in memory, TPE in a storage, brute force):
#   12 trials ran 0.5 1 1.0 and kept 0.5 1; best 0.1 by 1
#   12 trials ran 0.5 1 1.0 and kept 0.5 1; best 0.1 by 1
#   12 trials ran 0.5 1 1.0 and kept 0.5 1; best 0.1 by 1
test "$seen" = "12 trials ran 0.5 1 1.0 and kept 0.5 1; best 0.1 by 1
12 trials ran 0.5 1 1.0 and kept 0.5 1; best 0.1 by 1
12 trials ran 0.5 1 1.0 and kept 0.5 1; best 0.1 by 1" || { echo "changed: a trial keeps the choice that ran" >&2; exit 1; }
