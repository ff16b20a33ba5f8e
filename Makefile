# Commands for working on bothways. Each one first sets up the environments that it needs. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.complete
unexport PYTHONDONTWRITEBYTECODE  # the tests start hundreds of processes, each of which would compile all modules

.PHONY: demo test test-all test-slow test-engines test-mlflow test-teachers test-server test-javascript test-soak test-fuzz test-real test-oracle oracle oracle-all parity check fix bench bench-accuracy bench-speed bench-serve bench-special-tokens
.PHONY: setup clean help

help:                ## list all commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(SETUP)      ## create .venv with the versions pinned in constraints.txt

$(SETUP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bothways needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,spacy,serve,dev]'
	touch $@

demo: $(SETUP)       ## train on the demo's messages, verify the bundle, classify new texts
	$(BIN)/python demo/demo.py

test: $(SETUP)       ## run the fast tests on all cores (5 minutes on two cores with AVX-512)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow and not real_data and not oracle and not server and not soak and not teachers and not engines and not mlflow and not javascript"

test-slow: $(SETUP)  ## run the slow tests
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow

test-teachers: $(SETUP) build/encoders/.complete  ## learn from the sentence encoders of docs/teachers.md
	$(BIN)/python -m pytest -m teachers

test-engines: $(SETUP) build/engines/.complete  ## score with real Spark, Ray, Daft and Dask (needs Java 17 or newer)
	$(BIN)/python -m pytest -m engines

build/mlflow/.complete: tests/engines/mlflow.txt
	$(PYTHON) -m venv build/mlflow
	build/mlflow/bin/pip install --quiet --disable-pip-version-check -r tests/engines/mlflow.txt
	touch $@

test-mlflow: $(SETUP) build/mlflow/.complete  ## serve a bundle with the real MLflow and Spark; needs Java 17
	$(BIN)/python -m pytest -m mlflow

test-real: $(SETUP)  ## run the tests that train on real data sets; needs BOTHWAYS_DATA
	$(BIN)/python -m pytest -m real_data -s

oracle: .oracle/.fixtures  ## install fastai 1 and 2 in .oracle and train small models with them (6 minutes)

.oracle/.environment: oracle/setup.sh oracle/constraints.txt
	PYTHON=$(PYTHON) bash oracle/setup.sh .oracle
	touch $@

.oracle/.fixtures: .oracle/.environment demo/messages.csv tests/parity/nasty_texts.py \
		$(addprefix oracle/,fastai1.py fixture_texts.py fixtures1.py fixtures2.py make_fixtures.py)
	.oracle/bin/python oracle/make_fixtures.py --out .oracle/fixtures
	touch $@

test-oracle: $(SETUP) oracle  ## compare imported models with the fastai versions that trained them
	$(BIN)/python -m pytest -n auto --dist worksteal -m oracle

.oracle/.generated: .oracle/.environment demo/messages.csv oracle/generate.py oracle/fastai1.py $(wildcard oracle/generator/*.py)
	.oracle/bin/python oracle/generate.py --out .oracle/generated
	touch $@

oracle-all: $(SETUP) .oracle/.generated  ## make 800 learners of many kinds with the real fastai, import and compare all (40 minutes)
	$(BIN)/python oracle/compare_imports.py .oracle/generated --quiet

.clients/.complete: clients/constraints.txt
	$(PYTHON) -m venv .clients
	.clients/bin/pip install --quiet --disable-pip-version-check -r clients/constraints.txt
	touch $@

.clients/.axe: .clients/.complete clients/package.json clients/package-lock.json
	cp clients/package.json clients/package-lock.json .clients
	if command -v npm > /dev/null; then npm ci --prefix .clients --ignore-scripts --no-audit --no-fund && touch $@; \
	else echo "npm is not installed: the accessibility tests of the page are skipped"; fi

test-server: $(SETUP) .clients/.complete .clients/.axe  ## test the server under load, with official clients and as deployed
	$(BIN)/python -m pytest -s -m server

javascript/node_modules/.complete: javascript/package.json javascript/package-lock.json
	if command -v npm > /dev/null; then npm ci --prefix javascript --ignore-scripts --no-audit --no-fund && touch $@; \
	else echo "npm is not installed: the tests of bothways.js with ONNX Runtime are skipped"; fi

test-javascript: $(SETUP) javascript/node_modules/.complete .clients/.axe  ## test bothways.js in Node and in Chromium (needs Node 20, npm)
	$(BIN)/python -m pytest -m javascript

test-soak: $(SETUP)  ## send the server 200,000 requests, some of them hostile (10 minutes)
	$(BIN)/python -m pytest -s -m soak

test-fuzz: $(SETUP)  ## fuzz readers with fewer than 1,000,000 cases, or all, FUZZ_SECONDS (20) each (up to 20 minutes)
	$(BIN)/python -m tests.fuzz

parity: $(SETUP) .oracle/.environment  ## train with fastai on real texts, import the models, compare 1,000 predictions
	$(BIN)/python oracle/parity.py

test-all: test test-slow test-teachers test-engines test-mlflow test-server test-javascript test-soak test-real test-oracle  ## run all tests

check: $(SETUP)      ## check style, types, docstrings and imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers auto
	$(BIN)/python -m pytest -q -n auto --dist worksteal tests/architecture

fix: $(SETUP)        ## format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo/out/messages.bundle: | $(SETUP)
	$(BIN)/python demo/demo.py

bench: demo/out/messages.bundle  ## measure speed and memory of the demo's bundle
	$(BIN)/bothways bench demo/out/messages.bundle demo/held_out.csv

build/fasttext/.complete: benchmarks/accuracy/fasttext.txt
	$(PYTHON) -m venv build/fasttext
	build/fasttext/bin/pip install --quiet --disable-pip-version-check -r benchmarks/accuracy/fasttext.txt
	touch $@

build/encoders/.complete: benchmarks/accuracy/encoders.txt
	$(PYTHON) -m venv build/encoders
	build/encoders/bin/pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/accuracy/encoders.txt
	touch $@

build/engines/.complete: tests/engines/requirements.txt
	$(PYTHON) -m venv build/engines
	build/engines/bin/pip install --quiet --disable-pip-version-check --no-deps -r tests/engines/requirements.txt
	touch $@

bench-accuracy: $(SETUP) .oracle/.environment build/fasttext/.complete build/encoders/.complete  ## compare accuracy with other classifiers on real data sets (hours); needs BOTHWAYS_DATA
	$(BIN)/python -m benchmarks.accuracy run --pretrained en-small --methods tfidf,fasttext,bothways,bothways-scratch
	$(BIN)/python -m benchmarks.accuracy run --pretrained en-small --methods bothways,tfidf,fasttext --sets imdb-100,sms --seeds 3,4
	$(BIN)/python -m benchmarks.accuracy run --methods use-m3,minilm --sets trec6,trec50,sms,demo,clinc150,germeval2018,waimai
	$(BIN)/python -m benchmarks.accuracy run --methods tfidf,use-m3,minilm --sets '*-per-class' --seeds 0,1,2,3,4
	$(BIN)/python -m benchmarks.accuracy run --pretrained en-small --methods fastai --sets trec6,imdb-500
	$(BIN)/python -m benchmarks.accuracy report

bench-speed: $(SETUP) .oracle/.environment  ## compare prediction speed with fastai and PyTorch (1 to 2 hours); needs BOTHWAYS_DATA
	$(BIN)/python -m benchmarks.speed run --size base
	$(BIN)/python -m benchmarks.speed run --size small
	$(BIN)/python -m benchmarks.speed report

bench-serve: $(SETUP) .oracle/.environment  ## compare the server with fastai behind FastAPI (10 minutes); needs BOTHWAYS_DATA
	$(BIN)/python -m benchmarks.serve run --size base
	$(BIN)/python -m benchmarks.serve report

bench-special-tokens: $(SETUP)  ## compare placements of special tokens in backward reading (hours); needs BOTHWAYS_DATA
	$(BIN)/python -m benchmarks.special_tokens run
	$(BIN)/python -m benchmarks.special_tokens run --starts pack --sets trec6
	$(BIN)/python -m benchmarks.special_tokens report

clean:               ## remove everything that these commands created
	rm -rf .venv .oracle .clients javascript/node_modules dist build demo/out .mypy_cache .pytest_cache .ruff_cache .hypothesis
