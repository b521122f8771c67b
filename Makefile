# The front door. Every target sets the environment up first, which takes no time when nothing has changed.
PYTHON ?= python3

MAKEFLAGS += --no-print-directory
.SILENT:
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-all check format bench gpu-check ember ember-eval lock install uninstall clean

VENV := .venv/bin
INSTALL = $(PYTHON) .ci/install.py $(if $(PREFIX),--prefix "$(PREFIX)") --destdir "$(DESTDIR)" $(INSTALL_OPTIONS)
MEASUREMENTS := imports command forwarding crowd starts curve throughput

help: ## say what there is (this)
	awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make or repair .venv; the other targets do this by themselves
	$(PYTHON) .ci/setup.py

demo: setup ## see a model being loaded and asked, on this machine
	$(VENV)/python .ci/demo.py

test: setup ## run the tests, but not the slow ones
	$(VENV)/pytest -m "not slow and not gpu"

test-slow: setup ## run the slow tests
	$(VENV)/pytest -m "slow and not gpu" || [ $$? -eq 5 ] # 5: there are none

test-all: test test-slow ## run all tests that need no GPU

check: setup ## style, types, and who may import whom
	$(VENV)/ruff check
	$(VENV)/ruff format --check
	$(VENV)/mypy
	$(VENV)/lint-imports

format: setup ## bring the sources into shape
	$(VENV)/ruff check --fix
	$(VENV)/ruff format

bench: setup ## measure, and print tables: 20 minutes, or a few with BENCH=--quick (docs/performance.md)
	for script in $(MEASUREMENTS); do echo "== $$script"; $(VENV)/python -m "bench.$$script" $(BENCH) || exit 1; done

gpu-check: setup ## prove on a GPU what is claimed for it; without one, rehearse it in two minutes (docs/gpu.md)
	$(VENV)/python -m bench.gpu_check $(BENCH)

ember: setup ## train the built-in model anew, into bench/ember/out (under half an hour on two quiet cores)
	nice $(VENV)/python -m bench.ember.train --out bench/ember/out

ember-eval: setup ## ask the built-in model its held-out test, and print the figures
	$(VENV)/python -m bench.ember.evaluate

lock: ## pin the newest versions of everything anew
	$(PYTHON) .ci/lock.py

install: ## install: as root for this machine (below /usr/local), else for this user (below ~/.local); PREFIX=, DESTDIR=
	$(INSTALL)

uninstall: ## remove what install has installed; models, settings and accounts stay
	$(INSTALL) --uninstall

clean: ## remove .venv, caches and built files
	rm -rf .venv .venv.lock .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
