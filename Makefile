# mmscope: every target makes or refreshes its own virtual environment first.
#
#   STACK=onedl      today's maintained packages (default)
#   STACK=openmmlab  the OpenMMLab originals on torch 2.1
#   PYTHON=...       interpreter for the environment (default: search)
#   VENV=...         its folder (default: .venv-<stack>)
#   OPS=1            compile mmcv's ops, which detection needs (10 to 20
#                    minutes, once), and the original mmsegmentation;
#                    `make test` does
#   MMCV_CUDA=1      compile mmcv's CUDA ops too (needs nvcc)
#   BENCH_JSON=...   where `make bench` writes its ratios

STACK ?= onedl
VENV ?= .venv-$(STACK)
OPS ?= 0
BIN = $(VENV)/bin
BENCH_JSON ?= docs/results/bench.json
# Set-up itself runs with any Python 3.9 or later.
SETUP = PYTHONPATH=tools $(or $(shell command -v python3),$(PYTHON)) -m setup_env

.PHONY: help setup demo test lint bench

help:
	@echo 'make demo   set up, train, evaluate and picture on rendered scenes'
	@echo 'make test   set up, check style, run all tests'
	@echo 'make lint   set up, check style only'
	@echo 'make bench  set up, measure speed ratios: $(BENCH_JSON)'
	@echo 'make setup  make or refresh the virtual environment'
	@echo 'options:    STACK=onedl|openmmlab PYTHON=... VENV=... OPS=1 MMCV_CUDA=1'

setup:
	@STACK=$(STACK) VENV=$(VENV) OPS=$(OPS) PYTHON=$(PYTHON) $(SETUP)

# The original mmsegmentation does not load without ops.
ifeq ($(STACK),openmmlab)
demo: OPS = 1
endif

demo: setup
	$(BIN)/python tools/demo.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
ifeq ($(STACK),onedl)
	$(BIN)/mypy
endif

# All hosts are tested.
test: OPS = 1
test: lint
	$(BIN)/python -m pytest -n auto --dist loadfile

# Five minutes on two quiet cores; says what moved since the file was written.
bench: setup
	$(BIN)/python tools/benchmark.py --ratios $(BENCH_JSON)
