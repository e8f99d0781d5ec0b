# Everything a newcomer needs: each target makes the virtual environment it runs in.
PYTHON ?= $(or $(shell command -v python3.11),python3)
VENV := .venv
BIN := $(VENV)/bin
# torch is pinned: an open range may fetch several GB of CUDA packages.
TORCH := torch==2.13.0

.DEFAULT_GOAL := help
.PHONY: help demo serve test check openapi bench compat fuzz clean

help:  ## show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.ready: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Stockpot needs Python 3.11 or later: set PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

demo: $(VENV)/.ready  ## publish a base and three experts, compose them three ways, score the results
	$(BIN)/python -m tests.demo

serve: $(VENV)/.ready  ## start the service on loopback and leave it running
	$(BIN)/stockpot serve --data var

test: $(VENV)/.ready  ## run the tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup tests

check: $(VENV)/.ready  ## lint, format check and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

openapi: $(VENV)/.ready  ## write openapi.yaml anew
	$(BIN)/python -m app.openapi > openapi.yaml

bench: $(VENV)/.ready  ## speed and memory against plain torch, a file copy and plain servers, in one run
	$(BIN)/python -m tests.benchmarks
	$(BIN)/python -m tests.benchmarks.transfers

compat: $(VENV)/.ready  ## older huggingface_hub clients and diffusers against a running service, each in its environment
	$(BIN)/python -m tests.compat

fuzz: $(VENV)/.ready  ## ten minutes of bent files against every reader and codec, guided by coverage (Linux)
	$(BIN)/python -m pip install --quiet --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz --seconds 600

clean:  ## remove the environment and what the demo and the service wrote
	rm -rf $(VENV) var demo-output
