# Everything a fresh machine needs besides Python 3.11, git and make is set up by the first target that needs it.
# ARGS are handed on: make test ARGS="-k feed", make demo ARGS="--no-thermometer".

UV := tools/uv
RUN := $(UV) run --locked --no-dev
DEV := $(UV) run --locked --all-extras
WEB := $(UV) run --no-project --python '>=3.11' python hatch_build.py
# Two workers, a file to each: many tests start servers, and those of one file may share theirs.
PYTEST := pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-long test-coverage check-all format format-check lint type-check web-check \
        install dev-install setup-dev run-dev run-gunicorn load-test load-test-full load-test-ramp bench bench-short web page build clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name what; do printf '  make %-15s %s\n' "$$name" "$$what"; done

demo: page  ## start everything and print every address and the lines to try
	@$(RUN) hubbub up $(ARGS)

test: page  ## run the tests
	@$(DEV) $(PYTEST) $(ARGS)

test-long: page  ## run the tests that take long, too
	@$(DEV) $(PYTEST) -m "long or not long" --timeout 900 $(ARGS)

test-coverage: page  ## run the tests and write a coverage report to htmlcov/
	@$(DEV) $(PYTEST) --cov hubbub --cov-report html --cov-report term:skip-covered $(ARGS)

check-all: format-check lint type-check web-check test  ## everything a change must pass

format:  ## format the code and sort its imports
	@$(DEV) ruff check --select I --fix-only --quiet . && $(DEV) ruff format .

format-check:
	@$(DEV) ruff format --check .

lint:  ## look for mistakes
	@$(DEV) ruff check .

type-check:  ## check the types
	@$(DEV) mypy --strict

web-check:  ## check the web client's types and run its tests
	@$(WEB) check test

install: page  ## install what running needs into .venv
	@$(UV) sync --locked --no-dev

dev-install: page  ## install what developing needs into .venv
	@$(UV) sync --locked --all-extras

setup-dev: dev-install  ## dev-install, and check every commit before it is made
	@$(DEV) prek install

run-dev: page  ## run the server alone, and again after each change of the code
	@$(RUN) uvicorn hubbub.asgi:app --reload $(ARGS)

run-gunicorn: page  ## run it under gunicorn, in several processes where MongoDB and Redis are set
	@$(UV) run --locked --no-dev --extra gunicorn gunicorn -c gunicorn.conf.py $(ARGS)

# At a server that runs: make load-test URL=http://127.0.0.1:8000. Otherwise one is started for it, and stopped.
LOAD = $(RUN) hubbub load $(if $(URL),--url $(URL),--start)

load-test: page  ## ask POST /chat ten times; of a server of its own, or of the one at URL=
	@$(LOAD) $(ARGS)

load-test-full: page  ## 100 requests, ten at once
	@$(LOAD) --requests 100 --concurrency 10 $(ARGS)

load-test-ramp: page  ## from one to 20 at once in 20 seconds, and 10 more there
	@$(LOAD) --ramp-up 20 --duration 30 --concurrency 20 --steps 5 $(ARGS)

bench:  ## measure Hubbub against plain programs that do the same
	@$(DEV) python -m bench $(ARGS)

bench-short:  ## run each bench for two seconds, to see that it works
	@$(DEV) python -m bench --short $(ARGS)

web:  ## build the web page into src/hubbub/web/, if it changed
	@$(WEB)

# The page is built in a step of its own, where its output is seen. What can do without it does, and uv's build
# of the package then need not try again.
page:
	@$(UV) --version >/dev/null
	@$(WEB) || { echo "Going on without the web page." >&2; HUBBUB_BUILD_WEB=0 $(UV) sync --locked --inexact; }

build: web  ## make the wheel and the sdist in dist/
	@$(UV) build --out-dir dist

clean:  ## remove all that was built, but not .venv and .uv
	@rm -rf dist build htmlcov .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis src/hubbub/web web/node_modules web/dist
