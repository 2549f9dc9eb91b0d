# Needs Python 3.11, 3.12 or 3.13 as python3; or say which: make demo PYTHON=python3.12
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test check bench bench-quick faults clean

demo: .venv/installed
	$(BIN)/diptych demo --out demo --overwrite

test: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow"

# Ratios against plain code in the same process; benchmarks/README.md says how each is taken.
bench bench-quick: .venv/installed-dev
	$(BIN)/python benchmarks/bench.py $(if $(filter bench-quick,$@),--quick)

# The full forms of tests/faults: hours. mount and chattr, where allowed, make more of them possible.
faults: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/kills.py --kills 210
	$(BIN)/python tests/faults/kills.py --kills 20 --threads 2
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/disks.py --tries 40
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/memory.py --steps 10000 --images 100000
	OMP_NUM_THREADS=1 $(BIN)/python tests/faults/fuzz.py --inputs 1000000

check: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# torch goes first and by itself, pinned: an open range would take whatever build is newest.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv demo dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
