PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
TORCH ?= pinned
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint format data bench

help:  ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(VENV)/.installed-$(TORCH)  ## install into .venv (TORCH=system keeps the torch that is already there)

$(VENV)/.installed-$(TORCH): pyproject.toml constraints.txt
	@if ls $(VENV)/.installed-* > /dev/null 2>&1 && [ ! -e $@ ]; then rm -rf $(VENV); fi  # the other torch
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or later is needed; give one with PYTHON=/path/to/python3." >&2; exit 1; }
	$(PYTHON) -m venv $(if $(filter system,$(TORCH)),--system-site-packages) $(VENV)
	grep -v '^$(if $(filter system,$(TORCH)),torch,none)==' constraints.txt > $(VENV)/constraints.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt -e '.[dev,notebooks]'
	@touch $@

demo: setup  ## train on the embedded corpus for about two minutes and show what came out
	$(RUN) -m sparse_rnn.demo

test: setup  ## the tests
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist worksteal -m "not full" $(ARGS)

test-all: setup  ## the tests, with every model x method x optimizer
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist worksteal $(ARGS)

lint: setup  ## ruff and mypy
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: setup  ## let ruff format and fix
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

data: setup  ## fetch the data sets ahead (for machines whose compute nodes have no network)
	$(RUN) -m sparse_rnn.data $(ARGS)

bench: setup  ## measure the ratios of docs/performance.md
	$(RUN) -m benchmarks
