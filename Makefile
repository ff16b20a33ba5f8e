# Every command that working on bothways needs. `make demo` and `make test` set up what they need by themselves.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.complete

.PHONY: demo test test-all test-slow test-real check fix bench setup clean help

help:                ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(SETUP)      ## make .venv from the pinned versions in constraints.txt

$(SETUP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bothways needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	touch $@

demo: $(SETUP)       ## train both directions on the demo's messages, prove the bundle, classify from the command line
	$(BIN)/python demo/demo.py

test: $(SETUP)       ## all tests that take less than five minutes together
	$(BIN)/python -m pytest -m "not slow and not real_data"

test-slow: $(SETUP)  ## the tests that take longer each
	$(BIN)/python -m pytest -m slow

test-real: $(SETUP)  ## train on real data sets; needs BOTHWAYS_DATA
	$(BIN)/python -m pytest -m real_data -s

test-all: $(SETUP)   ## every test
	$(BIN)/python -m pytest

check: $(SETUP)      ## ruff, mypy, docstrings, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/shape

fix: $(SETUP)        ## format and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(SETUP)      ## measure predicting
	$(BIN)/python benchmarks/predict_throughput.py

clean:               ## remove what the commands made
	rm -rf .venv dist build demo/out .mypy_cache .pytest_cache .ruff_cache .hypothesis
