# Everything a checkout needs: `make run` to see it, `make test` to check it. Both install what is missing first.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TESTS ?=
# Most tests wait for other programs, so more of them than there are processors run at a time.
WORKERS ?= 4
# How often `make bench` measures each server under each workload; one round takes some 45 minutes.
ROUNDS ?= 5

.PHONY: run test check bench install clients clean

# On a terminal the gateway gets a job of its own, so that Ctrl-C ends it and not make: exit code 0.
run: $(VENV)/.run
	@if [ -t 0 ]; then set -m; fi; $(BIN)/tidegate run --demo; exit $$?

test: $(VENV)/.test
	@scripts/system-packages
	@$(MAKE) --no-print-directory clients
	@$(MAKE) --no-print-directory check
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal $(TESTS)
	node --test clients/js/tests/*.test.js

check: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/.test
	@scripts/system-packages
	@command -v slowhttptest >/dev/null || scripts/system-packages slowhttptest
	$(BIN)/python -m benchmarks.routing
	$(BIN)/python -m benchmarks.fanout
	$(BIN)/python -m benchmarks.stalled
	$(BIN)/python -m benchmarks.sampling
	$(BIN)/python -m benchmarks.attack
	@scripts/bench-peers
	$(BIN)/python -m benchmarks.compare --rounds $(ROUNDS) --output artifacts
	$(BIN)/python -m benchmarks.cluster --rounds $(ROUNDS) --output artifacts
	$(BIN)/python -m benchmarks.scale_model --costs artifacts/cluster.json

install: $(VENV)/.run

clients: tests/clients/node_modules/.installed

tests/clients/node_modules/.installed: tests/clients/package.json
	@echo "installing clients from npm into tests/clients"
	@cd tests/clients && npm install --silent --no-audit --no-fund --no-package-lock
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || scripts/system-packages python3-venv
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --upgrade 'pip>=25.1'

$(VENV)/.run: pyproject.toml | $(BIN)/python
	@echo "installing tidegate into $(VENV)"
	@$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.run
	@echo "installing what the tests need into $(VENV)"
	@$(BIN)/pip install --quiet --editable . --group dev
	@touch $@

clean:
	rm -rf $(VENV) tests/clients/node_modules artifacts dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
