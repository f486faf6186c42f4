# Two commands for a fresh machine (Python 3.11 or later, and Debian's packages where tests look at a page in a browser):
#   make demo    installs, runs the main job on the embedded default, prints where the report is
#   make test    installs, checks style and types, passes the tests
# make test-long passes those that take minutes each: real networks, from VERIQUANT_REAL, on the whole of a benchmark.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip

.PHONY: demo test test-long install install-test browser watch lint clean

demo: install
	$(BIN)/veriquant demo

test: install-test browser watch lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations 10

test-long: install-test
	$(BIN)/python -m pytest -m long --durations 10

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/installed
install-test: $(VENV)/installed-test

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, found " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install --quiet -c constraints.txt -e '.[openvino]'
	touch $@

$(VENV)/installed-test: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install --quiet -c constraints.txt -e '.[test]'
	touch $(VENV)/installed $@

# The tests that open a report in a real browser skip, and say so, where there is no Chromium and it cannot be installed.
browser:
	@if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo 'installing chromium for the browser tests'; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium chromium-driver >/dev/null; \
	  else \
	    echo 'no chromium here: the browser tests will be skipped (Debian: apt-get install chromium chromium-driver)'; \
	  fi; \
	fi

# Whether a command tries to reach somebody is seen in a network namespace or by strace; without either the tests skip.
watch:
	@if ! command -v strace >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo 'installing strace for the tests that watch commands'; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq strace >/dev/null; } || true; \
	fi

clean:
	rm -rf $(VENV) out demo-report
