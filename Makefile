# carspotter: what a developer types. Needs make, Python 3.11+ and the package index, nothing else.
#
#   make demo [PHOTO=car.jpg]   install what listings need, build a hundred drawn ads, and name the car in a photo
#   make test [ARGS="-k box"]   install what the tests need and run the default ring
#   make lowest [ARGS="-k box"] the same with the lowest versions that pyproject.toml allows (gigabytes, minutes)
#   make check                  formatting, lint, strict types, and what nobody uses
#   make docs                   write the generated pages anew and build the site of docs: build/site/index.html
#   make clean                  remove the environments and what demo and build wrote

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
VENV ?= .venv
BASE_VENV ?= .venv-base
LOWEST_VENV ?= .venv-lowest
OUT ?= demo-out
PHOTO ?=
ARGS ?=

# One thread: several threads of torch collapse where the cores are shared, and timings of tests stay comparable.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

SOURCES := $(shell find src -type f -not -name '*.pyc')

.PHONY: help demo test lowest check docs clean python

help:
	@sed -n 's/^#   //p' Makefile

python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; name one: make test PYTHON=/path/to/python3" >&2; exit 1; }

$(VENV)/.installed: pyproject.toml | python
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	@touch $@

$(BASE_VENV)/.installed: pyproject.toml $(SOURCES) | python
	@echo "Installing what listings need into $(BASE_VENV): 700 MB, one to three minutes."
	$(PYTHON) -m venv $(BASE_VENV)
	$(BASE_VENV)/bin/python -m pip install --quiet --upgrade '.[data]'
	@touch $@

demo: $(BASE_VENV)/.installed
	@mkdir -p "$(OUT)"
	$(BASE_VENV)/bin/carspotter demo "$(OUT)/showroom"
	@$(if $(PHOTO),$(BASE_VENV)/bin/carspotter identify "$(PHOTO)" --draw "$(OUT)/annotated.jpg" && \
		echo "The photo with its box: $(OUT)/annotated.jpg",echo "Name the car in a photo of yours: make demo PHOTO=my-car.jpg")

test: $(VENV)/.installed
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

# uv alone resolves to the lowest versions. What old libraries warn of was mended in later ones, so that it is no error.
$(LOWEST_VENV)/.installed: pyproject.toml | python
	$(PYTHON) -m venv --clear $(LOWEST_VENV)
	$(LOWEST_VENV)/bin/python -m pip install --quiet uv
	$(LOWEST_VENV)/bin/uv pip install --quiet --python $(LOWEST_VENV) --resolution lowest-direct --editable '.[test]'
	@touch $@

lowest: $(LOWEST_VENV)/.installed
	$(LOWEST_VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal -W default $(ARGS)

check: $(VENV)/.installed
	$(VENV)/bin/ruff format --check src tests benchmarks docs release tools
	$(VENV)/bin/ruff check src tests benchmarks docs release tools
	$(VENV)/bin/mypy
	$(VENV)/bin/vulture

docs: $(VENV)/.installed
	$(VENV)/bin/python docs/build_site.py

clean:
	rm -rf "$(VENV)" "$(BASE_VENV)" "$(LOWEST_VENV)" "$(OUT)" build dist
