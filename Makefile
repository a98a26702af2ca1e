# Targets with a ## are for people: `make` lists them. ARGS goes to the command: make demo ARGS="--help"
VENV = .venv
PYTHON = $(VENV)/bin/python
CONSTRAINTS = constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Some containers set it, and then each of the many processes that tests start compiles all of this anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test lint coverage bench soak serve setup audit chromium proxies screenshots clean

help: ## List these targets, and do nothing else
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/with-embedded ## Report on a made-up feed: the shortest way to see what this does
	@$(PYTHON) -m service demo $(ARGS)

serve: $(VENV)/with-embedded ## Run the service on http://127.0.0.1:8000, with a private PostgreSQL unless DATABASE_URL is set
	@$(PYTHON) -m service serve $(ARGS)

# What is installed waits for others, and so goes side by side. Then three tests at a time on two cores: many
# wait for a process to start, or for a time-out. In the order of folders, as `tests/unit` ends with short
# ones; by default those files come last that have few tests, and some of these are the longest.
test: ## Run every check that CI runs
	@$(MAKE) --no-print-directory --jobs 2 lint chromium proxies
ifdef ARGS
	$(PYTHON) -m pytest $(ARGS)
else
	$(PYTHON) -m pytest -m alone
	$(PYTHON) -m pytest -m 'not alone' --numprocesses 3 --dist loadfile --no-loadscope-reorder
endif

lint: $(VENV)/with-embedded,dev ## Check style and types
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

# Of the processes that tests start, too. Nothing fails for lack of it: it shows where to look.
coverage: $(VENV)/with-embedded,dev ## Show which lines the tests run: all but the browser's, or ARGS="tests/unit"
	rm -rf build/coverage
	mkdir -p build/coverage
	-PYTHONPATH=$(CURDIR) $(PYTHON) -m coverage run -m pytest $(or $(ARGS),tests --ignore tests/browser)
	$(PYTHON) -m coverage combine --quiet
	$(PYTHON) -m coverage html --quiet
	$(PYTHON) -m coverage report
	@echo "Line by line: build/coverage/html/index.html"

bench: $(VENV)/with-embedded,dev,bench ## Measure, next to other ways to do the same
	$(PYTHON) -m tests.bench $(ARGS)

soak: $(VENV)/with-embedded,dev ## Load two instances, strike them with faults, and check what must hold
	$(PYTHON) -m tests.soak $(ARGS)

setup: $(VENV)/with-embedded,dev chromium proxies ## Only install, into .venv: the command .venv/bin/storewatch, and what the tests need

# A browser for the tests of the dashboard, where it can be had without a question; without one they are skipped.
# After what may install, too: Debian installs one thing at a time.
chromium: | $(VENV)/bin/pip
	@if [ -z "$$CHROMIUM" ] && ! command -v chromium chromium-browser google-chrome >/dev/null \
	&& [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing the Debian package chromium, for the tests of the dashboard"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	fi

# In an environment of its own: what it needs is no part of what is tested.
audit: $(VENV)/bin/pip ## Look up the tested versions in the database of known weaknesses
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet pip-audit
	build/audit/bin/pip-audit --progress-spinner off --no-deps --disable-pip --requirement $(CONSTRAINTS)

# The proxies of docs/proxies.md; without them their tests are skipped.
proxies: | chromium
	@if ! { command -v nginx && command -v caddy && command -v openssl; } >/dev/null \
	&& [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing the Debian packages nginx-light, caddy and openssl, for the tests of proxies"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nginx-light caddy openssl >/dev/null; \
	fi

screenshots: $(VENV)/with-embedded,dev chromium ## Renew the pictures of the dashboard in tests/browser/screenshots
	$(PYTHON) -m tests.browser.take_screenshots

clean: ## Remove .venv and what the checks keep between runs
	rm -rf $(VENV) build dist .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -type d -name __pycache__ -prune -exec rm -rf {} +

# One file for each set of extras that is installed: a second run installs nothing.
$(VENV)/with-%: pyproject.toml $(CONSTRAINTS) $(VENV)/bin/pip
	@echo "Installing storewatch [$*] into $(VENV)"
	@$(PYTHON) -m pip install --quiet --no-compile --constraint $(CONSTRAINTS) --editable '.[$*]'
	@$(PYTHON) -m compileall -q -j 0 $(VENV)/lib >/dev/null || true # pip would use one core for it
	@touch $@

# Debian keeps `ensurepip`, without which there is no pip in a new environment, in a package of its own.
$(VENV)/bin/pip:
	@find_python() { \
		for python in python3.14 python3.13 python3.12 python3.11 python3; do \
			$$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return; \
		done; \
		false; \
	}; \
	if ! find_python && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing the Debian packages python3 and python3-venv"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null; \
	fi; \
	if ! find_python; then \
		echo "No Python 3.11 or newer that can make a virtual environment was found. Install one:"; \
		echo "  Debian 12, Ubuntu 24.04 or newer: sudo apt install python3-venv"; \
		echo "  macOS:                            brew install python"; \
		exit 1; \
	fi >&2; \
	echo "Making $(VENV) with $$python"; \
	$$python -m venv --clear $(VENV)
