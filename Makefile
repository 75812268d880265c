PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
TORCH ?= pinned
CLUSTER ?= local
ARGS ?=
LAUNCH = $(RUN) -m launch
ASKED = $(if $(BUDGET),budget=$(BUDGET)) $(if $(PROTOCOL),protocol=$(PROTOCOL)) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-slurm lint format data status bench

help:  ## show this list
	@grep -E '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

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

test-slurm: setup  ## the tests on a SLURM cluster that this starts and stops (as root, in a container)
	SPARSE_RNN_SLURM_TEST=$${SPARSE_RNN_SLURM_TEST:-1} OMP_NUM_THREADS=1 \
	  $(RUN) -m pytest -m slurm --timeout 900 tests/cluster $(ARGS)

lint: setup  ## ruff and mypy
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: setup  ## let ruff format and fix
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

data: setup  ## fetch the data sets ahead (for machines whose compute nodes have no network)
	$(RUN) -m sparse_rnn.data $(ARGS)

plan-%: setup  ## every run of a table and what it needs, as in plan-table2 (BUDGET, PROTOCOL, ARGS; plan-all)
	$(LAUNCH) plan $(subst -,_,$*) $(ASKED)

launch-%: setup  ## send the missing runs of a table, as in launch-table2 (also CLUSTER=slurm)
	$(LAUNCH) submit $(subst -,_,$*) cluster=$(CLUSTER) $(ASKED)

status: setup  ## what was sent: watch it until nothing waits or works any more
	$(LAUNCH) status --watch

bench: setup  ## measure the ratios of docs/performance.md (some of them: ARGS=launching)
	$(RUN) -m benchmarks $(ARGS)
