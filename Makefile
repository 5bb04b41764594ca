# Everything that developers and continuous integration run. `make help` lists it.
#
# Each target sets up what it needs: a virtual environment in .venv, the packages of
# pyproject.toml, and the extension built with optimization. Needed beforehand: Python >= 3.10,
# Rust >= 1.88, make, and the network for the first run.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PY     := $(BIN)/python
UV     := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet
# The extension is rebuilt when one of these changes.
SOURCES := $(shell find src -name '*.rs') Cargo.toml Cargo.lock pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help build test test-rust test-python lint format house bench bench-smoke fuzz-graphs demo docs ci torch clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { echo "Python is missing: install Python 3.10 or later, or name it with PYTHON=/path/to/python3."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$(PYTHON) is $$($(PYTHON) -V), but quantcal needs 3.10 or later: name another with PYTHON=/path/to/python3."; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "The virtual environment could not be made: on Debian and Ubuntu, apt-get install python3-venv."; exit 1; }
	$(PY) -m pip install --quiet --disable-pip-version-check uv
	@touch $@

$(VENV)/.packages: $(VENV)/.created pyproject.toml
	$(UV) -r pyproject.toml --extra demo --extra plot --extra pandas --group test --group lint "maturin>=1.14,<2"
	@touch $@

$(VENV)/.built: $(VENV)/.packages $(SOURCES)
	@command -v cargo >/dev/null || { echo "cargo is missing: install the Rust toolchain from https://rustup.rs."; exit 1; }
	PATH="$(CURDIR)/$(BIN):$$PATH" VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --uv --quiet
	@touch $@

$(VENV)/.torch: $(VENV)/.created pyproject.toml
	$(UV) --group torch
	@touch $@

# Wheels only: the benches skip a library that has none for this Python, and report it.
$(VENV)/.bench: $(VENV)/.created pyproject.toml
	$(UV) --no-build --group bench || echo "Some libraries have no wheel for this Python: the benches skip them."
	@touch $@

$(VENV)/.docs: $(VENV)/.packages pyproject.toml
	$(UV) --group docs
	@touch $@

build: $(VENV)/.built  ## Build the extension, optimized, into .venv

torch: $(VENV)/.torch  ## Install torch (about 3 GB), which some tests and benches use

test: test-rust test-python  ## Run all tests

test-rust:
	@command -v cargo >/dev/null || { echo "cargo is missing: install the Rust toolchain from https://rustup.rs."; exit 1; }
	cargo test --quiet --features onnxruntime

# Each worker takes whole files, as tests of a file share what they open.
test-python: $(VENV)/.built
	$(PY) -m pytest --quiet --numprocesses auto --dist loadfile

lint: $(VENV)/.built  ## Check formatting, lints, types, stubs and words
	cargo fmt --check
	cargo clippy --quiet --all-targets --features onnxruntime -- -D warnings
	PYO3_PYTHON=$(CURDIR)/$(PY) cargo clippy --quiet --features python -- -D warnings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PY) -m mypy.stubtest quantcal._core
	$(PY) tools/words.py

format: $(VENV)/.packages  ## Format Rust and Python
	cargo fmt
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# For another tree, such as a worktree of an older commit: make house HOUSE="--root PATH"
house: $(VENV)/.created  ## Print the structure of the project: sizes, imports, words a sentence
	$(PY) tools/house.py $(HOUSE)

bench: $(VENV)/.built $(VENV)/.bench  ## Run all benches (about twenty minutes on two cores)
	cargo bench
	$(PY) -m benches

bench-smoke: $(VENV)/.built $(VENV)/.bench  ## Run all benches on small data (a few minutes)
	cargo bench --quiet -- --test
	$(PY) -m benches --smoke

# For example: make fuzz-graphs FUZZ="--graphs 200 --seed 7"
fuzz-graphs: $(VENV)/.built  ## Quantize 2,000 random ONNX graphs and report every fault (about half an hour)
	PYTHONPATH=tests $(PY) -m fuzz.run $(FUZZ)

demo: $(VENV)/.built  ## Quantize a real network and compare its accuracy before and after
	$(BIN)/quantcal demo

# Building needs no network, only the first installation does. Open site/index.html afterwards.
docs: $(VENV)/.docs  ## Build the documentation as a site into site/
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet --strict

ci: lint torch docs test bench-smoke demo  ## What continuous integration runs

clean:  ## Remove everything that was built
	rm -rf $(VENV) target demo-output site
