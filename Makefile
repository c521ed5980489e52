# Two commands do everything on a machine with Python 3.11 or newer:
#   make demo   replay a bundled recording, leave timelines and a page of answers in demo-output/
#   make test   run the test suite; make test-torch: the tests that record, with PyTorch
# Everything is installed into a private virtual environment, .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test test-torch lint accuracy benchmarks docs clean

demo: $(VENV)/installed
	$(BIN)/lumos replay recordings/gpt-dp2-tp2 -o demo-output
	@echo
	$(BIN)/lumos report recordings/gpt-dp2-tp2 -o demo-output/report.html
	@echo
	@echo "Open demo-output/report.html in a browser: why the step takes as long as it does."
	@echo "Open demo-output/*.json.gz in https://ui.perfetto.dev to see both runs side by side."

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -q -n auto --dist loadfile

# Recording itself needs PyTorch; without it its tests are skipped. The CPU build is enough.
test-torch: $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch --index-url https://download.pytorch.org/whl/cpu
	$(BIN)/python -m pytest -q tests/capture tests/cli/test_capture.py tests/examples tests/validation

lint: $(VENV)/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Both read the real traces in ../shared/data and write the tables under docs/.
accuracy: $(VENV)/installed
	$(BIN)/python benchmarks/accuracy.py --write docs/accuracy.md

# Against other tools: PEER is a Python in which HolisticTraceAnalysis 0.5.0 is installed.
benchmarks: $(VENV)/installed
	$(BIN)/python benchmarks/pipeline.py --peer-python $(PEER)

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "lumos needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: pyproject.toml | $(VENV)/created
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/installed-test: pyproject.toml | $(VENV)/created
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $(VENV)/installed $@

$(VENV)/installed-lint: pyproject.toml | $(VENV)/created
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,lint]'
	@touch $(VENV)/installed $(VENV)/installed-test $@

clean:
	rm -rf $(VENV) demo-output
