PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
TORCH ?= $(if $(wildcard .venv/.*-system),system,pinned)
OTHER_TORCH = $(if $(filter system,$(TORCH)),pinned,system)
COMMA := ,
CLUSTER ?= local
ARGS ?=
ENTRY ?=
LAUNCH = $(RUN) -m launch
RESULTS = $(RUN) -m results
TABLES := $(foreach n,1 2 3 4 5 6 7 8 9 10,table$(n)) $(foreach n,1 2 3 4 5 6 7,st-table$(n))
FIGURES := $(foreach n,1 2 3 4 5 6 7 8 9 10,figure$(n)) st-figure2 st-figure3
DECLARED := table1 table4 table10 st-table1 figure1 figure2
ON_BOTH = tests/training tests/sparsity tests/optim tests/results/test_distance.py \
  tests/results/test_figures_of_weights.py::test_gates_of_a_trained_run \
  tests/test_commands.py::test_describe_agrees_with_what_a_run_records \
  tests/test_commands.py::test_evaluate_repeats_the_recorded_result_from_any_folder \
  tests/config/test_recipes.py::test_rigl_s_own_schedule_at_work \
  tests/config/test_recipes.py::test_st_rnn_with_and_without_reallocation_across_layers \
  tests/inference/test_export.py tests/inference/test_export_of_runs.py tests/inference/test_generate.py
QUICK = not full and not documented and not processes
# Locks, terminals, surroundings and data are the same whatever computes.
NOT_ON_BOTH = $(patsubst %,--ignore=tests/training/test_%.py,two_hosts run_lock lost_lock narrow_bar terminal \
  changed_data surroundings_of_runs multirun)
# No new name reaches these: numbers of kernels, layers and optimizers; how single runs of the paper's models are saved,
# resumed, locked, stopped and sent. (test_worked_examples.py and test_notebooks.py make copies of their own.)
UNCHANGED = tests/backends tests/official_code tests/optim tests/models tests/damaged tests/training tests/launch \
  tests/own_code tests/packaging tests/diagnosis tests/test_doctor.py tests/test_wheel.py tests/test_notebooks.py \
  tests/test_worked_examples.py
SIZE = $(if $(BUDGET),/$(BUDGET))$(if $(PROTOCOL),/$(PROTOCOL))
ASKED = $(if $(BUDGET),budget=$(BUDGET)) $(if $(PROTOCOL),protocol=$(PROTOCOL)) $(ARGS)
READ = $(ASKED) $(if $(SOURCE),--source $(SOURCE))

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-backend test-processes test-documented test-additions test-cuda test-slurm test-browser \
  docs tutorials test-latex test-loggers test-portability lint lock format data kernels status bench record gpu tables \
  figures site evidence notebooks $(TABLES) \
  $(FIGURES)

help:  ## show this list
	@grep -E '^#?[a-zN%-]+:.*## ' $(MAKEFILE_LIST) | tr -d '#' | awk -F ':.*  ' '{printf "  make %-17s%s\n", $$1, $$2}'

setup: $(VENV)/.installed-$(TORCH)  ## install into .venv (TORCH=system keeps the torch that is already there)

# $(1): extras. A virtual environment for the other torch is removed first.
define install
	@if ls $(VENV)/.*-$(OTHER_TORCH) > /dev/null 2>&1; then rm -rf $(VENV); fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or later is needed; give one with PYTHON=/path/to/python3." >&2; exit 1; }
	@$(PYTHON) scripts/install.py $(VENV) $(1) $(if $(filter system,$(TORCH)),--system-torch)
	@touch $@
endef

$(VENV)/.installed-$(TORCH): pyproject.toml constraints.txt
	$(call install,experiments$(COMMA)dev$(COMMA)notebooks)

$(VENV)/.commands-$(TORCH): pyproject.toml constraints.txt
	$(call install,experiments)

# Triton's interpreter runs the kernels for GPUs in the tests; torch for CUDA brings a triton of its own.
$(VENV)/.triton: $(VENV)/.installed-$(TORCH)
	$(RUN) -c 'import triton' 2> /dev/null || $(RUN) -m pip install --quiet --disable-pip-version-check \
	  'triton>=3.6; platform_system == "Linux"'
	@touch $@

$(VENV)/.mlflow: $(VENV)/.installed-$(TORCH)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt -e '.[mlflow]'
	@touch $@

$(VENV)/.docs: $(VENV)/.installed-$(TORCH)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt -e '.[docs]'
	@touch $@

# Enough for the commands, in a third of the time that all takes.
demo: $(if $(wildcard $(VENV)/.installed-$(TORCH)),setup,$(VENV)/.commands-$(TORCH))  ## train on the embedded corpus for about two minutes and show what came out
	$(RUN) -m sparse_rnn.demo

test: setup $(VENV)/.triton  ## the tests
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist worksteal -m "$(QUICK)" $(ARGS)

test-processes: setup  ## the tests with runs that are killed, stopped, cut off, without a disk or a terminal
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist worksteal -m processes $(ARGS)

test-documented: setup  ## what the documentation shows, from end to end: notebooks, examples, additions, the wheel
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist worksteal -m documented $(ARGS)

test-all: setup $(VENV)/.triton  ## the tests, with every model x method x optimizer
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist worksteal $(ARGS)

test-backend: setup  ## the tests of what has sparse weights once more, on the kernels wherever these can be used
	$(RUN) -m sparse_rnn.kernels
	SPARSE_RNN_BACKEND_TEST=1 OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist worksteal -m "not full" $(ON_BOTH) \
	  $(NOT_ON_BOTH) $(ARGS)

test-additions: setup $(VENV)/.triton  ## the tests in a copy with all that docs/add-a-*.md adds, but for what no name can change
	$(RUN) tests/extended_checkout.py $(VENV)/additions
	cd $(VENV)/additions && PYTHONPATH=$(CURDIR)/$(VENV)/additions OMP_NUM_THREADS=1 $(CURDIR)/$(RUN) -m pytest -n 2 \
	  --dist worksteal -m "$(QUICK)" $(addprefix --ignore=,$(UNCHANGED)) $(ARGS)
	rm -rf $(VENV)/additions

test-cuda: setup  ## the tests on a GPU (without one: skipped)
	SPARSE_RNN_CUDA_TEST=1 OMP_NUM_THREADS=1 $(RUN) -m pytest -m cuda tests/cuda $(ARGS)

test-slurm: setup  ## the tests on a SLURM cluster that this starts and stops (as root, in a container)
	SPARSE_RNN_SLURM_TEST=$${SPARSE_RNN_SLURM_TEST:-1} OMP_NUM_THREADS=1 \
	  $(RUN) -m pytest -m slurm --timeout 900 tests/cluster $(ARGS)

test-browser: setup $(VENV)/.docs  ## the page of results and the documentation in Chromium (which this installs, as root, in a container)
	tests/install_debian.sh chromium chromium
	SPARSE_RNN_BROWSER_TEST=1 OMP_NUM_THREADS=1 $(RUN) -m pytest -m browser tests/browser $(ARGS)

test-latex: setup  ## the tests of the tables in LaTeX (which this installs, as root, in a container)
	tests/install_debian.sh pdflatex texlive-latex-base
	SPARSE_RNN_LATEX_TEST=1 OMP_NUM_THREADS=1 $(RUN) -m pytest -m latex tests/latex $(ARGS)

test-portability: setup  ## the kernels under clang and on an emulated ARM (which this installs, as root, in a container)
	tests/install_debian.sh clang++ clang
	tests/install_debian.sh aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
	tests/install_debian.sh qemu-aarch64 qemu-user
	SPARSE_RNN_PORTABILITY_TEST=1 OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist worksteal --timeout 900 -m portability \
	  tests/portability $(ARGS)

test-loggers: setup $(VENV)/.mlflow  ## the tests of runs in MLflow, against a real server
	SPARSE_RNN_LOGGERS_TEST=1 OMP_NUM_THREADS=1 $(RUN) -m pytest -m loggers tests/loggers $(ARGS)

lint: setup  ## ruff, mypy, and that imports point downwards
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

# CUDA's packages stay out of constraints.txt: each torch names those that it needs, TORCH=system another one's.
UV = $(RUN) -m uv --no-config
PYPI = --default-index https://pypi.org/simple
lock: setup  ## pin: uv.lock for pyproject.toml, constraints.txt out of uv.lock (newer versions: ARGS=--upgrade)
	$(UV) lock $(PYPI) $(ARGS)
	$(UV) export --quiet --locked $(PYPI) --all-extras --no-emit-project --no-hashes --no-annotate --no-header \
	  > $(VENV)/exported.txt
	{ echo '# Every package of an installation, pinned, for pip and make setup. make lock writes this file.'; \
	  sed -e "/'3[.]11/!s/ ;.*//" -e '/^nvidia-/d' -e '/^cuda-/d' -e '/^triton=/d' $(VENV)/exported.txt; } > constraints.txt

format: setup  ## let ruff format and fix
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

data: setup  ## fetch the data sets ahead (for machines whose compute nodes have no network)
	$(RUN) -m sparse_rnn.data $(ARGS)

kernels: setup  ## compile the sparse kernels for this CPU ahead of training
	$(RUN) -m sparse_rnn.kernels $(ARGS)

plan-%: setup  ## every run of a table and what it needs, as in plan-table2 (BUDGET, PROTOCOL, ARGS; plan-all)
	$(LAUNCH) plan $(subst -,_,$*) $(ASKED)

launch-%: setup  ## send the missing runs of a table, as in launch-table2 (also CLUSTER=slurm)
	$(LAUNCH) submit $(subst -,_,$*) cluster=$(CLUSTER) $(ASKED)

status: setup  ## what was sent: watch it until nothing waits or works any more
	$(LAUNCH) status --watch

#tableN: setup  ## a table out of the logs, into results/output/tables: table1 ... table10, st-table1 ... (BUDGET, PROTOCOL, SOURCE)
$(TABLES): setup
	@$(RESULTS) table $(subst -,_,$@) $(READ) --out results/output/tables$(SIZE); code=$$?; \
	  [ $$code = 0 -o $$code = 3 ] && cat results/output/tables$(SIZE)/$(subst -,_,$@).md; exit $$code

#figureN: setup  ## a figure out of the logs, into results/output/figures: figure1 ... figure10, st-figure2, st-figure3
$(FIGURES): setup
	$(RESULTS) figure $(subst -,_,$@) $(READ) --out results/output/figures$(SIZE)

tables: setup  ## all tables, complete or not
	$(RESULTS) table all $(READ) --out results/output/tables$(SIZE) --allow-missing

figures: setup  ## all figures, complete or not
	$(RESULTS) figure all $(READ) --out results/output/figures$(SIZE) --allow-missing

site: setup  ## one HTML page of everything
	$(RESULTS) site $(READ)

# What is committed in results/output and docs of the runs in results/logs; a test makes it again and compares.
LOGS = --source records:results/logs/reduced --allow-missing
REDUCED = budget=reduced protocol=paper $(LOGS)
evidence: setup  ## the tables, figures and findings of the committed logs
	$(RESULTS) table evidence table2 table3 table5 st_table4 st_table6 $(REDUCED) --bold significant --out results/output/tables/reduced/paper
	$(RESULTS) figure figure10 st_figure2 st_figure3 seeds=1,2,3 $(REDUCED) --out results/output/figures/reduced/paper
	$(RESULTS) figure evidence_sparsity evidence_updates $(LOGS) --out results/output/figures/reduced/paper
	$(RESULTS) findings $(LOGS) --out results/output/findings
	$(RESULTS) refresh README.md docs/findings.md docs/results.md docs/real-runs.md

docs: setup $(VENV)/.docs  ## the documentation as a site, with a reference of every key and command, into build/docs
	$(RUN) -m website

tutorials: setup  ## execute the notebooks and write docs/tutorials, what they print and draw (some: ARGS=03_gates_over_time)
	OMP_NUM_THREADS=1 $(RUN) -m website.tutorials $(ARGS)

notebooks: setup  ## execute the notebooks, as the tests do
	OMP_NUM_THREADS=1 $(RUN) -m pytest tests/test_notebooks.py

#reproduce-tableN: setup  ## from runs to a file: launch what is missing, wait, and make it (also reproduce-figureN)
$(addprefix reproduce-,$(TABLES) $(FIGURES)): reproduce-%: setup
	$(if $(filter $*,$(DECLARED)),,$(LAUNCH) submit $(subst -,_,$*) cluster=$(CLUSTER) $(ASKED))
	$(if $(filter $*,$(DECLARED)),,$(LAUNCH) status $(subst -,_,$*) $(ASKED) --watch)
	@$(MAKE) --no-print-directory $*

bench: setup  ## measure the ratios of docs/performance.md (some of them: ARGS=launching)
	$(RUN) -m benchmarks $(ARGS)

record: setup  ## time to perplexity 120 and 110 on two cores, as docs/records.md rules (ENTRY=sparse, ARGS="--seeds 4,5")
	$(RUN) -m sparse_rnn.kernels
	$(RUN) -m sparse_rnn.data ptb
	$(RUN) -m benchmarks.record $(ENTRY) $(ARGS)

gpu: setup  ## what a GPU is asked in nine minutes: its tests, milliseconds beside their bars (some of it: ARGS=steps)
	$(RUN) -m benchmarks.gpu $(ARGS)
