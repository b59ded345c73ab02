# Two commands do all the set-up that they need: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= runs/demo

.PHONY: demo test check lint study bench fuzz faults lock clean

demo: $(VENV)/run.done  ## pre-train a team on a shipped dataset, hand it over, fine-tune it, and write the report
	$(BIN)/ovmse train --preset demo --out $(DEMO)
	$(BIN)/ovmse report $(DEMO)

test: $(VENV)/test.done  ## all tests
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=15

check: lint  ## before a commit: style, types, contracts and the fast tests, two and a half minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=15 -m "not slow"

lint: $(VENV)/test.done  ## style, types, spelling, and what may import what
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/lint-imports
	$(BIN)/python tools/structure.py
	$(BIN)/mypy

study: $(VENV)/run.done  ## the comparison of methods in studies/, about an hour on two cores
	$(BIN)/python studies/methods.py

bench: $(VENV)/run.done  ## speed and memory against this machine's own ceilings, about an hour and a half on two cores
	$(BIN)/python -m benchmarks

fuzz: $(VENV)/test.done  ## thousands of damaged logs of every format, about ten minutes on two cores
	$(BIN)/python tests/fuzz/fuzz.py

faults: $(VENV)/test.done  ## runs killed, disks filled, files damaged, numbers gone bad: about half an hour on two cores
	PYTHONPATH=tests $(BIN)/python -m faults

lock: $(VENV)/lock.done  ## compile the hash-pinned requirement files anew
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 pyproject.toml --extra pettingzoo -o requirements/run.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 pyproject.toml --extra pettingzoo --extra gymnasium --extra jumanji --extra formats --extra tune --extra onnx --extra sumo --extra test -o requirements/test.txt

clean:  ## remove the environment and all runs
	rm -rf $(VENV) runs

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/lock.done: | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	touch $@

$(VENV)/run.done: requirements/run.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

$(VENV)/test.done: requirements/test.txt $(VENV)/run.done
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/test.txt
	touch $@
