# The commands of this project, over nox. `make` alone lists them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# Compiled kernels need a C compiler; without one everything works, slower. RDMA needs libfabric's
# headers too (Debian: libfabric-dev).
NO_COMPILER   := $(if $(shell command -v cc),,plugins/accel)
NO_LIBFABRIC  := $(if $(shell cc -E -include rdma/fabric.h -xc /dev/null 2>/dev/null),,plugins/rdma)
WITHOUT       := $(NO_COMPILER) $(NO_LIBFABRIC)
DISTRIBUTIONS := $(filter-out $(WITHOUT),$(sort $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))))
PROJECTS      := pyproject.toml core/pyproject.toml $(addsuffix /pyproject.toml,$(DISTRIBUTIONS))
EDITABLE      := -e 'core[tui]' $(addprefix -e ./,$(DISTRIBUTIONS))
PIP           := $(BIN)/python -m pip --disable-pip-version-check -qq
OR_EXPLAIN    := || { echo "Set-up failed: is the Python package index within reach? Then run it again." >&2; exit 1; }

# What is needed to run, and what is needed to develop, each installed once.
READY     := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev

.DEFAULT_GOAL := help
.PHONY: help demo test check sanitize bench soak packages docs format clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  make test ARGS='plugins/tcp -k refuses' passes arguments on (to pytest; to the verb in make demo)."
	@echo "  The first use sets up .venv. Another interpreter: make demo PYTHON=python3.13"

demo: $(READY) ## move a guest under load to a second process
	@$(BIN)/transship demo $(ARGS)

test: $(READY_DEV) ## run all tests but the long ones
	@$(BIN)/nox -s test -- $(ARGS)

check: $(READY_DEV) ## ruff, mypy, import contracts, documentation
	@$(BIN)/nox -s lint types imports docs

sanitize: $(READY_DEV) ## run the tests of the kernels under AddressSanitizer and UBSan
	@$(BIN)/nox -s sanitize

soak: $(READY_DEV) ## run the long tests: hundreds of migrations, kills, mutations
	@$(BIN)/nox -s soak -- $(ARGS)

bench: $(READY_DEV) ## compare with QEMU: some 15 minutes, BENCH=quick for 3
	@$(BIN)/nox -s bench -- $(ARGS)

packages: $(READY_DEV) ## build wheels, sdists and Debian packages into dist/, and test them
	@$(BIN)/nox -s packages -- $(ARGS)

docs: $(READY_DEV) ## build the documentation into docs/_build/html
	@$(BIN)/nox -s docs

format: $(READY_DEV) ## let ruff lay out the code
	@$(BIN)/nox -s format

clean: ## remove .venv and everything that was built
	@rm -rf $(VENV) .nox dist docs/_build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -type d -name __pycache__ -prune -exec rm -rf {} +

$(READY): $(PROJECTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Transship needs Python 3.11 or newer; $(PYTHON) is: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another interpreter like this: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments here. On Debian: apt install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) (once, well under a minute) ..."
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@test -z '$(NO_COMPILER)' || echo "There is no C compiler (cc); going on without $(NO_COMPILER)."
	@test -z '$(NO_LIBFABRIC)' || echo "There are no headers of libfabric; going on without $(NO_LIBFABRIC)."
	@$(PIP) install --upgrade 'pip >= 25.1' 'hatchling >= 1.27' 'cffi >= 1.17' 'setuptools >= 77' $(OR_EXPLAIN)
	@$(PIP) install --no-build-isolation $(EDITABLE) $(OR_EXPLAIN)
	@touch $@

$(READY_DEV): $(READY)
	@echo "Adding the test and development tools to $(VENV) (once) ..."
	@$(PIP) install --group dev $(OR_EXPLAIN)
	@touch $@
