# make demo   a result: installs into .venv, runs the comparison, names its report
# make test   the whole test suite
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: demo test lint bench-quick clean

demo: $(VENV)/.demo
	$(BIN)/recon compare --out results

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench-quick: $(VENV)/.test
	for script in benchmarks/*.py; do \
	  [ $$script = benchmarks/readme.py ] || { echo "== $$script"; $(BIN)/python $$script --quick || exit 1; }; \
	done

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "hybrid-recon needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "no venv: on Debian, apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: $(VENV)/bin/pip pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[report]'
	@touch $@

$(VENV)/.test: $(VENV)/bin/pip pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[all,test]'
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) results .pytest_cache .mypy_cache .ruff_cache
