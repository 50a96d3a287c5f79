PYTHON ?= python3
DALI ?= cuda110
BIN := .venv/bin
DALI2 := .venv-cuda130

.PHONY: setup demo lint test test-dali2 check

setup: .venv/installed

.venv/installed: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[$(DALI),dev]"
	touch $@

demo: setup
	$(BIN)/chexnet-fast demo build/demo

# One process a core, each with one thread: DenseNet-121 on more threads than cores is slower than on one.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

# What .venv holds, but with the DALI of CUDA 13 before its own.
$(DALI2)/installed: .venv/installed
	test -x $(DALI2)/bin/python || $(BIN)/python -m venv $(DALI2)
	$(BIN)/python -c 'import site; print(*site.getsitepackages())' > "$$(echo $(DALI2)/lib/python*/site-packages)/venv.pth"
	$(DALI2)/bin/python -m pip install --quiet --editable ".[cuda130]"
	$(DALI2)/bin/python -c 'from nvidia import dali; assert dali.__version__ >= "2", dali'
	touch $@

test-dali2: $(DALI2)/installed
	OMP_NUM_THREADS=1 $(DALI2)/bin/python -m pytest --numprocesses auto --dist loadfile -m "not slow" $(addprefix tests/test_, loaders.py epochs.py faults.py augment.py parity.py)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test test-dali2
