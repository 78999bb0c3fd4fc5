# The two commands of the README. Each makes .venv, installs what it needs and runs.
#
#   make demo   what the package can check without a network
#   make test   lint, types, tests and documentation examples
#
# While working: make quick, which takes less than 30 s
#
# PYTHON=python3.12 make test   picks another interpreter

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
RUN := $(BIN)/python -m
# The tests that need neither images nor the network.
QUICK ?= tests/test_settings.py tests/store/test_files.py tests/store/test_locks.py \
	tests/loading/test_row_order.py \
	tests/confident_learning/test_label_errors.py cifar_noisy/loading cifar_noisy/settings.py

.PHONY: demo test quick lint types clean

demo: $(INSTALLED)
	$(BIN)/cifar-noisy demo

# The tests of a file run in one process, files beside each other.
test: lint types
	$(RUN) pytest --numprocesses logical --maxprocesses 4 --dist loadfile

quick: lint
	$(RUN) pytest -q $(QUICK)

lint: $(INSTALLED)
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(BIN)/lint-imports --no-cache

types: $(INSTALLED)
	$(RUN) mypy

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(RUN) pip install --upgrade "pip>=25.1"
	$(RUN) pip install --editable . --group dev
	touch $@

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
