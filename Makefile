# The course in one command: `make course`. `make` alone lists what there is.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
CHAIN  := $(PY) -m tools.build
STAMP  := $(VENV)/.installed
# As many tests at a time as there are cores, at most four: a notebook may take four GB.
PYTEST := $(PY) -m pytest -q -n logical --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help course test check lab workshop notebooks lint browser audit oldest newest colab colab-python wheel badges wheels \
  release clean
# For the throw-away environments: which tests, which notebooks (as "00 03"; all without), and Colab's list of packages.
TESTS      ?=
NOTEBOOKS  ?=
PROFILE    ?= fast
COLAB_LIST ?= tools/colab.txt
THROWAWAY  := $(PYTHON) -m tools.environments
# A stick of wheels, as `make wheels` fills it, stands in for the network, but for what asks which releases there are.
ifneq ($(wildcard wheels/*.whl),)
ifeq ($(filter wheels wheel oldest newest colab,$(MAKECMDGOALS)),)
export PIP_NO_INDEX := 1
export PIP_FIND_LINKS := wheels
endif
endif

help:  ## list the targets
	@echo "BoneXage. Targets (PYTHON=$(PYTHON), VENV=$(VENV)):"
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "  make %-10s %s\n", $$1, $$2 }'

# Done once, and again when pyproject.toml changes; an interrupted set-up leaves no stamp and is repeated.
# pip hands on a warning about any editable installation, in a box of stars: no learner's business.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: '$(PYTHON)' is not Python 3.11 or newer: install one, then make PYTHON=python3.12 ..."; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { \
	  echo "error: '$(PYTHON) -m venv' failed: on Debian or Ubuntu run 'sudo apt-get install python3-venv'," \
	  "elsewhere try another Python with make PYTHON=..."; exit 1; }
	@echo "set-up: installing into $(VENV) (a few minutes the first time)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --upgrade pip || { \
	  echo "error: pip cannot reach a package index: check the network or proxy, then run make again"; exit 1; }
	@PYTHONWARNINGS="ignore:Editable installation" \
	  $(PY) -m pip install --quiet --disable-pip-version-check -e ".[notebooks,dev]" || { \
	  echo "error: the installation failed, see above; after mending it run make again"; exit 1; }
	@touch $@

course: $(STAMP)  ## run every notebook on the embedded cohort and build the site
	@$(CHAIN) execute --profile cpu --out build/course/notebooks; ran=$$?; \
	  echo; $(CHAIN) site --out build/course || exit $$?; \
	  echo "open build/course/index.html in a browser; the table is also in build/course/ledger.csv"; exit $$ran

test: $(STAMP)  ## lint and all tests
	@$(PY) -m ruff check .
	@$(PYTEST)

check: lint  ## lint and the fast tests, about three minutes
	@$(PYTEST) -m "not slow"

lab: $(STAMP)  ## open JupyterLab in notebooks/
	@$(PY) -m jupyterlab --ServerApp.root_dir=notebooks

workshop: $(STAMP)  ## copies of the core notebooks for a workshop, in build/workshop: code filled in, decisions open
	@$(CHAIN) workshop --out build/workshop
	@echo "open them: $(PY) -m jupyterlab --ServerApp.root_dir=build/workshop"

notebooks: $(STAMP)  ## execute the sources and save the notebooks with their outputs, and the cover
	@$(CHAIN) execute --profile cpu --save --ledger build/notebooks
	@$(PY) -c "from pathlib import Path; from bonexage_utils.course.nb00.figures import draw_growth; \
	  Path('notebooks/cover.png').write_bytes(draw_growth().png)"
	@$(CHAIN) check

lint: $(STAMP)  ## ruff, who may import whom, and the rules for notebooks
	@$(PY) -m ruff check .
	@$(VENV)/bin/lint-imports --no-logo
	@$(CHAIN) check

browser: $(STAMP)  ## the built site, the game and JupyterLab in headless Chromium, screenshots in build/browser
	@$(CHAIN) browser --site build/course --out build/browser
	@$(PYTEST) tests/tools/test_browser.py

audit: $(STAMP)  ## the long runs: 5,000 made-up inputs a property, 3,000 made-up calls, each command killed ten times
	@BONEXAGE_CASES=5000 BONEXAGE_CALLS=3000 BONEXAGE_KILLS=10 $(PYTEST)

oldest:  ## the fast tests with the oldest packages that pyproject.toml allows; PYTHON=python3.11 is the oldest Python
	@$(THROWAWAY) oldest --tests $(TESTS)

newest:  ## the fast tests and the notebooks with the newest releases
	@$(THROWAWAY) newest --profile $(PROFILE) $(NOTEBOOKS) --tests $(TESTS)

colab:  ## the saved notebooks with Colab's packages, alone in an empty folder; NOTEBOOKS="00 03" PROFILE=cpu
	@$(THROWAWAY) colab --list $(COLAB_LIST) --profile $(PROFILE) $(NOTEBOOKS)

colab-python:
	@$(THROWAWAY) colab-python --list $(COLAB_LIST)

wheel:  ## build the wheel, install it alone, and use it in an empty folder
	@$(THROWAWAY) wheel

badges:
	@$(PYTHON) -m tools.badges

release:  ## stamp a version or a fork's address: make release VERSION=0.2.0 ADDRESS=https://github.com/YOU/FORK
	@$(PYTHON) -m tools.release --version "$(VERSION)" --address "$(ADDRESS)"

wheels: $(STAMP)  ## fill wheels/ and data/ for machines without a network: copy this folder, then make lab
	@$(PY) -m pip download --quiet --disable-pip-version-check --dest wheels ".[notebooks,dev]" "setuptools>=77" pip
	@cd notebooks && BONEXAGE_PROFILE=cpu BONEXAGE_DATA=phantom ../$(PY) -c "from bonexage_utils.course import start; start()"

clean:  ## remove what was built, and caches; data, checkpoints and the environment stay
	@rm -rf build .pytest_cache .ruff_cache .hypothesis *.egg-info
	@find . \( -path ./$(VENV) -o -path ./.venv -o -path ./.git -o -path ./data -o -path ./checkpoints \) -prune -o \
	  \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -exec rm -rf {} +
