# LungForge. `make demo` and `make test` work on a fresh machine with Python 3.11, make and git.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed-from-lock
DATA ?= build/demo
DOCKER ?= docker
COMPOSE ?= $(shell $(DOCKER) compose version >/dev/null 2>&1 && echo $(DOCKER) compose || echo docker-compose) -f docker/compose.yaml
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

# What the tests of containers, Slurm, Prometheus and the reports need of Debian.
PACKAGES := iproute2 prometheus chromium docker.io docker-compose iptables debootstrap slurm-wlm munge

.PHONY: help install demo test test-slow test-all test-cluster packages lint format docs bench cluster image up down lock clean
.DEFAULT_GOAL := help

help: ## say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# Installed once, and again only when the lock or the project's own metadata change.
$(INSTALLED): requirements.lock requirements-dev.lock pyproject.toml
	@test -x $(BIN)/python || command -v $(PYTHON) >/dev/null || \
	  { echo "LungForge needs Python 3.11 (make install PYTHON=/path/to/python3.11)" >&2; exit 2; }
	@if test -x $(BIN)/python; then $(BIN)/python .ci/check_python.py; else $(PYTHON) .ci/check_python.py; fi
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes \
	  --requirement requirements.lock --requirement requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

install: $(INSTALLED) ## all of it into .venv, from the locks (what the others below begin with)

demo: $(INSTALLED) ## synthetic CT, a short training and a report, in minutes (DATA=folder for its files)
	$(BIN)/lungforge demo --out $(DATA)

# A file's tests share what is costly to make, so each file stays in one process; tests/conftest.py orders them.
PARALLEL ?= --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: $(INSTALLED) ## what tells that all of it works, in under 10 minutes (TESTS=paths and options of pytest)
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL) $(TESTS)

test-slow: $(INSTALLED) ## the rest: every fault, many sizes, several hosts (some 15 minutes)
	$(BIN)/python -m pytest -m "slow and not alone" $(PARALLEL) $(TESTS)
	$(BIN)/python -m pytest -m "slow and alone" $(TESTS)

test-all: $(INSTALLED) ## all tests, in some 35 minutes: one lane, for what both lanes make is made once
	$(BIN)/python -m pytest -m "not alone" $(PARALLEL) $(TESTS)
	$(BIN)/python -m pytest -m "slow and alone" $(TESTS)

test-cluster: $(INSTALLED) packages ## the tests with containers, Slurm and several hosts (Debian, as root)
	LUNGFORGE_TEST_CLUSTER=1 $(BIN)/python -m pytest tests/cluster tests/docker \
	  tests/services/test_stages_on_a_failing_store.py tests/benchmarks/test_study.py $(TESTS)

packages: ## install what those need, by apt-get
	apt-get update --quiet
	apt-get install --quiet --yes --no-install-recommends $(PACKAGES)

lint: $(INSTALLED) ## style, types, words, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck .ci/run cluster/local/*.sh cluster/slurm/lungforge.sbatch docker/*.sh
	$(BIN)/hadolint docker/Dockerfile
	$(BIN)/yamllint --strict .
	$(BIN)/python .ci/glossary.py

format: $(INSTALLED) ## put the code into its standard form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED) ## the site, in build/site (then: python3 -m http.server --directory build/site)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(INSTALLED) ## the benchmarks, one after another (tens of minutes)
	$(BIN)/python -m benchmarks.preprocess
	$(BIN)/python -m benchmarks.sdm
	$(BIN)/python -m benchmarks.gpu_readiness
	$(BIN)/python -m benchmarks.plan
	$(BIN)/python -m benchmarks.sampling_scale
	$(BIN)/python -m benchmarks.fid

cluster: $(INSTALLED) ## several Ray hosts and an S3 on this Linux machine, to see them fail (as root)
	$(BIN)/python -m cluster.local up

image: ## the images of docker/Dockerfile (IMAGE_OPTIONS=options of docker build)
	DOCKER_BUILDKIT=1 $(DOCKER) build --file docker/Dockerfile --target store \
	  --tag lungforge-store:$(VERSION) $(IMAGE_OPTIONS) .
	DOCKER_BUILDKIT=1 $(DOCKER) build --file docker/Dockerfile --target lungforge \
	  --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) \
	  --tag lungforge:$(VERSION) $(IMAGE_OPTIONS) .

up: ## a cluster in containers, and the whole chain on it (UP_OPTIONS="--scale worker=2")
	docker/prepare.sh
	$(COMPOSE) up --detach $(UP_OPTIONS)
	$(COMPOSE) logs --follow --no-log-prefix chain
	exit $$($(DOCKER) wait lungforge-chain)

down: ## end what `make up` started; its data stay in volumes
	$(COMPOSE) --profile monitoring down --remove-orphans

lock: ## resolve the locks afresh from pyproject.toml, with the hashes of all files
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --dry-run --ignore-installed \
	  --report build/lock/all.json '.[dev]'
	$(PYTHON) .ci/lock.py --pins build/lock/all.json > build/lock/pins.txt
	build/lock/bin/python -m pip install --quiet --dry-run --ignore-installed \
	  --report build/lock/runtime.json --constraint build/lock/pins.txt '.[all]'
	build/lock/bin/python -m pip install --quiet --dry-run --ignore-installed --no-deps \
	  --report build/lock/opencv.json "$$(sed -n 's/^opencv-python==/opencv-python-headless==/p' build/lock/pins.txt)"
	$(PYTHON) .ci/lock.py build/lock/runtime.json build/lock/all.json build/lock/opencv.json

clean: ## remove what was made here, the environment included
	rm -rf $(VENV) build .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
