# Everything runs in .venv; the two commands a newcomer needs are `make demo` and `make test`.
VENV := .venv
PY := $(VENV)/bin/python
DEMO := sacroplan-demo
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

.PHONY: install demo test bench validate lint clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	python3.11 -m venv $(VENV) || python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(DEV_STAMP): $(STAMP)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: install
	$(VENV)/bin/sacroplan demo $(DEMO)

# The suite compares with CalculiX and looks at the dossier in Chromium: Debian packages, as root.
test: $(DEV_STAMP)
	sh tools/system-packages.sh
	$(PY) -m ruff check src tests benchmarks
	$(PY) -m ruff format --check src tests benchmarks
	$(PY) -m mypy
	$(VENV)/bin/lint-imports
	$(PY) -m pytest -m "not slow" -n 2 --dist loadfile

lint: $(DEV_STAMP)
	$(PY) -m ruff check src tests benchmarks
	$(PY) -m ruff format --check src tests benchmarks
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

bench: $(DEV_STAMP)
	$(PY) benchmarks/run.py
	$(PY) benchmarks/registry.py
	$(PY) benchmarks/lattice.py

validate: $(DEV_STAMP)
	sh tools/system-packages.sh
	$(PY) -m pytest -m slow -s
	$(PY) tools/credibility.py

clean:
	rm -rf $(VENV) build dist
