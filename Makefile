# make demo    five real nodes play, lose their leader, recover; under 30 s
# make test    every test
# make lint    ruff and mypy --strict
# make bench   five nodes and the bare loop they are compared with, measured; two minutes
# make bench-peers   the same beside ZooKeeper, etcd, NATS JetStream and PySyncObj, into docs/performance.md; 15 minutes
# Each sets up a virtual environment first, if it is missing or out of date.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Where bench-peers keeps the peers' programs. Nothing of them is installed into the system.
PEERS  ?= build/peers

.PHONY: demo test lint bench bench-peers clean
.DEFAULT_GOAL := test

demo: $(STAMP)
	@$(BIN)/python -m zabzmq.cli.demo

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

bench: $(STAMP)
	@$(BIN)/python -m benchmarks $(BENCH)

bench-peers: $(STAMP)
	@$(BIN)/python -m benchmarks --peers $(PEERS) --write docs/performance.md $(BENCH)

$(STAMP): setup.cfg pyproject.toml constraints.txt tests/page/package.json
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "error: there is no '$(PYTHON)' here. Python 3.11 or later is needed."; \
	  echo "  install it:  Debian/Ubuntu: sudo apt install python3 python3-venv    Fedora: sudo dnf install python3"; \
	  echo "               macOS: brew install python    or name another: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1), and 3.11 or later is needed."; \
	  echo "  name another:  make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "error: this Python lacks venv (module venv or ensurepip), so nothing can be set up."; \
	  echo "  install it:  Debian/Ubuntu: sudo apt install python3-venv    Fedora: sudo dnf install python3-pip"; \
	  echo "               or name another Python: make PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@$(BIN)/python -m compileall -q zabzmq  # so that five nodes need not each do it, where Python may not keep it
	@if command -v npm >/dev/null 2>&1; then npm install --silent --no-package-lock --ignore-scripts --prefix tests/page; \
	  else false; fi || echo "axe-core could not be had (npm): the tests that need it are left out"
	@touch $@

clean:
	rm -rf $(VENV) tests/page/node_modules build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
