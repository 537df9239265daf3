# Two commands are enough on a fresh Debian machine with Go and Python: `make demo` and `make test`.
# Each does all of its own set-up; what is built is kept in a cache and used again.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
SCAN_VENV := .venv-scan
PY := $(VENV)/bin/python
# Folders of tests at a time. They wait more than they compute, so more than there are cores.
WORKERS ?= 3
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --require-hashes
export PYTHONPATH := operator:.
# Where it is set, each of the hundred programs that the tests start would compile all of its modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: demo
demo: venv ## A real cluster, an agent at work, suspended and resumed (KEEP=1 leaves the cluster up)
	@$(PY) -m demo

.PHONY: test
test: venv scanners tools ## Every test, on a real API server and a real node (WORKERS=0: one after the other)
	@PYTEST_PLUGINS=tests.telling $(PY) -m pytest tests --numprocesses=$(WORKERS) --no-loadscope-reorder --durations=25

.PHONY: test-unit
test-unit: venv ## The tests that need no cluster
	@$(PY) -m pytest tests/unit

.PHONY: lint
lint: venv ## ruff, mypy, import-linter, and that what is generated is current
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(PY) -m bulkhead.api.crd --check
	@$(PY) -m bulkhead.api.floorfile --check
	@$(PY) -m bulkhead.plan.accessfile --check

.PHONY: generate
generate: venv ## Write the CRDs and manifests/install.yaml anew from their sources
	@$(PY) -m bulkhead.api.crd
	@$(PY) -m bulkhead.api.floorfile
	@$(PY) -m bulkhead.plan.accessfile
	@$(PY) manifests/render.py

.PHONY: bench
bench: venv tools ## Speed on the apiserver tier, as a table
	@$(PY) -m bench

.PHONY: cluster
cluster: venv ## A development cluster that stays up (take it down with: make clean)
	@$(PY) -m devcluster up --tier cluster

.PHONY: clean
clean: venv ## Take every development cluster down
	@$(PY) -m devcluster down --all

.PHONY: lock
lock: venv ## Resolve the lock files anew
	@$(PY) -m pip install --quiet uv
	@for name in requirements requirements-dev; do \
	  $(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 $$name.in -o $$name.lock; done
	@$(VENV)/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11 requirements-scan.in -o requirements-scan.lock

.PHONY: venv scanners tools
venv: $(VENV)/.done
scanners: $(SCAN_VENV)/.done

tools: venv
	@$(PY) -m devcluster build

$(VENV)/.done: requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Bulkhead needs Python 3.11 or newer; set PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "==> installing python3-venv"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null; }
	@echo "==> Python environment ($(VENV)): installing the locked packages"
	@$(PYTHON) -m venv $(VENV)
	@$(PY) $(PIP_INSTALL) -r requirements-dev.lock
	@touch $@

$(SCAN_VENV)/.done: requirements-scan.lock
	@echo "==> scanners ($(SCAN_VENV)): installing the locked packages"
	@$(PYTHON) -m venv $(SCAN_VENV)
	@$(SCAN_VENV)/bin/python $(PIP_INSTALL) -r requirements-scan.lock
	@touch $@
