# Everything here works from a bare clone with Python 3.11 or later, pip and make.
# Each pip call obeys constraints.txt: the versions that were tested, and nothing newer by chance.

PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 2
DEMO_VRAM ?= 6MiB
DEMO_OUT  ?= runs/demo

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --constraint constraints.txt
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(JOBS) --dist worksteal --durations=25
NEEDS := pyproject.toml constraints.txt

.PHONY: help install dev demo test lint types layers tests wide alone format bench soak soak-queue \
	fuzz fuzz-guided browser-check gpu-check campaign figures wheel clean

help:                           ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/' | expand -t 24

install: $(VENV)/.installed     ## the package in .venv, editable
dev: $(VENV)/.dev               ## the same, with the tools that `make test` runs

# The build backend comes first, pinned; --no-build-isolation then keeps pip from fetching another.
$(VENV)/.installed: $(NEEDS)
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "wanflow needs Python 3.11 or later: make PYTHON=python3.11" >&2; exit 2; }
	@echo "installing wanflow into $(VENV)"
	@$(PIP) hatchling
	@$(PIP) --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@echo "installing the development tools into $(VENV)"
	@$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed        ## make a tiny video on the CPU inside a budget, then read its trace
	$(BIN)/wanflow run t2v-tiny --vram $(DEMO_VRAM) --device cpu --out $(DEMO_OUT) --force
	$(BIN)/wanflow trace summary $(DEMO_OUT)/trace.msgpack
	$(BIN)/python -m scripts.strip $(DEMO_OUT)

test: lint types layers tests   ## everything that has to hold

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	$(BIN)/lint-imports

tests: $(VENV)/.dev
	$(PYTEST) -m "not wide"

wide: $(VENV)/.dev              ## the second lane: more budgets, more kills, more of what tests hold to
	$(PYTEST) -m wide

alone: $(VENV)/.dev             ## each test file by itself: does one rest on another?
	OMP_NUM_THREADS=1 $(BIN)/python -m scripts.alone

format: $(VENV)/.dev            ## rewrite the files as ruff likes them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev             ## each script of benchmarks/ once, results as JSON lines
	@for script in benchmarks/*.py; do echo "# $$script" >&2; case $$script in *_budget.py|*sweep_order.py|*planning_time.py|*decode_spills.py|*text_encode.py|*_share.py|*full_size.py) small=--shrink;; *) small=;; esac; \
	  $(BIN)/python $$script $$small || exit 1; done

soak: $(VENV)/.dev              ## both lanes: SOAK=1 lengthens the random ones
	SOAK=1 $(PYTEST)

soak-queue: $(VENV)/.dev        ## hours of a queue beside other commands on its caches: nothing may grow
	$(BIN)/python -m scripts.soak

fuzz: $(VENV)/.dev              ## files changed at random and graphs drawn: FUZZ="rows --minutes 60", goes on in runs/fuzz
	$(BIN)/python -m scripts.fuzz $(FUZZ)

fuzz-guided: $(VENV)/.dev       ## the same files, changed where that reaches new code: FUZZ="gguf --count 20000"
	$(BIN)/python -m scripts.fuzz.guided $(FUZZ)

browser-check: $(VENV)/.dev     ## a report, a video's colours and the page, in headless Chromium (Debian: apt install chromium)
	$(BIN)/python scripts/browser_check.py
	$(BIN)/python -m scripts.browser_colours
	$(BIN)/python -m scripts.watch_check

gpu-check: $(VENV)/.dev         ## on a machine with a card: what is promised of it, measured (docs/gpu.md)
	$(BIN)/python -m scripts.gpu_check

campaign: $(VENV)/.dev          ## hours: 1,000 kills, 200 power cuts, each file operation made to fail; goes on where it was
	$(BIN)/python -m scripts.campaign

figures: $(VENV)/.dev           ## docs/figures, from what was planned and what ran last
	$(BIN)/python -m scripts.figures

wheel: $(VENV)/.dev             ## dist/wanflow-*.whl
	$(BIN)/python -m pip --disable-pip-version-check wheel -qq --no-deps --no-build-isolation \
	  --constraint constraints.txt --wheel-dir dist .

clean:                          ## caches and builds; not .venv, not runs
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
