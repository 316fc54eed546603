# Every verb prepares what it needs first. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHOP ?= shop
UV := $(shell command -v uv 2>/dev/null || echo .bootstrap/bin/uv)
STAMP := $(VENV)/.installed

export SEGMENT DRY_RUN GOAL DISCOUNT_CAP SUPPRESS_HOURS

.PHONY: help setup lock demo test test-all check bench soak audit seed build docs serve-docs activate airflow clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.bootstrap/bin/uv:
	@$(PYTHON) -m venv .bootstrap || { echo "Python's venv module is missing: on Debian, apt-get install python3-venv"; exit 1; }
	@.bootstrap/bin/pip install --quiet uv

$(STAMP): requirements/dev.txt pyproject.toml | $(filter .bootstrap/bin/uv,$(UV))
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	@$(UV) pip sync --quiet --require-hashes --python $(BIN)/python requirements/dev.txt
	@$(UV) pip install --quiet --no-deps --python $(BIN)/python -e .
	@touch $@

setup: $(STAMP) ## everything into .venv

lock: | $(filter .bootstrap/bin/uv,$(UV)) ## write requirements/*.txt again from pyproject.toml
	@$(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make lock" pyproject.toml -o requirements/core.txt
	@$(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make lock" pyproject.toml --group dev -o requirements/dev.txt

check: setup ## lint, types, import contract, unused dependencies
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/pyrefly check --summary=none
	@$(BIN)/lint-imports
	@$(BIN)/deptry --no-ansi src
