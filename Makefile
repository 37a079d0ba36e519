# mmscope: every target makes or refreshes its own virtual environment first.
#
#   STACK=onedl      today's maintained packages (default)
#   STACK=openmmlab  the OpenMMLab originals on torch 2.1
#   PYTHON=...       interpreter for the environment (default: search)
#   VENV=...         its folder (default: .venv-<stack>)
#   MMCV_CUDA=1      compile mmcv's CUDA ops too (needs nvcc)

STACK ?= onedl
VENV ?= .venv-$(STACK)
BIN = $(VENV)/bin
# Set-up itself runs with any Python 3.9 or later.
SETUP = PYTHONPATH=tools $(or $(shell command -v python3),$(PYTHON)) -m setup_env

.PHONY: help setup demo test lint

help:
	@echo 'make demo   set up, train, evaluate and picture on rendered scenes'
	@echo 'make test   set up, check style, run all tests'
	@echo 'make lint   set up, check style only'
	@echo 'make setup  make or refresh the virtual environment'
	@echo 'options:    STACK=onedl|openmmlab PYTHON=... VENV=... MMCV_CUDA=1'

setup:
	@STACK=$(STACK) VENV=$(VENV) PYTHON=$(PYTHON) $(SETUP)

demo: setup
	$(BIN)/python tools/demo.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: lint
	$(BIN)/python -m pytest
