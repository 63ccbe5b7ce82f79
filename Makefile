# The commands that contributors need. `make demo` and `make test` set up .venv by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SIGN := .venv-sign
SIGN_READY := $(SIGN)/.ready
NCNN := .venv-ncnn
NCNN_READY := $(NCNN)/.ready
OLD_TFLITE := .venv-tflite-runtime
OLD_TFLITE_READY := $(OLD_TFLITE)/.ready
REFERENCE := models/cluttered_digits.pt

.PHONY: demo test test-long test-ncnn test-interpreters test-programs test-slow test-search test-trt test-browser test-docs test-arm test-recipes hostile fuzz coverage mutants figures \
	docs gpu track check clean

demo: $(READY)
	$(BIN)/ulsam-export $(REFERENCE) --target all --output cluttered_digits.bundle

# One process per core, each with one thread (tests/__init__.py). Tests that are neighbours in a file or folder share
# fixtures; a worker that is idle takes half of another worker's remaining tests.
PYTEST := $(BIN)/pytest -n auto --dist worksteal

test: $(READY) $(SIGN_READY)
	$(PYTEST) -m "not slow and not long and not arm and not gpu and not browser"

# The fast tests that skip where a program is missing; 'python3 tests/needs.py missing' prints the packages to install.
test-programs: $(READY)
	$(PYTEST) -m "needs and not slow and not long and not arm and not gpu and not browser"

# Tests of some ten seconds each: other environments, whole exports in processes of their own, other people's files.
test-long: $(READY)
	$(PYTEST) -m "long and not slow and not gpu"

test-slow: $(READY) $(SIGN_READY)
	$(PYTEST) -m "slow and not gpu"

# The target that isn't part of "all", in an environment of its own.
test-ncnn: $(NCNN_READY)
	$(NCNN)/bin/python -m pytest -n auto --dist loadfile -m "ncnn and not slow" tests/exporters

# One .tflite in every interpreter, tflite-runtime among them, which needs NumPy 1 and so an environment of its own.
test-interpreters: $(READY) $(OLD_TFLITE_READY)
	ULSAM_DEPLOY_PYTHON_TFLITE_RUNTIME=$(abspath $(OLD_TFLITE)/bin/python) $(BIN)/pytest tests/runtimes/test_interpreters.py

# Searches (auto, tune), targets in parallel, low precision through the whole pipeline.
test-search: $(READY)
	$(PYTEST) -m "slow and not gpu" tests/ulsam_deploy/exporting/search/test_auto.py tests/ulsam_deploy/exporting/search/test_tune.py \
		tests/ulsam_deploy/exporting/test_parallel.py tests/ulsam_deploy/exporting/test_precisions.py \
		tests/exporters/test_diffuse.py

# Every network of the paper's table through TensorRT's own parser and builder, in every precision; each in one kind of
# batch (test-slow has both).
test-trt: $(READY)
	$(PYTEST) --dist load -m "slow and not exhaustive and not gpu" tests/exporters/test_trt_paper.py tests/exporters/test_trt_int8.py

# The report in a real Chromium: needs Debian's chromium and chromium-driver, and skips with a message without them.
test-browser: $(READY)
	$(BIN)/pytest -m browser

# Runs every code block of the README and the docs unchanged.
test-docs: $(READY)
	$(PYTEST) tests/test_docs.py

# Emulated Raspberry Pis: needs qemu-user, gcc and libc6-dev, and the network once.
test-arm: $(READY)
	$(PYTEST) --dist load -m arm --durations 10

# Every recipe for CI in an empty folder of bare Debian 12 and 13, Ubuntu 22.04 and 24.04, and both Dockerfiles line by
# line: needs root's rights, mmdebstrap and the network; logs in build/recipes. An hour.
test-recipes: $(READY)
	$(BIN)/pytest -m slow tests/test_recipes.py tests/test_dockerfiles.py

# Runs the command line on every known hostile input, and prints counts by kind.
hostile: $(READY)
	$(BIN)/python -m tests.hostile

# Fuzzes each target for SECONDS and prints a table, then runs random networks through every engine; see tests/fuzz.
SECONDS ?= 60
fuzz: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz.table --seconds $(SECONDS)
	$(BIN)/python -m tests.fuzz.engines --seconds $(SECONDS)

# The lines and branches that the fast tests reach, also in their subprocesses.
coverage: $(READY) $(SIGN_READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[coverage]'
	$(PYTEST) -m "not slow and not long and not arm and not gpu and not browser" --cov --cov-report=term

# Small changes of the check and of the matching that no test detects: every EVERYth one, of all or of the given FILES.
EVERY ?= 20
mutants: $(READY)
	$(BIN)/python benchmarks/generated_mutants.py --every $(EVERY) $(FILES)

# Regenerates every table and plot of docs/peers.md and docs/performance.md: an hour, on a machine that runs nothing
# else.
figures: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[peers]'
	set -e; for script in peers profile_attention fusion_growth growth; do $(BIN)/python benchmarks/$$script.py --write; done
	$(BIN)/python benchmarks/pipeline.py --write
	$(BIN)/python benchmarks/neighbours.py --write

# The documentation as a site with navigation and search, in build/site; a broken link is an error.
docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# Everything that a machine with an NVIDIA GPU and no network needs to fill the table of docs/tensorrt.md, in parts
# below 48 MiB, in build/gpu.
gpu: $(READY)
	$(BIN)/python benchmarks/gpu/prepare.py --cuda

# Records times, sizes and instruction counts of this commit; 'asv compare' and 'asv publish' compare them with
# earlier ones.
track: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[track]'
	cd benchmarks && ../$(BIN)/asv machine --yes && ../$(BIN)/asv run --python=same --set-commit-hash $$(git rev-parse HEAD)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# constraints.txt pins the versions that CI used; torch is installed first because everything else builds on it.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14) and "Python 3.10 to 3.13 is needed; set PYTHON=...")'
	@echo "Setting up $(VENV): torch, the converters and the engines. This takes some minutes, once."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $@

# Signing has its own environment: it needs newer packages than the tflite extra allows, and keeps keys apart from
# builds.
$(SIGN_READY): pyproject.toml constraints-sign.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14) and "Python 3.10 to 3.13 is needed; set PYTHON=...")'
	test -x $(SIGN)/bin/python || $(PYTHON) -m venv $(SIGN)
	$(SIGN)/bin/python -m pip install --quiet --constraint constraints-sign.txt --editable '.[sign]'
	touch $@

# It sees what .venv has, and has ncnn and pnnx besides: in .venv they would become part of every "--target all".
$(NCNN_READY): $(READY)
	test -x $(NCNN)/bin/python || $(BIN)/python -m venv --without-pip $(NCNN)
	$(BIN)/python -c 'import glob, site; (place,) = glob.glob("$(NCNN)/lib/python*/site-packages"); \
		open(place + "/shared.pth", "w").write(f"import site; site.addsitedir({site.getsitepackages()[0]!r})\n")'
	$(BIN)/python -m pip --python $(NCNN)/bin/python install --quiet --constraint constraints.txt --editable '.[ncnn]'
	touch $@

# tflite-runtime has wheels up to Python 3.11. Nothing of this project is installed there.
$(OLD_TFLITE_READY): Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 12) and "tflite-runtime needs Python 3.10 or 3.11; set PYTHON=...")'
	test -x $(OLD_TFLITE)/bin/python || $(PYTHON) -m venv $(OLD_TFLITE)
	$(OLD_TFLITE)/bin/python -m pip install --quiet tflite-runtime==2.14.0 numpy==1.26.4
	touch $@

clean:
	rm -rf $(VENV) $(SIGN) $(NCNN) $(OLD_TFLITE) build *.egg-info .mypy_cache .pytest_cache .ruff_cache *.bundle models/*.bundle
