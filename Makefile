# Every verb prepares what it needs first. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHOP ?= shop
UV := $(shell command -v uv 2>/dev/null || echo .bootstrap/bin/uv)
STAMP := $(VENV)/.installed
AIRFLOW := .venv-airflow
TARGETS := .venv-targets
FLINK := .venv-flink
PEERS := .venv-peers
unexport PYTHONDONTWRITEBYTECODE # containers often set it; then each command compiles everything that it imports anew

.PHONY: help setup lock kafka flink peers demo test test-all check bench soak audit feed seed build docs serve-docs activate airflow clean chromium node

help: ## this list
	@grep -hE '^[a-z -]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

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
	@$(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make lock" requirements/airflow.in -o requirements/airflow.txt
	@$(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make lock" requirements/targets.in -o requirements/targets.txt
	@$(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make lock" requirements/flink.in -o requirements/flink.txt
	@$(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make lock" requirements/peers.in -o requirements/peers.txt

check: setup ## lint, types, import contract, unused dependencies
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/pyrefly check --summary=none
	@$(BIN)/lint-imports
	@$(BIN)/deptry --no-ansi src

PROJECT = $(SHOP)
HEADWATER = $(BIN)/headwater

demo: setup ## a synthetic shop through the whole loop, into shop/
	@$(HEADWATER) demo $(SHOP)

feed: setup ## a real Postgres with an online retailer in it, an order a second and changes beside it; Ctrl-C ends it
	@$(HEADWATER) feed --folder .feed

$(SHOP)/headwater.yml: | setup
	@$(HEADWATER) demo $(SHOP)

seed build docs serve-docs: $(SHOP)/headwater.yml ## the verbs of the demo project
	@$(HEADWATER) $@ --project $(SHOP)

activate: $(SHOP)/headwater.yml ## decide, plan, deliver: SEGMENT= DRY_RUN= GOAL= DISCOUNT_CAP= SUPPRESS_HOURS=
	@$(HEADWATER) activate --project $(SHOP)

test: setup $(SHOP)/headwater.yml ## data-quality tests of the demo project, and every test that needs Python alone
	@$(HEADWATER) test --project $(SHOP)
	@$(BIN)/pytest -q -n 2 --dist loadfile -m "not browser and not kafka and not cdc and not flink and not airflow and not targets and not long and not crash and not slow"

test-all: setup chromium node kafka flink $(AIRFLOW)/.installed $(TARGETS)/.installed ## also the tests in a browser, under Airflow and for other warehouses; installs what they need
	@$(BIN)/pytest -q -n 2 --dist loadfile -m "browser or kafka or cdc or flink or airflow or targets or long or crash"

bench: setup ## speed against its bounds, as a table: ONLY=row, FULL=1 for the large rows
	@UV="$(UV)" $(BIN)/python -m benchmarks

soak: setup ## the tests with large budgets: kills at random moments, long property runs, an hour of steady events (HEADWATER_SOAK_SECONDS)
	@$(BIN)/pytest -q -m slow

audit: | $(filter .bootstrap/bin/uv,$(UV)) ## known vulnerabilities of what is installed (asks the advisory service)
	@$(UV) tool run pip-audit --strict --require-hashes --disable-pip -r requirements/core.txt

kafka: .kafka/.fetched ## the jars of a real Apache Kafka, for tests and to try things; needs Java and Maven (Debian's packages)

.kafka/.fetched: requirements/kafka.xml
	@command -v mvn >/dev/null && command -v java >/dev/null || { test "$$(id -u)" = 0 || { echo "Java and Maven are missing: sudo apt-get install default-jre-headless maven"; exit 1; }; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends default-jre-headless maven; }
	@mvn -q -B -f requirements/kafka.xml dependency:copy-dependencies -DoutputDirectory="$(CURDIR)/.kafka"
	@touch $@

flink: .flink/.fetched $(FLINK)/.installed ## a local Flink with its Kafka connector, in an environment of its own; needs Java and Maven

.flink/.fetched: requirements/flink.xml | .kafka/.fetched
	@mvn -q -B -f requirements/flink.xml dependency:copy-dependencies -DoutputDirectory="$(CURDIR)/.flink"
	@touch $@

$(FLINK)/.installed: requirements/flink.txt | $(filter .bootstrap/bin/uv,$(UV))
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) $(FLINK)
	@$(UV) pip sync --quiet --require-hashes --python $(FLINK)/bin/python requirements/flink.txt
	@touch $@

peers: flink $(PEERS)/.installed ## what the benchmark "side by side" compares with, in environments of their own: a gigabyte

$(PEERS)/.installed: requirements/peers.txt | $(filter .bootstrap/bin/uv,$(UV))
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) $(PEERS)
	@$(UV) pip sync --quiet --require-hashes --python $(PEERS)/bin/python requirements/peers.txt
	@touch $@

chromium:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 || { echo "Chromium is missing: sudo apt-get install chromium"; exit 1; }; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; }

node:
	@{ command -v node && command -v npm; } >/dev/null || { test "$$(id -u)" = 0 || { echo "Node is missing: sudo apt-get install nodejs npm"; exit 1; }; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm; }

$(AIRFLOW)/.installed: requirements/airflow.txt | $(filter .bootstrap/bin/uv,$(UV))
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) $(AIRFLOW)
	@$(UV) pip sync --quiet --require-hashes --python $(AIRFLOW)/bin/python requirements/airflow.txt
	@touch $@

$(TARGETS)/.installed: requirements/targets.txt | $(filter .bootstrap/bin/uv,$(UV))
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) $(TARGETS)
	@$(UV) pip sync --quiet --require-hashes --python $(TARGETS)/bin/python requirements/targets.txt
	@touch $@

airflow: setup $(AIRFLOW)/.installed $(SHOP)/headwater.yml ## the Airflow pipeline once, on the demo project (a dry run)
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && \
		export AIRFLOW_HOME=$$home AIRFLOW__CORE__DAGS_FOLDER=$(CURDIR)/orchestration AIRFLOW__CORE__LOAD_EXAMPLES=False \
			HEADWATER_PROJECT=$(abspath $(SHOP)) HEADWATER_BIN=$(CURDIR)/$(BIN)/headwater && \
		$(AIRFLOW)/bin/airflow db migrate >/dev/null 2>&1 && \
		$(AIRFLOW)/bin/airflow dags test customer_activation_pipeline
