# Two commands do everything: `make lab` and `make test`. Each creates .venv once and installs into it
# what requirements.txt says, again only when that file changes.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help

COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
# Elections are idle time, so three files run side by side, each with a cluster of its own: they keep two cores
# two thirds busy. Bare pytest does not.
SIDE_BY_SIDE := -n 3 --dist loadfile
# Lesson 2 is the longest and comes first in these: the others go beside it.
LONGEST_FIRST := -n 3 --dist worksteal
PROFILES := --profile supercluster --profile monitoring --profile tools

# A kit (make kit) brings its packages along: nothing is then asked of a network.
ifneq ($(wildcard wheels),)
export PIP_NO_INDEX := 1
export PIP_FIND_LINKS := $(CURDIR)/wheels
endif

.PHONY: help install lab reset doctor test test-sections test-browser test-docker test-cli cluster \
  cluster-down class class-end run site diagrams kit bench soak lint lock clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: .venv/installed ## create .venv and install into it

.venv/installed: requirements.txt requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, $(PYTHON) is `$(PYTHON) -V 2>&1`: make lab PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing JupyterLab, the NATS server and client, pandas and matplotlib into .venv:"
	@echo "some 600 MB on disk, one to three minutes. It happens once."
	$(PYTHON) -m venv .venv
	@bash -o pipefail -c "$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt \
	  | { grep --line-buffered -E '^(Downloading|Installing|Successfully)' || true; } | cut -c 1-100"
	@touch $@

lab: install ## open JupyterLab on your own copies of the notebooks, in lab/
	@$(BIN)/python -m helpers lab

reset: install ## put your copies back to the start, one or all, and keep yours: make reset NB=02
	@$(BIN)/python -m helpers reset $(NB)

doctor: install ## look at this machine, and say what to repair
	@$(BIN)/python -m helpers doctor

test: install ## run every notebook and test that needs no Docker, browser or nats CLI
	$(BIN)/pytest $(SIDE_BY_SIDE)

test-sections: install ## run every section after Connect alone; stop and repeat every long cell; every lesson but 2 in a class
	$(BIN)/pytest -m sections -n 6 --dist worksteal tests/test_stop.py tests/test_sections.py tests/test_shared.py

test-docker: install ## run the tests that need Docker, and the notebooks on the compose cluster
	$(BIN)/pytest -m docker

test-cli: install ## run the tests that need the nats CLI, the exporter and Prometheus
	$(BIN)/pytest -m cli $(SIDE_BY_SIDE)

cluster: install ## start the four nodes in Docker; the notebooks then use them
	$(COMPOSE) up -d
	@$(BIN)/python -c 'import asyncio; from helpers.cluster import open_cluster; \
	  print("ready:", asyncio.run(open_cluster("compose")))'

cluster-down: ## end them and keep their data
	$(COMPOSE) $(PROFILES) down $(DOWN)

class: install ## a cluster for a room, an account each: make class STUDENTS=30 LISTEN=0.0.0.0 NAME=10.0.0.7
	@$(BIN)/python -m helpers.classroom start --students $(or $(STUDENTS),30) \
	  $(if $(LISTEN),--listen $(LISTEN)) $(if $(NAME),--host $(NAME))

class-end: install ## end its servers; accounts and data stay
	@$(BIN)/python -m helpers.classroom end

test-browser: install ## run every notebook twice in JupyterLab, in headless Chromium; open the pages
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[browser]'
	$(BIN)/pytest -m browser $(LONGEST_FIRST) tests/test_browser.py tests/test_site.py

run: install ## execute one notebook from a fresh kernel and store its outputs: make run NB=01_...
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace \
	  --ExecutePreprocessor.record_timing=False notebooks/$(NB).ipynb

site: install ## write the executed notebooks and the documents as pages to read offline, in site/
	$(BIN)/python docs/site/build.py
	@echo "open site/index.html"

diagrams: install ## draw the notebooks' Mermaid diagrams for the site, in headless Chromium
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[browser]'
	$(BIN)/python docs/site/diagrams.py

kit: site ## pack everything for machines of this kind that have no network: build/nats-patterns-kit.tar.gz
	rm -rf build/nats-patterns-kit && mkdir -p build/nats-patterns-kit
	git archive HEAD | tar -x -C build/nats-patterns-kit
	cp -R site build/nats-patterns-kit/site
	grep -v '^-' requirements.txt | $(BIN)/python -m pip download --quiet --disable-pip-version-check \
	  --dest build/nats-patterns-kit/wheels -c requirements.lock -r /dev/stdin setuptools==80.9.0
	tar -C build -czf build/nats-patterns-kit.tar.gz nats-patterns-kit && rm -r build/nats-patterns-kit

bench: install ## measure everything side by side, twenty minutes, and write docs/benchmarks.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target build/peers natsrpy==0.1.4 || true
	PYTHONPATH=build/peers $(BIN)/python -m benchmarks $(PARTS)

soak: install ## break nodes at random for half an hour while orders are published and paid, and count
	for seed in $(or $(SEEDS),1 2 3 4 5); do $(BIN)/python tests/faults/soak.py --seed $$seed --faults $(or $(FAULTS),12) \
	  --backend $(or $(BACKEND),embedded) || exit 1; done
	$(BIN)/python tests/faults/kernels.py --seed $(firstword $(SEEDS) 1)

lint: install ## check the style of code and notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lock: install ## renew requirements.lock from requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	grep -v '^-' requirements.txt | $(BIN)/python -m uv pip compile --universal --python-version 3.11 \
	  --no-header --no-annotate --quiet --output-file requirements.lock -

clean: ## remove .venv and what the tools left
	rm -rf .venv *.egg-info .pytest_cache .ruff_cache
