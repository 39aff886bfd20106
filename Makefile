# Everything goes into .venv/ and .dolly/ of this folder; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UI_PORT ?= 3000
BUCKET ?= dolly-bench

.PHONY: demo ui test lint format bench lock clean

demo: $(VENV)/.installed ## Fine-tune the demo model for three epochs, score and compare them
	$(BIN)/dolly train --model demo --dataset demo --epochs 1-3
	@$(BIN)/dolly status
	@echo "Look at it in the Dagster UI: make ui"

ui: $(VENV)/.installed ## The Dagster UI on http://localhost:3000
	$(BIN)/dolly ui --port $(UI_PORT)

test: lint ## Lint, type checks and tests
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev ## Style, types, and the code location as Dagster's own tools check it
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/dg check defs

format: $(VENV)/.installed-dev ## Bring the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev ## Every benchmark beside its baseline; S3 as the AWS_* variables say, bucket BUCKET
	$(BIN)/python benchmarks/sampler.py
	$(BIN)/python benchmarks/store_faults.py
	$(BIN)/python benchmarks/report.py
	$(BIN)/python benchmarks/store.py --bucket $(BUCKET)

lock: $(VENV)/.installed-dev ## Write down the versions of everything that is installed
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean: ## Remove the environment; the store in .dolly/ stays
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || (echo "Python 3.11 or newer is needed, found: $$($(PYTHON) --version). Try: make PYTHON=python3.11" && exit 1)
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --progress-bar off -c constraints.txt -e '.[orchestrator,worker]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --progress-bar off -c constraints.txt -e '.[orchestrator,worker,dev]'
	@touch $@
