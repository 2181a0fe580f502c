# Everything a new Debian 12 with python3, python3-venv and make needs; `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOOP := src/connbench/engine/_loop.c
READY := $(VENV)/.ready-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')

.DEFAULT_GOAL := help
.PHONY: help setup packages kernels run test test-all test-pythons test-oldest environments lint format overhead in-flight contention accuracy inspect-speed fleet fleet-files files columns pictures explain docs kernel-lab man dist clean

##@ Begin here

help: ## List the targets
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Of the Python that was asked for: with another one the environment is made anew.
# pip prints nothing of a build that succeeds, but its log has the line that says why setup.py built no loop in C.
$(READY): pyproject.toml setup.py $(LOOP)
	test -x $(BIN)/pip -a -e $@ || $(PYTHON) -m venv --clear $(VENV)
	rm -f $(VENV)/pip.log
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --log $(VENV)/pip.log --editable '.[dev]'
	@sed -n 's/.*\(connbench: built without .*\)/\1 (then: make -B setup)/p' $(VENV)/pip.log
	touch $@

setup: $(READY) ## Make .venv and install connbench in it

run: $(READY) ## The main job: 56,512 ports through random windows of 500; then a profile
	$(BIN)/connbench run --strategy window --window 500
	$(BIN)/connbench profile

##@ Check a change

# NO_INSTALL=1 leaves the machine's packages alone: tests that need more are skipped, and say what to install.
# Three at a time, as those that wait for a process or a time-out leave two CPUs a quarter idle. The tests of a file run
# one after the other: they share what the first of them measured or wrote.
test: packages $(READY) ## Run the tests; root: NO_INSTALL=1 installs no packages
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# The slow tests boot two other kernels; where they cannot be fetched, those tests are skipped.
kernels: $(READY)
	@$(if $(NO_INSTALL),,$(BIN)/python scripts/kernel-lab setup --kernel 6.1 --kernel 6.12 || true)

test-all: packages $(READY) kernels ## Run the slow tests too; some minutes more
	$(BIN)/python -m pytest -m 'slow or not slow'

lint: HEADERS = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')
lint: $(READY) ## ruff check, ruff format --check, mypy --strict, cc -Wall -Wextra -Werror
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	@if command -v $(CC) >/dev/null && test -e $(HEADERS)/Python.h; then set -x; \
		$(CC) -O2 -Wall -Wextra -Werror -DPy_LIMITED_API=0x030B0000 -isystem $(HEADERS) -c -o /dev/null $(LOOP); \
	else echo 'lint: $(LOOP) is not compiled: there is no $(CC) or no Python.h here'; fi

format: $(READY) ## Format the code, apply safe fixes
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Before $(READY), wherever both are wanted: the loop in C needs a compiler and Python's headers.
packages: ## Install what the tests use of the distribution (root)
	@$(PYTHON) scripts/packages.py $(if $(NO_INSTALL),--list)

test-pythons: $(READY) ## Run the tests with Python 3.11, 3.12 and 3.13, each as far as it is here
	$(BIN)/python scripts/environments.py python3.11 python3.12 python3.13

test-oldest: $(READY) ## Run the tests with the oldest packages that pyproject.toml allows
	$(BIN)/python scripts/environments.py oldest

environments: $(READY) ## The tests in each of ENVIRONMENTS="busy user ...", or all
	$(BIN)/python scripts/environments.py $(ENVIRONMENTS)

##@ Measure connbench itself, on an idle machine

overhead: $(READY) ## What connbench costs against C; needs cc, and idle CPUs
	$(BIN)/python scripts/overhead.py

in-flight: $(READY) ## What --in-flight gives over a path of 50 ms; needs TUN, and idle CPUs
	$(BIN)/python scripts/inflight.py

contention: $(READY) ## Connections a second with 1 to 64 workers, and of NEPER=path/to/tcp_crr; root, idle CPUs
	$(BIN)/python scripts/contention.py $(if $(NEPER),--neper $(NEPER))

accuracy: $(READY) ## How well model and profile go with this machine: some minutes
	$(BIN)/python scripts/accuracy.py

inspect-speed: $(READY) ## How long inspect takes with 56,512 and a million connections open; root, idle CPUs
	$(BIN)/python scripts/inspect_speed.py

fleet: $(READY) ## How far apart hosts of a fleet begin, and what 32 of them cost here; root, idle CPUs
	$(BIN)/python scripts/fleet_spread.py

fleet-files: $(READY) ## How long the files of 3 and of 100 hosts take to merge and to report
	$(BIN)/python scripts/fleet_speed.py

files: $(READY) ## How long a million attempts take to save and to load
	$(BIN)/python scripts/resultfiles.py

kernel-lab: $(READY) ## Measure in Debian's kernels 5.10 to 7.x and user-mode-linux, into LAB=folder (three minutes)
	$(BIN)/python scripts/kernel-lab setup
	$(BIN)/python scripts/kernel-lab run -o $(or $(LAB),kernel-lab) --force
	$(BIN)/python scripts/kernel-lab table $(or $(LAB),kernel-lab) --chart $(or $(LAB),kernel-lab)/kernels.png

##@ Write what the documentation shows

columns: $(READY) ## Write the table of an attempt's columns in docs/figures.md
	$(BIN)/python scripts/columntable.py

pictures: $(READY) ## Measure and draw the pictures of README and docs/files.md; idle CPUs; RESULT=file: of that run
	$(BIN)/python scripts/pictures.py $(RESULT)

explain: $(READY) ## Draw the pictures of docs/how-connect-picks-a-port.md
	$(BIN)/python scripts/explain.py

docs: $(READY) ## Build the documentation as a site in build/site; fails for a dead link
	$(BIN)/python scripts/documentation.py

##@ Release

man: $(READY) ## Write the man pages and completions that the wheel takes along, into share/
	$(BIN)/python scripts/manpages.py

dist: man ## Make wheel and sdist in dist/, check them, install each and run it
	$(BIN)/python scripts/dist.py

##@ Tidy up

clean: ## Remove .venv, caches, and what man, docs and dist wrote
	rm -rf $(VENV) build dist share .mypy_cache .ruff_cache .pytest_cache .hypothesis
