# Every target does its own set-up, and does it once: a second run finds the work done.
# Settings: PYTHON (the interpreter that makes the environment), VENV (where the environment lies).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The demo's data, run and checkpoint.
DATA := data/exercises.h5
RUN := runs/demo

.DEFAULT_GOAL := help
.PHONY: help install demo test test-keras test-slow lint types clean

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

install: $(STAMP)  ## Make the environment and install the project in it

# The stamp is touched last, so a failed or interrupted installation is taken up again by the next run.
# An environment without a working pip (interrupted, or its interpreter is gone) is made afresh.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "coadtr needs Python 3.11 or newer, and '$(PYTHON)' is not: name one, as in make install PYTHON=python3.12" >&2; \
	    exit 1; }
	@rm -f $@
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	    if [ -f $(VENV)/pyvenv.cfg ]; then clear=--clear; fi; \
	    $(PYTHON) -m venv $${clear:-} $(VENV); }
	@echo "Installing coadtr in $(VENV); the first time takes minutes (PyTorch is several GB)."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e ".[demo,dev]"
	@touch $@

demo: $(STAMP)  ## Train CoOadTR-b1 on real recordings, replay the test recordings, write the report
	@if [ -e $(DATA) ]; then echo "Data: $(DATA) is there, kept (remove it to import again)."; \
	    else $(BIN)/coadtr data import format=exercises out=$(DATA); fi
	@if [ -e $(RUN)/checkpoint ]; then \
	    echo "Training: $(RUN)/checkpoint is there, kept (to train again: rm -r $(RUN) && make demo)."; \
	    else $(BIN)/coadtr train experiment=exercises/cooadtr_b1 out=$(RUN); fi
	@$(BIN)/coadtr replay checkpoint=$(RUN)/checkpoint data=$(DATA) out=$(RUN)/replay
	@$(BIN)/coadtr report $(RUN) out=$(RUN)/report

# Types are checked beside the tests, and told after them. Files of tests go out in their order: the doctests, which are
# short, come last, and the workers end together.
test: lint  ## Run all checks, and all tests but the slow ones and those of `test-keras`
	@mkdir -p .mypy_cache; $(BIN)/mypy > .mypy_cache/told 2>&1 & types=$$!; \
	    OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
	    --ignore=tests/keras --ignore=coadtr/keras; \
	    tests=$$?; wait $$types; types=$$?; cat .mypy_cache/told; [ $$tests -eq 0 ] && [ $$types -eq 0 ]

# TensorFlow and JAX take 2 GB, and Keras has one backend a process: hence an installation and runs of their own.
KERAS_STAMP := $(VENV)/.installed-keras

$(KERAS_STAMP): $(STAMP)
	@echo "Installing TensorFlow, JAX and LiteRT in $(VENV); the first time takes minutes."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e ".[keras-backends]"
	@touch $@

test-keras: $(KERAS_STAMP)  ## Run the tests of coadtr.keras on TensorFlow, JAX and PyTorch
	for backend in tensorflow jax torch; do \
	    KERAS_BACKEND=$$backend OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n auto --maxprocesses 4 tests/keras coadtr/keras \
	    || exit 1; done

test-slow: $(STAMP)  ## Run the slow tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)  ## Check style, formatting and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(STAMP)  ## Check types
	$(BIN)/mypy

clean:  ## Remove the environment, caches and build products; data/, runs/ and checkpoints/ stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find coadtr tests scripts benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
