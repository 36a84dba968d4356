# make demo: the whole pipeline on phantom volumes.  make test: the tests.  Both make the
# environment first, from the pins of constraints.txt, and work in either order, any number of times.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One thread a test worker: torch's threads spin, and two workers with two threads each are slower than one.
TEST_ENV := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 MPLBACKEND=Agg
DEMO ?= demo

.PHONY: env demo test test-browser lint format docs clean

env: $(READY)

$(READY): setup.cfg constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "synthlabel needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(READY)

demo: $(READY)
	$(BIN)/synthlabel demo --outdir $(DEMO)

test: $(READY)
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist loadfile

# The web page in Debian's Chromium (apt-get install chromium); skipped with a reason where there is none.
test-browser: $(READY)
	$(TEST_ENV) $(BIN)/python -m pytest -m browser -rs tests/scripts/app

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)
	$(BIN)/python -m scripts.help_pages

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
