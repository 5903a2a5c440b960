# The commands of a developer; .ci/run calls the same tools.

PYTHON ?= python
ARGS ?=
DIST ?= dist
DOCS ?= build/docs
MORE = tests/callbacks tests/trainer/exactness_test.py

.PHONY: help install test lint format types docs notebooks build oldest

help:  ## List the targets.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install:  ## Install this checkout, editable, with all that the tests need.
	$(PYTHON) -m pip install -e ".[tensorflow-cpu,jax,tfds,docs,test]"

test:  ## Run the tests; ARGS="-m slow" for the slow ones.
	$(PYTHON) -m pytest $(ARGS)

lint:  ## Check the code without changing it.
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format:  ## Repair what can be repaired automatically.
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

types:  ## Check types.
	$(PYTHON) -m mypy

docs:  ## Write the site of the documentation to build/docs/; a warning is an error.
	$(PYTHON) -m mkdocs build --strict --site-dir $(DOCS)

notebooks:  ## Execute the notebooks of examples/ and store their outputs; some minutes.
	$(PYTHON) -m examples.build

build:  ## Write sdist and wheel to dist/.
	$(PYTHON) -m build --outdir $(DIST) .

oldest:  ## Install the oldest versions that are supported, and run the quick part of the tests.
	TESTS="$(MORE)" .ci/installed tensorflow-cpu,test -c .ci/oldest.txt
	TESTS="$(MORE)" .ci/installed jax,test -c .ci/oldest.txt
