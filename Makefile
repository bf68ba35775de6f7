# Owns the commands of the project, the same by hand and in CI. Knows nothing of how a part is built inside.
#
# Needs Rust, Python 3.11 or newer, make, and the package registries. Everything it installs goes into .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
EXTRAS := test,dev

# Two processes share the tests, file by file: what the tests of a file compute once they compute once. A later option of
# PYTEST wins: PYTEST="-n 0" is one process.
PYTEST_TWICE := $(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0

# A stamp is younger than everything its work was made from, so that a second call has nothing to do.
VENV_STAMP     := $(VENV)/.stamp-venv
PACKAGES_STAMP := $(VENV)/.stamp-packages
BUILD_STAMP    := $(VENV)/.stamp-build
BENCH_STAMP    := $(VENV)/.stamp-bench
FIELD_STAMP    := $(VENV)/.stamp-field
SCORE_STAMP    := $(VENV)/.stamp-scoreboard
RUST_SOURCES   := $(shell find rust -type f \( -name '*.rs' -o -name 'Cargo.toml' \) 2>/dev/null) Cargo.toml $(wildcard Cargo.lock)

# Two calls at once would write the same files: the second waits. Systems without flock(1) go unlocked.
LOCK := $(shell command -v flock >/dev/null 2>&1 && echo 'flock .make.lock')

.DEFAULT_GOAL := help
.PHONY: help develop demo test check lint lint-rust lint-python fmt bench field scoreboard lower-bounds lower-packages wheel clean locked-develop locked-bench locked-field locked-scoreboard

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

develop: ## create .venv, build the extension in release mode, install it there (nothing to do when up to date)
	@$(LOCK) $(MAKE) --no-print-directory locked-develop

demo: develop ## train a small network with a planted bug and find it; DEMO="--bug exploding" picks another
	$(BIN)/python -m tensorstats demo $(DEMO)

test: develop ## run the Rust and the Python tests; PYTEST="-k name" narrows the second
	cargo test --quiet -p tensorstats-core
	$(PYTEST_TWICE) $(PYTEST)

check: develop ## run Python's lints and the tests that are not marked slow: under two minutes, for the inner loop
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy
	$(PYTEST_TWICE) -m 'not slow' $(PYTEST)

lint: lint-rust lint-python ## check formatting, lints, types and stubs

lint-rust: ## those of Rust alone
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

lint-python: develop ## those of Python alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest tensorstats._core --mypy-config-file pyproject.toml

fmt: develop ## format the sources and apply the safe fixes
	cargo fmt --all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: develop ## run the benches of both languages; every bench checks its answers
	@$(LOCK) $(MAKE) --no-print-directory locked-bench
	cargo bench -p tensorstats-core
	$(BIN)/python -m pytest benches -o python_files='bench_*.py' -o python_functions='bench_*' --timeout=0 $(PYTEST)

field: develop ## train models of other libraries watched and unwatched (an hour); FIELD="--only resnet" some of them
	@$(LOCK) $(MAKE) --no-print-directory locked-field
	$(BIN)/python benches/field/run.py $(FIELD)

scoreboard: develop ## run buggy and healthy programs under this tool and four others; SCORE="--only xor --tool tensorstats" some
	@$(LOCK) $(MAKE) --no-print-directory locked-scoreboard
	nice $(BIN)/python benches/gallery/run.py $(SCORE)

lower-bounds: develop lower-packages ## run the quick tests with the oldest numpy and torch of pyproject.toml, in .venv-lower
	tests/lower_bounds.sh test

lower-packages: ## install what lower-bounds needs, five gigabytes
	PYTHON=$(PYTHON) tests/lower_bounds.sh install

wheel: develop ## build a wheel from the source distribution; try it on Python 3.11 to 3.13 with numpy alone
	tests/wheel.sh $(BIN)/python

clean: ## remove .venv, build outputs and caches
	rm -rf $(VENV) .venv-lower target .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .make.lock
	rm -f python/tensorstats/_core*.so python/tensorstats/_core*.pyd
	find python tests benches -type d -name __pycache__ -exec rm -rf {} + 2>/dev/null || true

# --- What the commands above are made of ------------------------------------------------------------------------------

locked-develop: $(BUILD_STAMP)
	@:

locked-bench: $(BENCH_STAMP)
	@:

locked-field: $(FIELD_STAMP)
	@:

locked-scoreboard: $(SCORE_STAMP)
	@:

$(VENV_STAMP):
	@command -v cargo >/dev/null || { echo 'error: Rust is needed to build tensorstats: https://rustup.rs' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1); hint: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@touch $@

# maturin resolves the dependencies and the extras of pyproject.toml with pip, and builds on the way.
$(PACKAGES_STAMP): pyproject.toml $(VENV_STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'maturin>=1.14,<2'
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --extras $(EXTRAS)
	@touch $@

# After the first time only the extension has to be built again.
$(BUILD_STAMP): $(PACKAGES_STAMP) $(RUST_SOURCES)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --skip-install
	@touch $@

$(BENCH_STAMP): $(PACKAGES_STAMP)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --extras bench
	@touch $@

$(FIELD_STAMP): $(PACKAGES_STAMP)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --extras field
	@touch $@

$(SCORE_STAMP): $(PACKAGES_STAMP)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --extras scoreboard
	@touch $@
