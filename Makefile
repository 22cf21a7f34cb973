# Build and test the RollingQ book. `make` alone lists what it can do.
SHELL  := /bin/bash
VENV   ?= .venv
PYTHON ?= python3
BIN     = $(VENV)/bin
STAMP   = $(VENV)/.installed

# What `make quick` runs.
QUICK   = air.py rotation.py rolling.py attention.py attach.py balancing.py observers.py \
          model.py evaluation.py records.py tables.py architecture.py examples.py

.DEFAULT_GOAL := help
.PHONY: help venv book test lint quick colab oldest notebooks bench mutants reproduce clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## create .venv with the exact versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed, and '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo missing). Try: make PYTHON=python3.11 venv"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing. On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[book,test]'
	@touch $@

book: $(STAMP) ## build the book into _build/html (warnings are errors)
	@rm -rf _build/html _build/.doctrees
	$(BIN)/jupyter-book build . --builder html -n -W --keep-going --all
	@echo "Open $(CURDIR)/_build/html/index.html"

test: $(STAMP) ## lint, then unit, notebook, book and browser tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest tests notebooks -n 2 --dist loadfile \
	  --nbval-lax --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg \
	  --nbval-cell-timeout 300

lint: $(STAMP) ## check style, order of the rooms and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py -q

quick: $(STAMP) ## the tests of the method alone, in under a minute
	$(BIN)/python -m pytest -q -m "not slow and not book and not browser" $(addprefix tests/test_,$(QUICK))

colab: $(STAMP) ## run four chapters in an environment like Colab's (downloads it once)
	$(BIN)/python scripts/colab_check.py --environment .venv-colab

# The versions of constraints-oldest.txt have no wheels for a Python newer than 3.12.
oldest: ## run the unit tests with the oldest version of every library (PYTHON=python3.11)
	@test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints-oldest.txt -e '.[book,test]'
	.venv-oldest/bin/python -m pytest tests -n 2 --dist loadfile -m "not book and not browser" \
	  --ignore tests/test_notebooks.py -W default::DeprecationWarning \
	  --deselect tests/test_packaging.py::test_this_environment_is_the_pinned_one

notebooks: $(STAMP) ## run every chapter again from its .py (ONLY=05 for one)
	$(BIN)/python scripts/build_notebooks.py $(ONLY)

bench: $(STAMP) ## measure speed and memory
	$(BIN)/python -m benchmarks

mutants: $(STAMP) ## break the method on purpose, and see which chapters notice
	$(BIN)/python scripts/mutants.py

reproduce: $(STAMP) ## compute the records in results/ again
	for data in digits avmnist; do \
	  $(BIN)/python -m rollingq_core reproduce comparison table2 table3 conflict calibration --data $$data || exit 1; \
	  $(BIN)/python -m rollingq_core reproduce comparison --data $$data --setting S || exit 1; \
	done
	for data in digits avmnist mosi; do \
	  $(BIN)/python -m rollingq_core reproduce table1 --data $$data || exit 1; \
	done
	$(BIN)/python -m rollingq_core reproduce table2 table3 conflict calibration --data mosi
	for data in digits avmnist mosi; do \
	  $(BIN)/python -m rollingq_core reproduce table8 table9 --data $$data || exit 1; \
	done
	for data in digits-seven avmnist-seven mosi; do \
	  $(BIN)/python -m rollingq_core reproduce table10 --data $$data || exit 1; \
	done
	for data in digits avmnist-new-speaker mosi; do \
	  $(BIN)/python -m rollingq_core reproduce controls --data $$data || exit 1; \
	done
	for data in digits avmnist avmnist-quiet avmnist-new-speaker avmnist-new-speaker-noisy; do \
	  $(BIN)/python -m rollingq_core reproduce familiarity --data $$data || exit 1; \
	done
	for recipe in controls familiarity; do \
	  $(BIN)/python -m rollingq_core reproduce $$recipe --data synthetic --setting T || exit 1; \
	done
	for recipe in dynamic interventions tuning; do \
	  $(BIN)/python -m rollingq_core reproduce $$recipe --data digits || exit 1; \
	done
	$(BIN)/python -m rollingq_core reproduce interventions --data avmnist-new-speaker
	for data in avmnist-quiet avmnist-new-speaker avmnist-new-speaker-noisy; do \
	  $(BIN)/python -m rollingq_core reproduce comparison --data $$data || exit 1; \
	done
	$(BIN)/python -m rollingq_core reproduce comparison table2 table3 conflict calibration --data synthetic --setting T
	for data in avmnist-pretrained avmnist-new-speaker-pretrained; do \
	  $(BIN)/python -m rollingq_core reproduce comparison --data $$data --setting I3 || exit 1; \
	done
	$(BIN)/python -m rollingq_core reproduce table1 --data avmnist-pretrained --setting I
	$(BIN)/python -m rollingq_core reproduce controls --data avmnist-new-speaker-pretrained --setting I3 --seeds 5
	$(BIN)/python -m rollingq_core reproduce grid
	$(BIN)/python -m rollingq_core reproduce regimes
	$(BIN)/python -m rollingq_core reproduce scale --profile cpu --jobs 2
	$(BIN)/python -m benchmarks.full_step --device cpu --batch 4 --no-compile
	$(BIN)/python -m benchmarks.table4 --device cpu --batch 2 --repetitions 7

clean: ## remove what the other targets built, but not the environment
	rm -rf _build .pytest_cache .ruff_cache .hypothesis dist
