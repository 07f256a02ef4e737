# Every line of help below comes from the comment beside its target.

PYTHON ?= $(shell for it in python3.11 python3 python3.12 python3.13; do \
            $$it -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$it && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --no-input --disable-pip-version-check
READY := $(VENV)/.ready
READY_FOR_DOCS := $(VENV)/.ready-for-docs
SERVERS := $(BIN)/python -m tests.servers
CHAOS_SECONDS ?= 45
# The long form goes on in this folder where it was interrupted.
CHAOS_FOLDER ?= .chaos
FUZZ_CASES ?= 1000000
FUZZ_JOBS ?= 1
# Most tests wait for processes: more of them at a time than there are cores.
JOBS ?= 4

# Folders of tests are run as soon as they exist.
tests_in = $(wildcard $(addprefix tests/,$(1)))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check lint types unit contract integration browser chaos chaos-long soak fuzz coverage matrix bench docs build clean

help:  ## show this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'
	@echo "PYTHON=python3.12 takes another interpreter for $(VENV)."

demo: $(READY)  ## run the demonstration; BROKER=amqp://... DATABASE=postgres://... take other servers
	$(BIN)/python -m tests.shop.demo $(if $(BROKER),--broker '$(BROKER)') $(if $(DATABASE),--database '$(DATABASE)')

test: $(READY) lint types docs  ## everything: lint, types, docs, all tests beside private servers, a minute of chaos
	-$(SERVERS) install chromium
	$(SERVERS) run -- $(MAKE) --no-print-directory test-with-servers

check: $(READY) lint types  ## the quick half: lint, types, unit and contract tests without servers, docs
	$(BIN)/python -m pytest -r fE $(call tests_in,unit typing contract) -m "not slow"
	$(if $(wildcard docs/conf.py),$(MAKE) --no-print-directory docs)
	@echo "The tests with servers are in make test."

lint: $(READY)  ## ruff: rules and format
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .

types: $(READY)  ## mypy
	$(BIN)/mypy

unit: $(READY)  ## tests that need no server
	$(BIN)/python -m pytest $(call tests_in,unit)

contract: $(READY)  ## what each broker and backend promises, beside private servers
	$(SERVERS) run -- $(BIN)/python -m pytest $(call tests_in,contract)

integration: $(READY)  ## a real celeryd beside private servers
	$(SERVERS) run -- $(BIN)/python -m pytest $(call tests_in,integration)

browser: $(READY)  ## the admin pages in a headless Chromium
	-$(SERVERS) install chromium
	$(BIN)/python -m pytest -n 2 $(call tests_in,browser)

chaos: $(READY)  ## faults at random moments for CHAOS_SECONDS=45 seconds, on servers of its own
	$(BIN)/python -m tests.chaos --seconds $(CHAOS_SECONDS)

chaos-long: $(READY)  ## a million tasks and 500 faults in CHAOS_FOLDER=.chaos, most of an hour; goes on where it stopped
	$(BIN)/python -m tests.chaos --long $(CHAOS_FOLDER)

soak: $(READY)  ## a million tasks at each of three places, on servers of its own: does anything grow?
	$(BIN)/python -m tests.soak

fuzz: $(READY)  ## hostile input: FUZZ_CASES=1000000 of it, in a quarter of an hour or so
	$(PIP) install --no-build-isolation --editable '.[fuzz]' || echo "Without atheris nothing guides the cases."
	$(BIN)/python -m tests.fuzz --cases $(FUZZ_CASES) --jobs $(FUZZ_JOBS) $(if $(FUZZ_SEED),--seed $(FUZZ_SEED))

# Measured workers start and run at half their speed: the slow tests, which are about quantities, take no new branches.
coverage: $(READY)  ## branch coverage of celery/, the worker's processes included; fails under 95 %
	$(BIN)/python -m coverage erase
	$(SERVERS) run -- $(BIN)/python -m coverage run -m pytest -n $(JOBS) -m "not slow" $(call tests_in,unit contract seed integration)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

matrix: $(READY)  ## the tests on each pair of Python and Django whose interpreter is here
	$(SERVERS) run -- $(BIN)/python -m nox

bench: $(READY)  ## throughput, latency and memory beside Celery, twenty minutes; PEERS="dramatiq huey ..." for more
	$(SERVERS) run postgresql rabbitmq -- $(BIN)/python -m benchmarks --peers '$(PEERS)'

docs: $(READY_FOR_DOCS)  ## the documentation as HTML in docs/_build
	$(BIN)/python -m sphinx --fail-on-warning --nitpicky --quiet -b html docs docs/_build \
	  || { rm -rf docs/_build/.doctrees; exit 1; }  # what was read once is not warned of again
	@echo "Open docs/_build/index.html; every setting is in docs/_build/settings.html."

build: $(READY)  ## sdist and wheel in dist
	rm -rf build dist
	$(BIN)/python -m build --no-isolation

clean:  ## remove what was made here, and what killed runs left in the temporary folder
	-test ! -x $(BIN)/python || $(SERVERS) clean
	rm -rf $(VENV) build dist docs/_build .peers *.egg-info .coverage .coverage.* htmlcov .nox .hypothesis .mypy_cache .pytest_cache .ruff_cache .chaos
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The part of `test` that runs beside the servers. The tests of interop have RabbitMQ for themselves: they delete the
# default exchange, as the first program ever to use it finds it. The damaged workers of chaos need an unhurried machine.
# The slow tests mostly wait: they run beside the others.
.PHONY: test-with-servers test-slow test-quick
test-with-servers:
	$(BIN)/python -m pytest $(call tests_in,interop chaos)
	$(MAKE) --no-print-directory -j2 --output-sync=target test-slow test-quick
	$(BIN)/python -m tests.chaos --seconds $(CHAOS_SECONDS)

test-slow:
	$(BIN)/python -m pytest -n 3 --dist loadfile -m slow $(call tests_in,unit typing contract seed integration)

test-quick:
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow" $(call tests_in,unit fuzz typing contract seed integration browser)

$(READY): setup.py
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later with venv is needed (Debian: apt-get install python3-venv)." >&2; exit 1; }
	@echo "Making $(VENV) (about half a minute) ..."
	$(PYTHON) -m venv $(VENV)
	$(PIP) install 'setuptools>=77'
	$(PIP) install --no-build-isolation --editable '.[test]'
	@touch $@

$(READY_FOR_DOCS): $(READY)
	$(PIP) install --no-build-isolation --editable '.[docs]'
	@touch $@
