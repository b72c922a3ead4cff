# `make` tells what there is. Set-up happens by itself, once, and again only when what it depends on has changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
FRONTEND := dicomweb/static/dist/.ready

# Node builds the front end; where the machine has none that is new enough, a wheel brings one.
NODE_EXTRA := $(shell node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' \
	2>/dev/null && command -v npm >/dev/null || echo node)

# Many tests wait for programs they started, so there is one process more than processors.
PROCESSES ?= $(shell expr $$(nproc) + 1)

SETUP := setup.py pyproject.toml
SOURCES := $(filter-out %/node_modules,$(wildcard frontend/* frontend/src/* frontend/public/*))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run demo test coverage check bench words screens ohif setup clean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(READY) $(FRONTEND) ## Run everything; the address, the watched folder and the first password are printed.
	@exec $(BIN)/dicomweb run

demo: $(READY) $(FRONTEND) ## The same, and drop the sample images that come with pydicom.
	@exec $(BIN)/dicomweb run --demo

test: $(READY_DEV) $(FRONTEND) ## Run the tests.
	$(BIN)/python -m pytest $(MEASURE) --numprocesses=$(PROCESSES) --dist=worksteal

coverage: MEASURE := --cov --cov-report=term:skip-covered
coverage: test ## Run the tests and measure the coverage, which takes twice as long.

check: $(READY_DEV) ## Lint, check types, check the import contracts.
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(READY_DEV) ## Run the benchmarks; CORPUS=folder says which DICOM files are imported.
	$(BIN)/python -m benchmarks.headers
	$(BIN)/python -m benchmarks.imports --corpus "$(or $(CORPUS),$(shell $(BIN)/python -c 'import pydicom; print(pydicom.__path__[0])')/data)"

words: $(READY) ## Bring the catalogues of the languages up to date with the sources; LANGUAGE=fr begins another one.
	@$(BIN)/python -m dicomweb.catalogues $(LANGUAGE)

screens: $(READY_DEV) $(FRONTEND) ## Photograph every page for docs/screens; SAMPLES=folder has the sample files.
	$(BIN)/python -m tests.screens --samples "$(SAMPLES)" docs/screens

ohif: $(READY) ## Install the viewer OHIF (fetches 50 MB); the application offers it at once.
	@$(BIN)/python -m dicomweb.ohif

setup: $(READY_DEV) $(FRONTEND) ## Only set up: virtual environment, packages, front end.

clean: ## Remove what was built; state (var/) and the watched folder (data/) stay.
	rm -rf $(VENV) build dist *.egg-info dicomweb/static/dist dicomweb/installed frontend/node_modules
	rm -rf .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"DICOM Database needs Python 3.11 or newer; $(PYTHON) is {sys.version.split()[0]}. Choose another one with: make run PYTHON=python3.x")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "The virtual environment could not be made; on Debian the package python3-venv is needed." >&2; exit 1; }

# Two stamps, so that `make run` after `make test` installs nothing, and neither does the other way round twice.
$(READY): $(SETUP) | $(BIN)/python
	@echo "Installing the packages (this takes a minute the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.$(NODE_EXTRA:%=[%])'
	@touch $@

$(READY_DEV): $(SETUP) | $(BIN)/python
	@echo "Installing the packages and the developers' tools (this takes a minute the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev$(NODE_EXTRA:%=,%)]'
	@touch $(READY) $@

$(FRONTEND): $(SOURCES) dicomweb/assets.py | $(READY)
	@$(BIN)/python -m dicomweb.assets
	@touch $@
