# Ponte: `make help` lists what there is. Needs only make and a Python 3.11, 3.12 or 3.13. Works with GNU make 3.81.

# The first that really runs: a name on the PATH may be an empty shell of a version manager.
PYTHON ?= $(shell for candidate in python3.12 python3.13 python3.11 python3; do \
	"$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1 \
	&& { echo "$$candidate"; break; }; done)

VENV := .venv
# Processes that run tests; each has a PostgreSQL of its own. 0 runs them in the one process, as --pdb needs it.
TEST_WORKERS = $(or $(PONTE_TEST_WORKERS),2)
RUN := PYTHONPATH=plugins $(VENV)/bin/python

# Somebody may have removed .venv while the stack runs; stopping it needs the programs in there.
WITHOUT_VENV = if [ -e .ponte/run/settings.json ]; then \
	echo "There is local data, but no $(VENV) to stop the stack with. Run './ponte up' first, then this again." >&2; exit 1; fi

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo up down status psql check-models password test test-fast compose-demo compose-test lint backup restore bench bench-serving docs lock secrets clean

help: ## Show this list
	@echo "Ponte: a scikit-learn model from a notebook to a table that anybody can query."
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-13s %s\n' "$$name" "$$text"; done
	@echo
	@echo "Settings, for example another port for the UI:  make up PONTE_UI_PORT=8081"
	@echo "All settings:  ./ponte up --help"
	@echo "The same and more, from any folder:  ./ponte --help"

demo: ## Start everything, then train, score and publish the demo models
	@./ponte demo

up: ## Start PostgreSQL and Airflow on this machine
	@./ponte up

down: ## Stop everything, running tasks included; data stays
	@if [ -x $(VENV)/bin/python ]; then ./ponte down; else $(WITHOUT_VENV); echo "Nothing is running."; fi

status: ## Show what runs, where its logs are, and how to log in
	@./ponte status || [ $$? -eq 3 ]

psql: ## Open psql on the database of Ponte (one query: make psql SQL='select 1'; or ROLE=ponte_analyst)
	@$(if $(ROLE),PONTE_ROLE='$(ROLE)') ./ponte psql $${SQL:+-c "$$SQL"} $(ARGS)

check-models: ## Say everything that is wrong with the model folders (one model: make check-models ARGS=name)
	@./ponte check $(ARGS)

password: ## Print the password of the user admin of the Airflow UI
	@./ponte password

test: $(VENV)/.ready ## Run all tests (a selection: make test ARGS='-k publishing')
	@$(RUN) -m pytest -n $(TEST_WORKERS) $(ARGS)

test-fast: $(VENV)/.ready ## Run the tests that need neither Airflow nor a database (about a minute)
	@$(RUN) -m pytest -n $(TEST_WORKERS) -m fast $(ARGS)

compose-demo: ## Run the demo inside the stack of docker compose (start that first: docker compose up -d --build --wait)
	@docker compose run --rm ops ponte demo

compose-test: $(VENV)/.ready ## Test the compose stack on a Docker engine: demo, network, a kill of each service (about 40 min)
	@PONTE_COMPOSE_TEST=1 $(RUN) -m pytest tests/compose -v -s -p no:randomly $(ARGS)

lint: $(VENV)/.ready ## Check style, types, the direction of imports and the rules about the tree
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@MYPYPATH=plugins $(VENV)/bin/mypy
	@PYTHONPATH=plugins $(VENV)/bin/lint-imports
	@$(RUN) -m pytest -q tests/unit/test_structure.py

backup: ## Back up the local stack's database and artifacts into a new folder: make backup FOLDER=backups/today
	@$(if $(FOLDER),,echo "Which folder?  make backup FOLDER=backups/today" >&2; exit 1;) ./ponte backup '$(FOLDER)' $(ARGS)

restore: ## Put a backup in the place of the local stack's database: make restore FOLDER=backups/today
	@$(if $(FOLDER),,echo "Which folder?  make restore FOLDER=backups/today" >&2; exit 1;) ./ponte restore '$(FOLDER)' $(ARGS)

bench: $(VENV)/.ready ## Compare scoring with other ways (one case: make bench ROWS=1000000 ESTIMATOR=logistic)
	@PYTHONPATH=plugins:. $(VENV)/bin/python -m tests.bench.scoring \
		$(if $(ROWS),--rows $(ROWS)) $(if $(ESTIMATOR),--estimator $(ESTIMATOR)) $(ARGS)

bench-serving: $(VENV)/.ready ## Compare the API with Flask and gunicorn, and measure the queue (about 20 min)
	@$(VENV)/bin/uv pip install --quiet --target $(VENV)/gunicorn --no-deps --require-hashes -r tests/bench/requirements-gunicorn.txt
	@PYTHONPATH=plugins:. $(VENV)/bin/python -m tests.bench.serving $(ARGS)

docs: $(VENV)/.ready ## Make docs/ a site in build/docs, which can be read from the disk
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict && echo "build/docs/index.html"

lock: ## Resolve requirements.in and those of the models into requirements.txt (to upgrade: edit requirements.in first)
	@./ponte lock

secrets: ## Generate the passwords of the docker compose deployment (.env); run again, it adds what is missing
	@./ponte-secrets

clean: ## Stop everything, then remove ALL local data (.ponte), the environment (.venv) and caches
	@if [ -x $(VENV)/bin/python ]; then PONTE_HOME= ./ponte down; else $(WITHOUT_VENV); fi
	@rm -rf .ponte $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "Removed .ponte, $(VENV) and caches."

# Written last, so an interrupted installation is continued by the next `make`.
# pip installs only uv, at the version and hashes that requirements.txt has for it; uv installs the rest.
# It talks to stderr, so that `make -s password` prints nothing but a password.
$(VENV)/.ready: requirements.txt
	@exec >&2; if [ -z "$(PYTHON)" ]; then \
		echo "No Python 3.11, 3.12 or 3.13 found. Install one, or name it:  make up PYTHON=/path/to/python3.12"; exit 1; fi
	@exec >&2; "$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "$(PYTHON) is not a working Python 3.11, 3.12 or 3.13. Name another:  make up PYTHON=/path/to/python3.12"; exit 1; }
	@exec >&2; "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot create virtual environments (its modules venv or ensurepip are missing)."; \
		echo "On Debian or Ubuntu:  apt install python3-venv.  Or name another Python:  make up PYTHON=/path/to/python3.12"; \
		exit 1; }
	@exec >&2; set -e; begin=$$(date +%s); \
	echo "Installing into $(VENV) with $$("$(PYTHON)" --version) (once; a minute or more, depending on the network)"; \
	$(VENV)/bin/python -c '' 2>/dev/null || rm -rf $(VENV); \
	[ -x $(VENV)/bin/python ] || "$(PYTHON)" -m venv $(VENV); \
	uv=$$(sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements.txt); \
	if [ "$$($(VENV)/bin/uv --version 2>/dev/null | cut -d ' ' -f 2)" != "$$uv" ]; then \
		echo "  1/2 the installer uv $$uv"; \
		awk '/^uv==/ { on = 1 } on { print } on && !/\\$$/ { exit }' requirements.txt > $(VENV)/uv.txt; \
		$(VENV)/bin/python -m ensurepip >/dev/null; \
		$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt; \
	fi; \
	echo "  2/2 $$(grep -c '^[a-z0-9].*==' requirements.txt) packages, each checked against its SHA-256"; \
	$(VENV)/bin/uv pip sync --quiet --python $(VENV)/bin/python --require-hashes \
		--build-constraints requirements.txt requirements.txt; \
	touch $@; \
	echo "Installed in $$(( $$(date +%s) - begin )) s."
