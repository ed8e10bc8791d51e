.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DOCS_INSTALLED := .venv/.docs
BENCH := .venv-bench/bin
BENCH_INSTALLED := .venv-bench/.installed
DEMO := runs/demo
# Two processes for the tests, about 3 GB each, with a file at a time: its runs and models are made once.
WORKERS := --numprocesses=2 --dist=loadfile
# For all platforms and Pythons, with the hashes of all files of each version.
COMPILE := .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock" $(UPGRADE)

export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help .venv test test-all check demo docs bench lock clean

help: ## List the targets
	@sed -n 's/^\([a-z.-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

.venv: $(INSTALLED) ## Create the environment and install the pinned packages, once (PYTHON=python3 by default)

# The stamp is written last, so an installation that failed is tried again. Without isolation the package is built by
# the setuptools of requirements.txt, whose hash is known, as all that is installed here.
$(INSTALLED): pyproject.toml requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -r requirements.txt -r requirements-dev.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	@touch $@

test: $(INSTALLED) ## Run the fast tests
	$(BIN)/python -m pytest $(WORKERS)

test-all: $(INSTALLED) ## Run all tests, the slow ones too
	$(BIN)/python -m pytest $(WORKERS) -m ""

check: $(INSTALLED) ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy wmr_tf trainers tuning reproduce benchmarks studies

demo: $(INSTALLED) ## Train three models on the embedded digits and compare them under attack
	rm -rf $(DEMO)
	$(BIN)/python -m trainers.digits --method=natural --output_dir=$(DEMO)/natural
	$(BIN)/python -m trainers.digits --alpha_train=0 --output_dir=$(DEMO)/trades
	$(BIN)/python -m trainers.digits --alpha_train=2 --output_dir=$(DEMO)/trades_alpha_2
	$(BIN)/python -m trainers.compare $(DEMO)/trades $(DEMO)/trades_alpha_2 $(DEMO)/natural --output=$(DEMO)/comparison.png

$(DOCS_INSTALLED): $(INSTALLED) requirements-docs.txt
	$(BIN)/python -m pip install -r requirements-docs.txt
	@touch $@

docs: $(DOCS_INSTALLED) ## Build the documentation site, docs/_build/html/index.html (its commands and guides run; minutes)
	$(BIN)/python -m sphinx -W --keep-going -q -c docs -d docs/_build/doctrees . docs/_build/html

# The peers need packages that we do not, and some of them declare more than they import.
$(BENCH_INSTALLED): pyproject.toml requirements.txt benchmarks/requirements.txt benchmarks/requirements-no-deps.txt
	$(PYTHON) -m venv .venv-bench
	$(BENCH)/python -m pip install -r requirements.txt
	$(BENCH)/python -m pip install -r benchmarks/requirements.txt
	$(BENCH)/python -m pip install --no-deps -r benchmarks/requirements-no-deps.txt
	$(BENCH)/python -m pip install --no-deps --no-build-isolation -e .
	@touch $@

bench: $(BENCH_INSTALLED) ## Measure speed against the peers, in an environment of their own (half an hour, quiet machine)
	$(BENCH)/python -m benchmarks.speed

lock: ## Write the requirements again, with hashes (versions stay; UPGRADE=--upgrade takes the newest; needs the network)
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install uv
	$(COMPILE) --extra all --output-file requirements.txt pyproject.toml
	sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' requirements.txt | xargs \
		$(COMPILE) --extra dev --constraints requirements.txt --output-file requirements-dev.txt pyproject.toml
	sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' requirements.txt | xargs \
		$(COMPILE) --extra docs --constraints requirements.txt --output-file requirements-docs.txt pyproject.toml
	rm -r .venv-lock

clean: ## Remove builds, caches and the demo's runs (other runs and the environment stay)
	rm -rf build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache docs/_build docs/gallery $(DEMO)
	find . \( -path ./.venv -o -path ./.venv-bench \) -prune -o -type d -name __pycache__ -exec rm -rf {} +
