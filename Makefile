# Everything a newcomer types. `make demo` and `make test` set up .venv by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
REFERENCE := models/cluttered_digits.pt

.PHONY: demo test test-slow test-browser test-docs test-arm check clean

demo: $(READY)
	$(BIN)/ulsam-export $(REFERENCE) --target all --output cluttered_digits.bundle

# One process a core, each with one thread: engines that share cores spend their time waiting for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

test: $(READY)
	$(PYTEST) -m "not slow and not arm and not gpu and not browser"

test-slow: $(READY)
	$(PYTEST) -m "slow and not gpu"

# The report in a real Chromium: needs Debian's chromium and chromium-driver, and skips with a word without them.
test-browser: $(READY)
	$(BIN)/pytest -m browser

# Every code block of the README and the docs, run as it stands there.
test-docs: $(READY)
	$(PYTEST) tests/test_docs.py

# Raspberry Pis in emulation: needs qemu-user, gcc and libc6-dev, and the network once.
test-arm: $(READY)
	$(BIN)/pytest -m arm --durations 10

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# constraints.txt pins what CI ran; torch goes first because everything else builds on it.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14) and "Python 3.10 to 3.13 is needed; set PYTHON=...")'
	@echo "Setting up $(VENV): torch, the converters and the engines. This takes some minutes, once."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache *.bundle models/*.bundle
