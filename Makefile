# Two commands on a fresh machine: `make quickstart` and `make test`. Both set up their own environment.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
OUT    ?= outputs/quickstart
export PIP_CONSTRAINT = $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help quickstart test test-all lesson export readme site clean

help:            ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/  /'

$(VENV)/user: setup.py settings.ini constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Python {v.major}.{v.minor} is too old: 3.11 or newer is needed (make PYTHON=python3.12 ...)")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q torch
	$(BIN)/python -m pip install -q -e '.[eval]'
	touch $@

$(VENV)/dev: $(VENV)/user
	$(BIN)/python -m pip install -q -e '.[dev]'
	touch $@

quickstart: $(VENV)/user  ## train on docstrings, compare with BM25, search: about five minutes on two cores
	$(BIN)/text-embedding train --quick-start --overwrite --output-dir $(OUT)

test: $(VENV)/dev  ## lessons, package, command line, README, site in a browser, wheel
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n 2 --dist worksteal

test-all: $(VENV)/dev  ## the same, and ipywidgets 8 beside 7 for every lesson, every page looked at closely: about three times as long
	TEST_ALL=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n 2 --dist worksteal

lesson: $(VENV)/dev  ## run one lesson and store its outputs: make lesson NB=03_norm
	$(BIN)/python .ci/nb.py run $(NB)

export: $(VENV)/dev  ## notebooks -> package, README
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean
	$(BIN)/python .ci/api.py
	$(BIN)/python .ci/readme.py

site: $(VENV)/dev  ## build the pages into _docs
	$(BIN)/python .ci/site.py

clean:           ## remove what was built
	rm -rf _docs _proc _site_src build dist *.egg-info
