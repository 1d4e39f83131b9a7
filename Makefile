# `make demo` and `make test` are all that a new machine with Python and make needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Tests start hundreds of processes; without bytecode on the disk, each compiles the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo reproduce mutants test unit check install format clean

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $(STAMP)

demo: install  ## run scenarios/quickstart.yaml under Flower's simulation engine and print the report
	$(BIN)/neulig-fl run scenarios/quickstart.yaml

reproduce: install  ## run the comparison scenarios (an hour) and write docs/results.md beside the paper's tables, and what other pages quote
	$(BIN)/python benchmarks/reproduce.py
	$(BIN)/python benchmarks/quotes.py

mutants: install  ## change the modules that decide, and see that a test notices (long; not in CI)
	$(BIN)/python benchmarks/mutants.py

check: install  ## formatting, lint, types, the laws of the house, doctests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_house.py
	$(BIN)/pytest --doctest-modules neulig_fl

unit: install  ## the tests that are not marked slow
	$(BIN)/pytest -m 'not slow'

test: check  ## everything that CI runs, a real run under the simulation engine included
	$(BIN)/pytest -n logical --maxprocesses 4 --dist loadfile --ignore tests/test_house.py  # which `check` ran

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
