# Everything a new Debian 12 with python3, python3-venv and make needs; `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup browser servers run test test-all lint format overhead accuracy files pictures explain kernel-lab clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

setup: $(READY) ## Make .venv and install connbench in it

browser: ## Debian's chromium, which the tests of the HTML page drive (installed if you are root)
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq \
	    && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium chromium-driver; \
	  else echo "no chromium and chromium-driver here: the tests of the HTML page will be skipped" >&2; fi; }

servers: ## nginx, redis-server, bpftrace and go, which the tests use (installed if you are root)
	@PATH=$$PATH:/usr/sbin; command -v nginx >/dev/null && command -v redis-server >/dev/null && command -v bpftrace >/dev/null && command -v go >/dev/null || { \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq \
	    && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qq -y --no-install-recommends nginx-light redis-server bpftrace golang-go; \
	  else echo "no nginx, redis-server, bpftrace and go here: tests that need them will be skipped" >&2; fi; }

run: $(READY) ## The main job: all 56,512 ports through random windows of 500
	$(BIN)/connbench run --strategy window --window 500

# Two at a time, the tests of a file one after the other: they share what the first of them measured or wrote.
test: $(READY) browser servers ## Run the tests (under 5 minutes)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-all: $(READY) browser servers ## Run the slow tests too (some minutes more)
	$(BIN)/python -m pytest -m 'slow or not slow'

lint: $(READY) ## ruff check, ruff format --check, mypy --strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(READY) ## Format the code, apply safe fixes
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

overhead: $(READY) ## What the harness costs against C (needs cc and an idle machine)
	$(BIN)/python scripts/overhead.py

accuracy: $(READY) ## How well model and reports go with this machine: a table (a minute)
	$(BIN)/python scripts/accuracy.py

files: $(READY) ## How long a million attempts take to save and to load
	$(BIN)/python scripts/resultfiles.py

pictures: $(READY) ## Draw the README's two pictures from RESULT=file of plain and window 500
	$(BIN)/python scripts/pictures.py $(RESULT)

explain: $(READY) ## Draw the pictures of docs/how-connect-picks-a-port.md from the model
	$(BIN)/python scripts/explain.py

kernel-lab: $(READY) ## Measure in Debian's kernels 5.10 to 7.x and user-mode-linux, into LAB=folder (three minutes)
	$(BIN)/python scripts/kernel-lab setup
	$(BIN)/python scripts/kernel-lab run -o $(or $(LAB),kernel-lab) --force
	$(BIN)/python scripts/kernel-lab table $(or $(LAB),kernel-lab) --chart $(or $(LAB),kernel-lab)/kernels.png

clean: ## Remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
