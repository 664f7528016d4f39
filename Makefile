# Two commands matter: `make demo` and `make test`. Each sets up what it needs; `make help` lists the others.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PINS   := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test bench docs lint format reproduce clean

help: ## list the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "nissl needs Python 3.11 or newer, and $(PYTHON) is `$(PYTHON) -V 2>&1`. Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "Creating $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

# torch comes first and by itself, so that nothing pulls another build of it.
$(VENV)/.core: $(BIN)/python $(PINS)
	@echo "Installing nissl (some minutes the first time) ..."
	@$(PIP) "`grep '^torch==' constraints.txt`"
	@$(PIP) -e .
	@touch $@

# Of cect and wormneuroatlas only the data files are read; what they depend on stays out (an old numpy among it). neuraloperator is
# a peer in tests; most of what it asks for (wandb among it) is for its own training scripts.
$(VENV)/.dev: $(VENV)/.core
	@echo "Installing what tests, checks and docs need ..."
	@$(PIP) -e '.[dev,papers,brains]'
	@$(PIP) --no-deps `grep -E '^(cect|neuraloperator|wormneuroatlas)==' constraints.txt`
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	@echo "Installing the peers ..."
	@$(PIP) -e '.[dev,papers,brains,bench]'
	@$(PIP) --no-deps `grep '^spikingjelly==' constraints.txt` # its parts for pictures want a torchvision of their own
	@touch $@

demo: $(VENV)/.core ## explain the sample photograph; the last line is the path of the report
	@$(BIN)/nissl explain coffee --out nissl-out

test: $(VENV)/.dev ## run all tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: $(VENV)/.dev ## style, types, layers
	@$(BIN)/ruff check src tests benchmarks docs
	@$(BIN)/ruff format --check src tests benchmarks docs
	@$(BIN)/pyright --level error
	@$(BIN)/lint-imports

format: $(VENV)/.dev ## put the code into shape
	@$(BIN)/ruff check --fix src tests benchmarks docs
	@$(BIN)/ruff format src tests benchmarks docs

docs: $(VENV)/.dev ## build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo site/index.html

bench: $(VENV)/.bench ## set nissl beside its peers; writes benchmarks/RESULTS.md
	@$(BIN)/python benchmarks/run.py

reproduce: $(VENV)/.dev ## measure every claim of every paper
	@$(BIN)/nissl reproduce --all

clean: ## remove what was built
	@rm -rf $(VENV) site nissl-out
