# Every command that working on bothways needs. `make demo` and `make test` set up what they need by themselves.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.complete
unexport PYTHONDONTWRITEBYTECODE  # the tests start hundreds of processes, which would all compile everything

.PHONY: demo test test-all test-slow test-server test-soak test-real test-oracle oracle parity check fix bench bench-accuracy bench-speed bench-serve bench-special-tokens
.PHONY: setup clean help

help:                ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(SETUP)      ## make .venv from the pinned versions in constraints.txt

$(SETUP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bothways needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,spacy,serve,dev]'
	touch $@

demo: $(SETUP)       ## train both directions on the demo's messages, prove the bundle, classify from the command line
	$(BIN)/python demo/demo.py

test: $(SETUP)       ## the fast tests (on all cores; three and a half minutes on two with AVX-512)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow and not real_data and not oracle and not server and not soak"

test-slow: $(SETUP)  ## the tests that take longer each
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow

test-real: $(SETUP)  ## train on real data sets; needs BOTHWAYS_DATA
	$(BIN)/python -m pytest -m real_data -s

oracle: .oracle/.fixtures  ## the real fastai 1 and 2 in .oracle, and small models made with them (about six minutes)

.oracle/.environment: oracle/setup.sh oracle/constraints.txt
	PYTHON=$(PYTHON) bash oracle/setup.sh .oracle
	touch $@

.oracle/.fixtures: .oracle/.environment demo/messages.csv tests/parity/nasty_texts.py \
		$(addprefix oracle/,fastai1.py fixture_texts.py fixtures1.py fixtures2.py make_fixtures.py)
	.oracle/bin/python oracle/make_fixtures.py --out .oracle/fixtures
	touch $@

test-oracle: $(SETUP) oracle  ## imported models against the real fastai that made them
	$(BIN)/python -m pytest -n auto --dist worksteal -m oracle

.clients/.complete: clients/constraints.txt
	$(PYTHON) -m venv .clients
	.clients/bin/pip install --quiet --disable-pip-version-check -r clients/constraints.txt
	touch $@

test-server: $(SETUP) .clients/.complete  ## the server under load, asked by real clients, installed as deployed
	$(BIN)/python -m pytest -s -m server

test-soak: $(SETUP)  ## two hundred thousand requests, some of them hostile (ten minutes)
	$(BIN)/python -m pytest -s -m soak

parity: $(SETUP) .oracle/.environment  ## train with the real fastai on real texts, import, compare 1,000 predictions
	$(BIN)/python oracle/parity.py

test-all: test test-slow test-server test-soak test-real test-oracle  ## every test

check: $(SETUP)      ## ruff, mypy, docstrings, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/architecture

fix: $(SETUP)        ## format and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo/out/messages.bundle: | $(SETUP)
	$(BIN)/python demo/demo.py

bench: demo/out/messages.bundle  ## how fast the demo's bundle predicts here
	$(BIN)/bothways bench demo/out/messages.bundle demo/held_out.csv

build/fasttext/.complete: benchmarks/accuracy/fasttext.txt
	$(PYTHON) -m venv build/fasttext
	build/fasttext/bin/pip install --quiet --disable-pip-version-check -r benchmarks/accuracy/fasttext.txt
	touch $@

bench-accuracy: $(SETUP) .oracle/.environment build/fasttext/.complete  ## errors on real data sets beside the peers (hours); needs BOTHWAYS_DATA
	$(BIN)/python -m benchmarks.accuracy run --pretrained en-small --methods tfidf,fasttext,bothways,bothways-scratch
	$(BIN)/python -m benchmarks.accuracy run --pretrained en-small --methods bothways,tfidf,fasttext --sets imdb-100,sms --seeds 3,4
	$(BIN)/python -m benchmarks.accuracy run --pretrained en-small --methods fastai --sets trec6,imdb-500
	$(BIN)/python -m benchmarks.accuracy report

bench-speed: $(SETUP) .oracle/.environment  ## how fast it predicts beside fastai and torch (an hour or two); needs BOTHWAYS_DATA
	$(BIN)/python -m benchmarks.speed run --size base
	$(BIN)/python -m benchmarks.speed run --size small
	$(BIN)/python -m benchmarks.speed report

bench-serve: $(SETUP) .oracle/.environment  ## how fast a server answers beside fastai behind FastAPI (ten minutes); needs BOTHWAYS_DATA
	$(BIN)/python -m benchmarks.serve run --size base
	$(BIN)/python -m benchmarks.serve report

bench-special-tokens: $(SETUP)  ## markers in backward reading: as written, or in reading order (hours); needs BOTHWAYS_DATA
	$(BIN)/python -m benchmarks.special_tokens run
	$(BIN)/python -m benchmarks.special_tokens run --starts pack --sets trec6
	$(BIN)/python -m benchmarks.special_tokens report

clean:               ## remove what the commands made
	rm -rf .venv .oracle .clients dist build demo/out .mypy_cache .pytest_cache .ruff_cache .hypothesis
