# Everything runs in .venv, which is made by the first target that needs it. A second run finds the
# stamp files and starts at once; a change of pyproject.toml or constraints.txt installs again.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
TORCH := $(shell grep '^torch==' constraints.txt)

# One thread per process: two test processes on two cores, and sums in one order.
RUN_TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --hypothesis-profile=ci
ELSEWHERE := servers or sweeps or frameworks or slow
# What the tests of `make test-all` start: a database, a fault injector, filesystems to shut down, a
# browser and what it writes with.
APT := postgresql strace xfsprogs e2fsprogs chromium fonts-dejavu-core

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: setup
setup: $(VENV)/.installed ## make .venv and install everything pinned in constraints.txt
	@:

$(VENV)/.created: .ci/make-venv
	@.ci/make-venv $(VENV) $(PYTHON)
	@touch $@

# torch comes first and alone: a range, resolved together with others, pulls gigabytes.
$(VENV)/.torch: $(VENV)/.created constraints.txt
	@echo "==> pip install $(TORCH)"
	@$(PIP) install -qq -c constraints.txt '$(TORCH)'
	@touch $@

# The build backend is installed, not fetched into isolation, because -c does not reach in there.
$(VENV)/.installed: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "==> pip install -e '.[dev]'"
	@$(PIP) install -qq -c constraints.txt hatchling editables
	@$(PIP) install -qq -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

# Without its cache: it keys on a file's time, and misses that a folder became a package.
.PHONY: check
check: setup ## style, types, layers
	@echo "==> ruff check"
	@$(BIN)/ruff check
	@echo "==> ruff format --check"
	@$(BIN)/ruff format --check
	@echo "==> mypy --strict src"
	@$(BIN)/mypy --strict src
	@echo "==> lint-imports"
	@$(BIN)/lint-imports --no-logo --no-cache

.PHONY: format
format: setup ## put the source into shape
	@echo "==> ruff check --fix, ruff format"
	@$(BIN)/ruff check --fix --quiet || true
	@$(BIN)/ruff format

.PHONY: test
test: setup ## unit and integration tests that need nothing but .venv
	@echo "==> pytest, without: $(ELSEWHERE)"
	@$(RUN_TESTS) --dist worksteal -m "not ($(ELSEWHERE))"

.PHONY: packages
packages:
	@.ci/apt-packages $(APT)

.PHONY: test-all
test-all: setup packages ## the other tests: servers, sweeps, frameworks, slow
	@echo "==> pytest, only: $(ELSEWHERE)"
	@$(RUN_TESTS) --dist worksteal --timeout=1800 -m "$(ELSEWHERE)"

# MUTANTS="--only storage/" tries some; `python -m tests.reliability.mutants --help` says more.
.PHONY: mutants
mutants: setup ## take each fsync, rename and check out in turn: a test must notice (hours)
	@echo "==> coverage run: which test runs which line"
	@mkdir -p build/mutants
	@OMP_NUM_THREADS=1 COVERAGE_FILE=build/mutants/coverage $(BIN)/python -m coverage run \
		--rcfile=tests/reliability/mutation/coveragerc -m pytest -q --tb=no \
		--hypothesis-profile=ci -m "not ($(ELSEWHERE))" --ignore=tests/bench || true
	@echo "==> python -m tests.reliability.mutants $(MUTANTS)"
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.reliability.mutants \
		--covering build/mutants/coverage --write docs/reliability.md $(MUTANTS)

.PHONY: demo
demo: setup ## train a small model, kill it, resume it
	@echo "==> examples/digits_vit/demo.py"
	@$(BIN)/python examples/digits_vit/demo.py

# What is measured besides, for this target alone.
$(VENV)/.bench: $(VENV)/.installed
	@echo "==> pip install -e '.[bench]'"
	@$(PIP) install -qq -c constraints.txt --no-build-isolation -e '.[bench]'
	@touch $@

# BENCH="--only durable --sizes 200MB" measures less; `python -m bench --help` lists what there is.
.PHONY: bench
bench: $(VENV)/.bench ## measure, side by side with other tools
	@echo "==> python -m bench $(BENCH)"
	@$(BIN)/python -m bench $(BENCH)

.PHONY: clean
clean: ## remove what was built, cached or shown; .venv stays (make clean-venv)
	@echo "==> removing caches and build results"
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build demo-checkpoints
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: clean-venv
clean-venv: ## remove .venv
	@echo "==> removing $(VENV)"
	@rm -rf $(VENV)
