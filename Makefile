# Every task of the project. `make help` lists them; a second call installs nothing.

PYTHON  ?= python3
PORT    ?= 5006
ADDRESS ?= localhost
ARGS    ?=

VENV := .venv
RUN  := $(VENV)/bin/python
PIP  := $(RUN) -m pip install --disable-pip-version-check --constraint constraints.txt
# builds of torch without CUDA, which on Linux saves several gigabytes
CPU_TORCH ?= https://download.pytorch.org/whl/cpu

.PHONY: help dashboard test mutants notebooks html docs lint format benchmark clean

help: ## list these tasks
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

dashboard: $(VENV)/.runtime ## serve the dashboard (PORT=5006, ADDRESS=localhost)
	$(RUN) -m toolkit dashboard --port $(PORT) --address $(ADDRESS)

# The tests' layers are small: on a busy machine more threads only wait for one another (8 times slower).
# All processors work; what measures time or drives a browser comes afterwards, alone.
test: export OMP_NUM_THREADS ?= 1
test: $(VENV)/.dev ## run the whole test suite (ARGS="-k sbpca" runs a part)
	$(RUN) -m pytest --numprocesses auto --dist worksteal -m "not alone" $(ARGS) || [ $$? -eq 5 ] # 5: ARGS left none
	$(RUN) -m pytest -m alone $(ARGS) || [ $$? -eq 5 ]

mutants: $(VENV)/.dev ## see that a test notices each of the known faults (ARGS="lowrank" some of them)
	$(RUN) tests/mutants/run.py $(ARGS)

notebooks: $(VENV)/.runtime ## open the tutorials in JupyterLab
	$(RUN) -m jupyterlab notebooks/00_contents.ipynb $(ARGS)

html: $(VENV)/.runtime ## run the tutorials and write them as pages to build/notebooks
	$(RUN) -m toolkit notebooks --html --out build/notebooks

docs: $(VENV)/.docs ## build the site, tutorials and reference included, to build/site and build/site.zip
	$(RUN) -m toolkit notebooks --html --out build/pages/tutorials
	$(RUN) -m toolkit notebooks --pack --out build/pages/pack
	$(RUN) -m sphinx --fail-on-warning --keep-going -q docs build/site
	cd build && $(abspath $(RUN)) -m zipfile --create site.zip site

lint: $(VENV)/.dev ## check style and types
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy

format: $(VENV)/.dev ## put the code in the project's style
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

benchmark: $(VENV)/.dev ## measure ratios against real alternatives
	$(RUN) -m pytest benchmarks $(ARGS)

clean: ## remove .venv, caches and builds
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find toolkit dashboards notebooks tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# On Linux without an NVIDIA card: torch's CPU build, if its index can be reached. Else the usual one.
$(VENV)/.torch: | $(RUN)
	@if [ "$$(uname)" != Linux ] || nvidia-smi -L >/dev/null 2>&1; then \
	  echo "Installing torch as pip has it."; index=; \
	elif $(RUN) -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)' $(CPU_TORCH) 2>/dev/null; then \
	  echo "No NVIDIA card: installing torch for CPUs, from $(CPU_TORCH)."; index="--extra-index-url $(CPU_TORCH)"; \
	else \
	  echo "No NVIDIA card, but $(CPU_TORCH) cannot be reached: installing torch as pip has it."; index=; \
	fi; $(PIP) --quiet $$index torch
	@touch $@

# A stamp is newer than what it was installed from; the development install holds the runtime one.
$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/.torch
	$(PIP) --editable .
	$(RUN) -m toolkit compile
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.torch
	$(PIP) --editable '.[dev]'
	@touch $(VENV)/.runtime $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/.runtime
	$(PIP) --editable '.[docs]'
	@touch $@

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, '$(PYTHON)' is older or missing; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
	  echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
