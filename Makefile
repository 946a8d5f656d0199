# `make nano` runs the benchmark on a laptop, `make test` passes the tests; both set up .venv first.
PYTHON ?= python3.11
JOBS ?= 2
SEEDS ?= 0
BIN := .venv/bin

.PHONY: setup nano test format clean

setup: .venv/ready

.venv/ready: pyproject.toml .ci/requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --progress-bar off -r .ci/requirements.txt
	$(BIN)/python -m pip install --progress-bar off --no-deps --no-build-isolation -e .
	@touch $@

nano: setup
	$(BIN)/ecodatum run experiments/nano.yaml --jobs $(JOBS) --seeds $(SEEDS)

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
