# `make` lists the targets. Each makes the environment that it needs, in .venv.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= auto
FUZZ_SECONDS ?= 20
DEPS := pyproject.toml
# Tests that measure: nothing else may run beside them, and their figures are shown.
ALONE := $(patsubst %,tests/chaos/test_%.py,load full rotations)

.DEFAULT_GOAL := help
.PHONY: help demo test coverage chaos check fuzz timing audit sbom format bench \
    bench-memory bench-stages profile lock docker-steps clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/run ## see two exchanges go through the gateway
	@$(BIN)/gateway demo --once

test: .venv/test .venv-vendor/done ## run all tests
	$(BIN)/python -m pytest -n $(JOBS) -q $(FLAGS)

coverage: .venv/test ## run all tests and hold the coverage bounds
	$(BIN)/python -m coverage erase
	$(MAKE) test FLAGS='--cov --cov-report='
	$(BIN)/python -m coverage report --fail-under=95
	$(BIN)/python -m coverage report --fail-under=100 \
	    --include='gateway/protocol/*,gateway/keys/keyring.py,gateway/relay/*,gateway/audit/*'

chaos: .venv/test ## run the tests of faults and load that take minutes
	$(BIN)/python -m pytest -q -m chaos -n $(JOBS) tests $(ALONE:%=--ignore=%)
	ROTATION_EXAMPLES=60 $(BIN)/python -m pytest -q tests/property/test_rotation_properties.py
	$(BIN)/python -m pytest -q -m chaos -rP $(ALONE)

check: .venv/check ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: .venv/fuzz ## feed each parser what nobody chose, FUZZ_SECONDS each
	$(BIN)/python -m tests.fuzz.run $(FUZZ_SECONDS)

timing: .venv/test ## measure whether a failing decryption tells why it failed
	$(BIN)/python -m tests.timing

audit: .venv/audit ## look the locked dependencies up among known vulnerabilities
	@$(BIN)/python deploy/audit.py deploy/requirements.lock deploy/build.lock

sbom: .venv/audit ## write dist/sbom.json: what the container holds
	@$(BIN)/python deploy/sbom.py deploy/requirements.lock dist/sbom.json

format: .venv/check ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/bench ## measure the price of an exchange; QUICK=1 takes two minutes
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick,--write)

bench-memory: .venv/bench ## watch the gateway's memory over 300,000 exchanges
	$(BIN)/python -m benchmarks --memory

bench-stages: .venv/bench ## show what each part of an exchange costs
	@$(BIN)/python -m benchmarks.stages
	@$(BIN)/python -m benchmarks.stages --encrypted
	@$(BIN)/python -m benchmarks.whole
	@$(BIN)/python -m benchmarks.whole --encrypted

profile: .venv/bench ## show where the time of an exchange goes
	@$(BIN)/python -m benchmarks.profile

lock: .venv/check ## renew the locked dependencies of the container
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra pkcs11 --generate-hashes \
	    --python-version 3.13 --no-header --no-annotate --upgrade -o deploy/requirements.lock
	printf 'hatchling>=1.27\n' | $(BIN)/uv pip compile - --generate-hashes \
	    --python-version 3.13 --no-header --no-annotate --upgrade -o deploy/build.lock

docker-steps: ## run the Dockerfile's steps without Docker
	rm -rf .cache/docker-steps
	sh deploy/install $(PYTHON) .cache/docker-steps
	.cache/docker-steps/bin/gateway demo --once > /dev/null

clean: ## remove what these targets made
	rm -rf .venv .venv-vendor .cache .coverage* .pytest_cache .mypy_cache .ruff_cache \
	    .hypothesis .import_linter_cache dist/sbom.json

# --- environments --------------------------------------------------------------

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed; name it: make PYTHON=python3.13" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/run: .venv/bin/python $(DEPS)
	@echo "Installing into .venv (the first time takes a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/test: .venv/bin/python $(DEPS)
	@echo "Installing into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@ .venv/run

.venv/check: .venv/bin/python $(DEPS)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,check]'
	@touch $@ .venv/run .venv/test

.venv/fuzz: .venv/test $(DEPS)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,fuzz]'
	@touch $@

.venv/bench: .venv/run $(DEPS)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@

.venv/audit: .venv/run $(DEPS)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[audit,pkcs11]'
	@touch $@

# The vendor's package pins an old cryptography, so it has an environment of its own.
.venv-vendor/done:
	@echo "Installing the vendor's SDK into .venv-vendor ..."
	@$(PYTHON) -m venv .venv-vendor
	@.venv-vendor/bin/python -m pip install --quiet --disable-pip-version-check \
	    global-open-sdk-python==1.7.1
	@touch $@
