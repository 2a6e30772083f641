# The single entry point. `make` lists the words.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCH_INSTALLED := $(VENV)/.bench-installed

# Pinned here because it writes the pins of everything else.
LOCK_TOOL := uv==0.13.9
LOCK_VENV := build/lock-venv
LOWEST_VENV := build/lowest-venv
LOCK := UV_NO_CONFIG=1 $(LOCK_VENV)/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet

SEED ?= 7
SEEDS ?= 5000
# How long `make soak` may take; SOAK_DOCS=1 writes its result into docs/testing.md.
SOAK_MINUTES ?= 60
SOAK_DOCS ?=
TESTS ?= tests
# xdist workers of the parallel half of `make test`.
WORKERS ?= 2

.PHONY: help install demo test test-lowest check format bench bench-peers sim sim-many soak scenarios laws sync lock docs clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## .venv with hash-pinned tools and this package in it

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $(PYTHON) is not Python 3.11 or later; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: $(PYTHON) cannot make a virtual environment: ensurepip is missing." >&2; \
		echo "make: on Debian or Ubuntu: apt-get install python3-venv, then again: make $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): requirements/dev.txt requirements/build.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt -r requirements/build.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation -e .
	@touch $@

$(BENCH_INSTALLED): requirements/bench.txt | $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

demo: install ## three nodes, a real data set, the leader killed, nothing lost
	$(BIN)/aegis demo --check

test: install ## all tests: in parallel, then those with real processes one by one; TESTS=tests/paper for a part
ifneq ($(TESTS),tests/process)
	$(BIN)/pytest $(TESTS) --ignore=tests/process -n $(WORKERS) --dist worksteal
endif
ifneq ($(filter tests tests/process,$(TESTS)),)
	$(if $(wildcard tests/process/test_*.py),$(BIN)/pytest tests/process)
endif

test-lowest: $(LOCK_VENV)/bin/uv ## the tests on the oldest versions that pyproject.toml admits
	$(BIN)/python -m venv --clear $(LOWEST_VENV)
	$(LOCK_VENV)/bin/uv pip install --quiet --python $(LOWEST_VENV)/bin/python --resolution lowest-direct \
		--group build -r pyproject.toml --extra cli --extra fast --extra http --extra test
	$(LOWEST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation -e .
	$(LOWEST_VENV)/bin/pytest $(TESTS) --ignore=tests/process -n $(WORKERS) --dist worksteal

check: install ## lint, format, types, floors, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell

format: install ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## three durable nodes on this disk under load
	$(BIN)/aegis bench kv --local 3 --clients 64 --value-bytes 256 --seconds 10

bench-peers: $(BENCH_INSTALLED) ## add the packages that benchmarks/ compares with to .venv

sim: install ## one simulated run, e.g. make sim SEED=7
	$(BIN)/aegis simulate --seed $(SEED)

sim-many: install ## many simulated runs, e.g. make sim-many SEEDS=500
	$(BIN)/aegis simulate --seeds $(SEEDS)

soak: install ## histories, kill loops and pause loops on real processes, at most SOAK_MINUTES=60
	$(BIN)/python tools/soak.py --minutes $(SOAK_MINUTES) $(if $(SOAK_DOCS),--write-docs)

scenarios: install ## rewrite the expected halves of tests/scenarios; review the diff
	$(BIN)/pytest tests/scenarios --rewrite

laws: install ## the property tests alone, with 10,000 examples for each law and type
	$(BIN)/pytest tests/laws --hypothesis-profile=laws --timeout 3600 -n $(WORKERS) --dist worksteal

sync: install ## write the blocking API, src/aegis_replication/sync/, from the async one
	$(BIN)/python tools/make_sync.py

lock: $(LOCK_VENV)/bin/uv ## resolve requirements/*.txt anew, with hashes (LOCK_ARGS=--upgrade for newer versions)
	$(LOCK) $(LOCK_ARGS) pyproject.toml --extra cli --extra fast --extra http --extra test --group dev -o requirements/dev.txt
	$(LOCK) $(LOCK_ARGS) --group build -c requirements/dev.txt -o requirements/build.txt
	$(LOCK) $(LOCK_ARGS) --group bench -c requirements/dev.txt -o requirements/bench.txt

$(LOCK_VENV)/bin/uv: | $(BIN)/python
	$(BIN)/python -m venv $(LOCK_VENV)
	$(LOCK_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(LOCK_TOOL)

docs: install ## run every Python block of README.md and docs/
	$(BIN)/pytest tests/house/test_documents.py

clean: ## remove .venv and everything built or cached
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .demo
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
