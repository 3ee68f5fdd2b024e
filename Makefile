# Needs only Python 3.11+ and make; `make` alone lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/runtime.stamp
DEV := $(VENV)/dev.stamp
# uv takes under a third of pip's time (39 s for 140); where only pip is told of a registry, pip does it.
WANTED = $(BIN)/python -m pip install -q -c constraints.txt uv && $(BIN)/uv pip install --compile-bytecode --python $(BIN)/python -c constraints.txt $(1) || $(BIN)/python -m pip install -c constraints.txt $(1)

LOOKED_AT := nbs purification_nb tests dev benchmarks setup.py

# Trained models are kept here, so that a second run need not train again.
export PURIFICATION_NB_CACHE ?= $(CURDIR)/.cache
# The project's own machines have the true data files next door; elsewhere the library finds or fetches its own.
ifndef PURIFICATION_NB_DATA
ifneq ($(wildcard ../shared/data/.),)
export PURIFICATION_NB_DATA := $(abspath ../shared/data)
endif
endif

.PHONY: help demo format test test-slow test-oldest notebooks reproduce export readme docs wheel bench course grade clean-cache
.DEFAULT_GOAL := help

help: ## list the goals
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1@\2/p' $(MAKEFILE_LIST) | awk -F@ '{printf "%-18s %s\n", $$1, $$2}'

demo: $(RUNTIME) ## install the library and audit digit_pairs, three seeds; the report lands in audit-report/
	$(BIN)/purification-nb audit

# One notebook, or one file of tests, a core is enough: inside them joblib works in the same process, where no test asks for more
# (and leaves no idle workers to wait for). Each worker begins with what takes longest: see dev/notebooks.py and tests/conftest.py.
test: export OMP_NUM_THREADS := 1
test: $(DEV) ## all that must hold: library = export, one look, types, every notebook's cells, tests/
	@$(BIN)/python dev/notebooks.py exported
	$(BIN)/ruff format --check -q $(LOOKED_AT)
	$(BIN)/ruff check -q $(LOOKED_AT)
	$(BIN)/mypy & types=$$!; LOKY_MAX_CPU_COUNT=1 $(BIN)/python dev/bounded.py 1500 $(BIN)/python dev/notebooks.py test; cells=$$?; wait $$types && exit $$cells
	LOKY_MAX_CPU_COUNT=1 $(BIN)/pytest tests/ -q -n 2 --dist loadfile --no-loadscope-reorder --durations 25

test-slow: export OMP_NUM_THREADS := 1
test-slow: $(DEV) ## every notebook's cells, with those flagged slow, the attacks on more seeds and shadow models, all assignments graded
	LOKY_MAX_CPU_COUNT=1 $(BIN)/python dev/notebooks.py test --flags slow
	$(BIN)/pytest tests/test_attacks.py tests/test_assignments.py tests/test_grading.py -q --slow

# The oldest get a memory of their own: a network trained beside the newest torch would stand in for theirs. One test audits all recipes, dp among them.
OLDEST := $(VENV)/oldest
test-oldest: export OMP_NUM_THREADS := 1
test-oldest: export PURIFICATION_NB_CACHE := $(abspath $(OLDEST))/cache
test-oldest: $(DEV) ## some tests and a small audit with the oldest versions that settings.ini allows; installs several GB
	$(BIN)/uv venv -q --clear --python $(BIN)/python $(OLDEST)
	$(BIN)/uv pip install -q --python $(OLDEST) --resolution lowest-direct -e ".[dp]"
	$(OLDEST)/bin/python dev/oldest.py
	$(BIN)/uv pip install -q --python $(OLDEST) -c constraints.txt pytest
	$(OLDEST)/bin/purification-nb --help > /dev/null
	$(OLDEST)/bin/purification-nb audit --data digits --seeds 1 --recipes none,one_hot,purifier --attacks label,confidence,inversion --out $(OLDEST)/report
	$(OLDEST)/bin/pytest -q --disable-warnings tests/test_edges.py tests/test_memguard.py tests/test_purifier.py

notebooks: export OMP_NUM_THREADS := 1
notebooks: $(DEV) ## run every notebook in place and save its outputs; NB=nbs/04_membership.ipynb for one, QUICK=--quick without slow cells
	$(BIN)/python dev/notebooks.py run $(QUICK) $(NB)

format: $(DEV) ## give notebooks, library, tests and tools their one look (ruff)
	$(BIN)/ruff check -q --fix-only $(LOOKED_AT)
	$(BIN)/ruff format -q $(LOOKED_AT)

export: $(DEV) ## write purification_nb/ from the notebooks
	$(BIN)/python dev/export.py

readme: $(DEV) ## write README.md from nbs/index.ipynb
	$(BIN)/python dev/readme.py

docs: $(DEV) ## build the documentation site in _docs/ from the notebooks' saved outputs; no network, nothing is run
	$(BIN)/python dev/docs/build_site.py

wheel: $(DEV) ## build the wheel and the sdist in dist/, and check what a registry would show of them
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

reproduce: export OMP_NUM_THREADS := 1
reproduce: $(DEV) ## measure the paper's tables again (four hours on two cores) and show them in nbs/tutorials/reproduce_the_paper.ipynb
	$(BIN)/python dev/notebooks.py run nbs/tutorials/reproduce_the_paper.ipynb

course: export OMP_NUM_THREADS := 1
course: $(DEV) ## build the coursework in course/: nbgrader tree, student release, solutions, otter form; NAMES=01_... for some, SEED=2027 for other numbers
	$(BIN)/python dev/course.py $(NAMES) $(if $(SEED),--seed $(SEED))

grade: export OMP_NUM_THREADS := 1
grade: $(DEV) ## grade an assignment of course/ in containers, from what was handed in to grades.csv; NAME=01_..., FLAGS=--here without Docker
	$(BIN)/python course/grade.py $(NAME) $(FLAGS)

bench: $(DEV) ## measure speed, as ratios in one run, and count what audits claim; see benchmarks/README.md
	$(BIN)/python benchmarks/shadows.py
	$(BIN)/python benchmarks/purifier.py
	$(BIN)/python benchmarks/players.py
	$(BIN)/python benchmarks/memguard.py
	$(BIN)/python benchmarks/stream.py
	$(BIN)/python -m pip install --no-deps -r benchmarks/requirements.txt
	$(BIN)/python benchmarks/attacks.py
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/verdicts.py --save

clean-cache: ## forget the trained models
	rm -rf "$(PURIFICATION_NB_CACHE)"

# A stamp stands only while pip is done, so a venv without one was cut short and is made anew.
$(RUNTIME): settings.ini setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("purification_nb needs Python 3.11 or newer, and $(PYTHON) is %d.%d; try make PYTHON=python3.12" % sys.version_info[:2])'
	@[ -e $@ ] && $(BIN)/python -c '' || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	@rm -f $@
	$(call WANTED,-e .)
	@touch $@

$(DEV): $(RUNTIME)
	@rm -f $(RUNTIME)
	$(call WANTED,-e ".[dev]")
	@touch $(RUNTIME) $@
