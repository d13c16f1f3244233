# Every target but `clean` and `constraints` first sets up .venv by itself: with uv where it is
# found, else with venv and pip. It needs nothing from the network but the package index.
#
#   make demo                  the first study in a small form
#   make test                  the quick tests
#   make test-slow             all tests, and many more examples of each property
#   make test-faults           kills, damaged files, full disks; writes docs/reliability.md
#   make lint                  ruff and mypy
#   make docs                  the documentation, into docs/_build/html
#   make pages                 the pages of the studies, from committed lines, without training
#   make studies               train all studies and make their pages; how long each took is on
#                              its page, and `make studies ONLY=ladder` trains one
#   make install EXTRA=cuda    the build for an accelerator: cuda or tpu
#   make constraints           resolve the pinned versions again (needs uv)
#   make clean                 remove .venv
#
# PYTHON=python3.12 chooses the Python (3.11 or newer) that .venv is made with.

EXTRAS := cuda tpu bucket prepare frameworks huggingface search torch tensorboard wandb test dev docs
ifneq ($(filter-out $(EXTRAS),$(EXTRA)),)
$(error EXTRA=$(EXTRA) is unknown: choose from $(EXTRAS))
endif

VENV := .venv
RUN := $(VENV)/bin/python -m
UV := $(shell command -v uv 2>/dev/null)

# Studies to train: all that have a page, or ONLY="ladder relax".
STUDIES := $(or $(ONLY),$(notdir $(patsubst %/,%,$(wildcard docs/studies/*/))))

.PHONY: help demo test test-slow test-faults lint docs pages studies install constraints clean
.NOTPARALLEL: # two installers at once would break .venv

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

demo: $(VENV)/installed-base
	$(RUN) experiments.ladder --variants standard --rungs conv local dense --seeds 3 --out results/demo

test: $(VENV)/installed-test
	$(RUN) pytest

test-slow: $(VENV)/installed-test
	CNN_IMPLEMENTATION=fastest $(RUN) pytest -m "" --hypothesis-profile=slow

test-faults: $(VENV)/installed-test
	RELIABILITY=docs/reliability.md $(RUN) pytest -m fault

lint: $(VENV)/installed-dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

# Warnings are errors: a link, a name or an example that no longer works stops the build.
docs: $(VENV)/installed-docs
	$(RUN) sphinx -b html -W --keep-going --quiet docs docs/_build/html

pages: $(VENV)/installed-base
	$(RUN) experiments.pages

# A study that was interrupted goes on where it was.
studies: $(VENV)/installed-base
	@set -e; for name in $(STUDIES); do $(RUN) experiments.$$name --out results/$$name; done
	$(RUN) experiments.pages --take results --only $(STUDIES)

install: $(addprefix $(VENV)/installed-,$(or $(EXTRA),base))

# An empty file for each extra says that .venv holds it, in the versions of these two files.
$(VENV)/installed-%: pyproject.toml constraints.txt $(VENV)/created
	@echo "installing $* into $(VENV) (only the first time)"
ifneq ($(UV),)
	@uv pip install --quiet --python $(VENV)/bin/python -c constraints.txt -e '$(if $(filter base,$*),.,.[$*])'
else
	@$(RUN) pip install --quiet --disable-pip-version-check -c constraints.txt -e '$(if $(filter base,$*),.,.[$*])'
endif
	@touch $@

$(VENV)/created:
ifneq ($(UV),)
	@uv venv --quiet --allow-existing --python '$(or $(PYTHON),>=3.11)' $(VENV)
else
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        exec $$python -m venv $(VENV); \
	    fi; \
	done; \
	echo "error: no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python" >&2; \
	exit 1
endif
	@touch $@

# Pins that still fit are kept; UPGRADE=--upgrade takes the newest of everything.
constraints:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 $(UPGRADE) \
	    --quiet --no-annotate --custom-compile-command "make constraints" --output-file constraints.txt

clean:
	rm -rf $(VENV)
