# Everything happens in .venv, made on first use. Python >= 3.11 and make are all that a fresh machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test docs lint format clean sdk-suites versions chaos chart-js pictures bench

help:
	@echo "make demo        run examples/chat.py with the three real SDKs against a local simulator and show the costs"
	@echo "make test        run the tests"
	@echo "make sdk-suites  run the SDKs' own tests bare and patched, and compare; SUITES=--slice is two minutes of them"
	@echo "make chaos       kill, stop and lock workers at random for SECONDS=180, then check the ledger"
	@echo "make versions    run the tests on old and new versions of the SDKs and Python"
	@echo "make docs        build the documentation into docs/_build; warnings are errors"
	@echo "make bench       measure what metering costs, beside others, and write docs/benchmarks.md: 6 minutes; BENCH=--quick is a rough look, BENCH=--full an hour"
	@echo "make lint        ruff, mypy --strict"
	@echo "make format      let ruff rewrite what it can"
	@echo "make pictures    take the pictures of the page in docs/ anew"
	@echo "make chart-js    take Chart.js anew from npm: make chart-js CHART_JS=4.6.1"
	@echo "make clean       remove .venv, what the two above installed, and caches"

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed, this is %s. Try: make PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# Talks to the simulator, whatever keys are in the environment: it costs nothing. To talk to the real services, with your
# own keys: .venv/bin/python examples/chat.py
demo: export LLM_TOLL_AUTOPATCH_SINK = sqlite:///demo-ledger.db
demo: $(VENV)/.installed
	@rm -f demo-ledger.db*
	@$(BIN)/python -m llm_toll_autopatch.simulator -- $(BIN)/python examples/chat.py
	@echo "What that would have cost, as \`autotoll report\` tells it:"
	@echo
	@$(BIN)/autotoll report

test: $(VENV)/.installed
	$(BIN)/python -m pytest

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build
	@echo "docs/_build/index.html"

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

sdk-suites: $(VENV)/.installed
	PYTHONPATH=$(CURDIR)/tests $(BIN)/python -m sdk_suites $(SUITES)

chaos: SECONDS ?= 180
chaos: $(VENV)/.installed
	PYTHONPATH=$(CURDIR):$(CURDIR)/tests $(BIN)/python -m chaos --seconds $(SECONDS)

versions: $(VENV)/.installed
	$(BIN)/python -m nox -s versions

bench:
	$(PYTHON) -m benchmarks $(BENCH)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

pictures: $(VENV)/.installed
	PYTHONPATH=$(CURDIR)/tests $(BIN)/python tests/pictures.py docs

# The page's charting library, as its makers publish it. It has @kurkle/color within, whose licence is beside it, too.
CHART_JS ?= 4.6.1
VENDOR := llm_toll_autopatch/page/vendor
chart-js:
	@set -e; here=$$(mktemp -d); trap 'rm -rf "$$here"' EXIT; \
	npm pack --silent --pack-destination "$$here" chart.js@$(CHART_JS) >/dev/null; \
	npm pack --silent --pack-destination "$$here" @kurkle/color@0.3 >/dev/null; \
	for each in chart.js kurkle-color; do mkdir "$$here/$$each"; tar -xzf "$$here/$$each"-[0-9]*.tgz -C "$$here/$$each"; done; \
	cp "$$here/chart.js/package/dist/chart.umd.min.js" $(VENDOR)/; \
	cp "$$here/chart.js/package/LICENSE.md" $(VENDOR)/chart.js-LICENSE.md; \
	cp "$$here/kurkle-color/package/LICENSE.md" $(VENDOR)/kurkle-color-LICENSE.md; \
	grep -ao 'Chart.js v[0-9.]*' $(VENDOR)/chart.umd.min.js

clean:
	rm -rf $(VENV) .bench .nox .sdk-suites .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist docs/_build
