PYTHON ?= python3
DALI ?= cuda110
BIN := .venv/bin

.PHONY: setup demo lint test check

setup: .venv/installed

.venv/installed: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[$(DALI),dev]"
	touch $@

demo: setup
	$(BIN)/chexnet-fast demo build/demo

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test
