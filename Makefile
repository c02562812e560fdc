# make serve    set up what serving needs, then serve the bundled model on http://127.0.0.1:8000
# make test     set up everything, then run every test, in TEST_PROCESSES processes
# make monitoring-test   ask a real Prometheus for every panel and alert, of a server under load
# make triton   serve the bundled model by a real Triton on free loopback ports
# make lint     formatting, lint, types, import contracts
# make format   rewrite the sources the way `make lint` wants them

PYTHON ?= python3
TRITON_FLAGS ?=
TEST_PROCESSES ?= 2
SERVE_ENV := .venv
DEV_ENV := .venv-dev

.PHONY: serve test monitoring-test triton lint format constraints python chromium strace \
	perf-analyzer prometheus triton-environment kserve-client javascript
.DELETE_ON_ERROR:

serve: $(SERVE_ENV)/installed
	$(SERVE_ENV)/bin/ride serve model_repository

test: $(DEV_ENV)/installed chromium strace perf-analyzer prometheus triton-environment kserve-client \
	javascript
	$(DEV_ENV)/bin/pytest -n $(TEST_PROCESSES) --no-loadscope-reorder

monitoring-test: $(DEV_ENV)/installed prometheus
	$(DEV_ENV)/bin/pytest tests/monitoring

triton: $(SERVE_ENV)/installed
	$(SERVE_ENV)/bin/python -m benchmarks local-triton model_repository $(TRITON_FLAGS)

lint: $(DEV_ENV)/installed
	$(DEV_ENV)/bin/ruff format --check .
	$(DEV_ENV)/bin/ruff check .
	$(DEV_ENV)/bin/mypy
	$(DEV_ENV)/bin/lint-imports

format: $(DEV_ENV)/installed
	$(DEV_ENV)/bin/ruff format .
	$(DEV_ENV)/bin/ruff check --fix .

# Serving alone: no torch.
$(SERVE_ENV)/installed: pyproject.toml constraints.txt | python
	@echo "Installing what serving needs into $(SERVE_ENV) .."
	$(PYTHON) -m venv --clear $(SERVE_ENV)
	$(SERVE_ENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(DEV_ENV)/installed: pyproject.toml constraints.txt | python
	@echo "Installing everything, PyTorch included, into $(DEV_ENV): several GB and minutes .."
	$(PYTHON) -m venv --clear $(DEV_ENV)
	$(DEV_ENV)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	touch $@

# The load generator that tests and `ride bench` use, into .tools; as root on Debian also the library
# that it needs. It is for Linux on x86-64; elsewhere its tests are skipped.
perf-analyzer: $(DEV_ENV)/installed
	$(DEV_ENV)/bin/python -m benchmarks install perf-analyzer

# The browser of the console's tests; as root on Debian it is installed, elsewhere they are skipped.
chromium:
	@for browser in chromium chromium-browser google-chrome google-chrome-stable; do \
		if command -v $$browser >/dev/null; then exit; fi; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	else \
		echo "Chromium is not installed: the console's tests are skipped"; \
	fi

# What shows that no command of ours talks to anybody; as root on Debian it is installed, elsewhere only
# the home folder is looked at.
strace:
	@if command -v strace >/dev/null; then exit; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends strace >/dev/null; \
	else \
		echo "strace is not installed: what commands write and send is not looked at"; \
	fi

# A real Prometheus for tests: the one that is installed, or Debian's, unpacked into .tools, where it
# starts no service. Elsewhere its tests are skipped.
prometheus:
	@if command -v prometheus >/dev/null && command -v promtool >/dev/null; then exit; fi; \
	if [ -x .tools/prometheus/usr/bin/promtool ]; then exit; fi; \
	command -v apt-get >/dev/null || { echo "Prometheus is not installed: its tests are skipped"; exit; }; \
	download="apt-get download -qq -o APT::Sandbox::User=root prometheus"; \
	mkdir -p .tools/prometheus && cd .tools/prometheus && \
	{ $$download || { apt-get update -qq && $$download; }; } && \
	dpkg -x prometheus_*.deb . && rm prometheus_*.deb

# ONNX Runtime in Node and for the browser, for the examples in JavaScript; as root on Debian npm is
# installed. Elsewhere their tests are skipped.
javascript: examples/node/node_modules/.package-lock.json examples/browser/node_modules/.package-lock.json

examples/%/node_modules/.package-lock.json: examples/%/package-lock.json
	@command -v npm >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
			apt-get update -qq && apt-get install -y -qq --no-install-recommends npm >/dev/null; } || \
		{ echo "npm is not installed: the tests of examples/$* are skipped"; exit 0; }; \
	cd examples/$* && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error

# A real Triton for tests, into .tools: for Linux on x86-64; elsewhere its tests are skipped.
triton-environment: $(DEV_ENV)/installed
	$(DEV_ENV)/bin/python -m benchmarks install triton

# KServe's client, into .tools: it does not go with the packages that are pinned here.
kserve-client: $(DEV_ENV)/installed
	$(DEV_ENV)/bin/python -m benchmarks install kserve-client

# Python 3.11 or newer that can make virtual environments (Debian ships that part separately).
python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && apt-get install -y -qq python3-venv; \
		else \
			echo "Python can't make virtual environments: install your system's python3-venv" >&2; exit 1; \
		fi; }

# Pin today's newest versions of everything. CUDA libraries are left to torch, which pins them.
constraints:
	rm -rf $(DEV_ENV)
	$(PYTHON) -m venv $(DEV_ENV)
	$(DEV_ENV)/bin/pip install --quiet 'torch==2.11.0' 'torchvision==0.26.0' -e '.[test,lint]'
	{ echo "# Tested together; made by 'make constraints'."; \
	  $(DEV_ENV)/bin/pip freeze --exclude-editable | grep -viE '^(nvidia|cuda|triton==|ride-server)'; \
	} > constraints.txt
