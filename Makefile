# The commands of a developer; .ci/run calls the same tools.

PYTHON ?= python
ARGS ?=

.PHONY: help install test lint format build

help:  ## List the targets.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

install:  ## Install this checkout, editable, with all that the tests need.
	$(PYTHON) -m pip install -e ".[tensorflow-cpu,jax,tfds,test]"

test:  ## Run the tests; ARGS="-m slow" for the slow ones.
	$(PYTHON) -m pytest $(ARGS)

lint:  ## Check the code without changing it.
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format:  ## Repair what can be repaired automatically.
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

build:  ## Write a wheel to dist/.
	rm -rf build  # else files that are gone would come along
	$(PYTHON) -m pip wheel --no-deps --wheel-dir dist .
