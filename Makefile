# Two commands for a newcomer: `make demo` and `make test`. Each makes .venv by itself; running again is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One numerical thread a worker: the suite runs in parallel. Tests of one file share references and compiled graphs.
WORKERS ?= auto
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile

.PHONY: demo test lint types tests long coverage docs benchmarks clean

demo: $(VENV)/demo.ready
	$(BIN)/isocline demo

test: lint types tests

lint: $(VENV)/test.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/test.ready
	$(BIN)/mypy

tests: $(VENV)/test.ready
	$(PYTEST) -m "not long"

# Those left out above, of ten thousand steps: some minutes.
long: $(VENV)/test.ready
	$(PYTEST) -m long

# Which lines and branches of the library the tests run; it fails below 95 %. About twice the time of `make tests`. Left
# out is compiling in several threads: a lock of coverage and one of torch's compiler then wait for each other.
coverage: $(VENV)/coverage.ready
	$(PYTEST) -m "not long" --timeout 900 --cov --ignore tests/compiled/test_threads.py

# The site, into site/; a warning is an error.
docs: $(VENV)/docs.ready
	$(BIN)/zensical build --clean --strict

# Some hours. Every library in turns, then each in a process of its own. torchode comes without the torchtyping that it
# requires: with current torch that cannot be imported, and as a plugin of pytest it would stop every test.
benchmarks: $(VENV)/benchmarks.ready
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps torchode
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.peers --alone

clean:
	rm -rf $(VENV)

# pip, not another installer: it finds the pinned torch through its own configuration.
$(VENV)/%.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$(EXTRA)]'
	touch $@

$(VENV)/demo.ready: EXTRA = experiments
$(VENV)/test.ready: EXTRA = dev
$(VENV)/coverage.ready: EXTRA = coverage
$(VENV)/docs.ready: EXTRA = docs
$(VENV)/benchmarks.ready: EXTRA = benchmarks
