# Everything goes into .venv/ and .dolly/ of this folder; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UI_PORT ?= 3000
BUCKET ?= dolly-bench

VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' dolly_assets/__init__.py)
REGISTRY ?= registry.example.com/dolly
CUDA_IMAGE ?=
CONTAINER ?= $(firstword $(foreach tool,docker podman,$(if $(shell command -v $(tool)),$(tool))))

.PHONY: demo ui playground test test-fast test-all test-long test-ui lint format bench lock clean image image-pins deploy-check docs architectures

demo: $(VENV)/.installed ## Fine-tune the demo model for three epochs, score and compare them
	$(BIN)/dolly train --model demo --dataset demo --epochs 1-3
	@$(BIN)/dolly status
	@echo "Look at it in the Dagster UI: make ui"

ui: $(VENV)/.installed ## The Dagster UI on http://localhost:3000
	$(BIN)/dolly ui --port $(UI_PORT)

playground: $(VENV)/.installed-playground ## Chat with the models in the browser, on http://localhost:3002
	$(BIN)/dolly playground

PARALLEL := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: lint ## Lint, type checks, and all tests but further variants and those that need a browser
	$(BIN)/python -m pytest $(PARALLEL)

test-fast: $(VENV)/.installed-dev ## The tests that start no process, in less than a minute
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" --timeout 180

test-long: $(VENV)/.installed-dev ## Further variants of slow tests
	$(BIN)/python -m pytest $(PARALLEL) -m long

test-ui: $(VENV)/.installed-dev $(VENV)/.installed-playground ## The Dagster UI and the playground as users see them, in Chromium; pictures go to the folder DOLLY_UI_PICTURES
	$(BIN)/python -m pytest -m ui dolly_assets_tests/ui

architectures: $(VENV)/.installed-dev ## Every causal architecture of transformers, trained exactly or refused
	$(BIN)/python benchmarks/architectures.py --jobs 2 --markdown docs/architectures.md

test-all: test test-long test-ui architectures ## Everything

lint: $(VENV)/.installed-dev ## Style, types, and the code location as Dagster's own tools check it
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/dg check defs

format: $(VENV)/.installed-dev ## Bring the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev demo ## Every benchmark beside its baseline; S3 as the AWS_* variables say, bucket BUCKET
	$(BIN)/python benchmarks/sampler.py
	$(BIN)/python benchmarks/store_faults.py
	$(BIN)/python benchmarks/report.py
	$(BIN)/python benchmarks/plan.py --model demo --dataset demo
	$(BIN)/python benchmarks/quality.py
	$(BIN)/python benchmarks/tokenizing.py
	$(BIN)/python benchmarks/encoders.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/store.py --bucket $(BUCKET)

lock: $(VENV)/.installed-dev ## Resolve pyproject.toml into requirements/; LOCK=--upgrade takes the newest versions
	$(BIN)/python requirements/lock.py $(LOCK)

image: ## Build the images of orchestrator and worker with docker or podman; REGISTRY and CUDA_IMAGE as they are set
	@test -n "$(CONTAINER)" \
	  || (echo "Building images takes docker or podman, and neither is installed here. Try: make image CONTAINER=/path/to/one" && exit 1)
	@$(CONTAINER) info >/dev/null 2>&1 \
	  || (echo "$(CONTAINER) is installed, and does not answer ($(CONTAINER) info): is its daemon running?" && exit 1)
	DOCKER_BUILDKIT=1 $(CONTAINER) build --file deploy/docker/orchestrator.Dockerfile --tag $(REGISTRY)/orchestrator:$(VERSION) .
	DOCKER_BUILDKIT=1 $(CONTAINER) build --file deploy/docker/worker.Dockerfile $(if $(CUDA_IMAGE),--build-arg CUDA_IMAGE=$(CUDA_IMAGE)) \
	  --build-arg IMAGE_NAME=$(REGISTRY)/worker:$(VERSION) --tag $(REGISTRY)/worker:$(VERSION) .

image-pins: $(VENV)/.installed ## Ask the registries for the digest of every image in deploy/, and write it behind its tag
	$(BIN)/python -m deploy.pin

deploy-check: $(VENV)/.installed-dev ## Check everything under deploy/ without a cluster and without the network
	$(BIN)/python -m deploy.check

docs: $(VENV)/.installed-docs ## The documentation as a site with search, in build/docs/site; links are checked
	$(BIN)/python -m docs.build

clean: ## Remove the environment; the store in .dolly/ stays
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || (echo "Python 3.11 or newer is needed, found: $$($(PYTHON) --version). Try: make PYTHON=python3.11" && exit 1)
	$(PYTHON) -m venv $(VENV)

# Every file is checked against the hashes in requirements/, and nothing is resolved. Where pip finds torch's build for CPUs,
# on an index or in a folder that it is configured with, that is taken; else the default build, with CUDA's libraries.
INSTALL := $(BIN)/python -m pip install --progress-bar off --no-deps
LOCKED := $(INSTALL) --require-hashes

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml $(wildcard requirements/*.txt)
	$(LOCKED) --quiet -r requirements/torch-cpu.txt 2>/dev/null || $(LOCKED) -r requirements/torch.txt
	$(LOCKED) -r requirements/build.txt -r requirements/orchestrator.txt -r requirements/worker.txt
	$(INSTALL) --no-build-isolation -e .
	$(BIN)/python -m pip check
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(LOCKED) -r requirements/all.txt
	$(BIN)/python -m pip check
	@touch $@

$(VENV)/.installed-playground: $(VENV)/.installed
	$(LOCKED) -r requirements/playground.txt
	$(BIN)/python -m pip check
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed-dev
	$(LOCKED) -r requirements/docs.txt
	$(BIN)/python -m pip check
	@touch $@
