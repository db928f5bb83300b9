# Creates the environments and runs the workflow in them. Everything else is Snakemake's: see Snakefile.
#
#   make figures               every figure and table, at the scale that config/config.yaml names
#   make figures SCALE=tiny    the same at another scale
#   make figures PYTHON=python3.12 ARGS="-n"

# Which Python makes the environments; 3.11 or later.
PYTHON ?= python3
# On Linux pip's own torch is the build for GPUs, gigabytes large. The address of PyTorch's index of builds for CPUs (its
# installation page has it) saves them: make figures TORCH_INDEX=...
TORCH_INDEX ?=
# A scale other than that of config/config.yaml, and further arguments for Snakemake.
SCALE ?=
ARGS ?=
# Arguments for pytest: files side by side on all cores.
PYTEST_ARGS ?= -n auto --dist loadfile

# The environments install again whenever a lock is newer than they are.
LOCAL := .venv/.installed-local
TEST := .venv/.installed-test
VERL := .venv-verl/.installed-verl

CONFIG = $(if $(SCALE),--config scale=$(SCALE))
# Only errors: that an index lacks a package which another has is no news.
PIP = -m pip --quiet --quiet --disable-pip-version-check install
# Only torch itself comes from its index. One that cannot be reached costs two short tries: pip may know another place.
PIP_TORCH = $(PIP) --no-deps $(if $(TORCH_INDEX),--retries 1 --timeout 15 --extra-index-url $(TORCH_INDEX))
IN_VENV = PATH="$(CURDIR)/.venv/bin:$$PATH"
ONE_THREAD = OMP_NUM_THREADS=1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env figures test test-report test-slurm test-verl lint clean

help: ## List the targets.
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

env: $(LOCAL) ## Create .venv from envs/local.txt, if it is missing or older than the lock.

figures: $(LOCAL) ## Make every figure and table; about 25 minutes on two cores; continues if stopped.
	@echo "Training, evaluating and drawing. At local scale this takes about 25 minutes on two cores; what needs no training is"
	@echo "there in the first minute. It may be stopped at any time (Ctrl-C) and goes on where it was."
	@$(IN_VENV) .venv/bin/snakemake --cores all --quiet rules reason host $(CONFIG) $(ARGS) || { \
		echo "Not finished: the reason is above, and in the log that it names. The same command goes on from here." >&2; \
		echo "If the directory is said to be locked and no other Snakemake runs: .venv/bin/snakemake --unlock" >&2; \
		exit 1; }
	@.venv/bin/python -c 'import sys; from asymgrpo.config import load; study = load(".", {"scale": sys.argv[1] or None}); \
		print(f"Figures: {study.figure_stem(str()).as_posix()}/  Tables: {study.table_stem(str()).as_posix()}/"); \
		print(f"All of it on one page: {study.report_file().as_posix()}")' "$(SCALE)"

test: $(TEST) ## Run all tests, a whole small workflow among them; only those with verl, vLLM, Slurm or a browser are left out.
	@echo "Testing, the whole workflow at a tiny scale included; this takes 10 to 15 minutes."
	@$(IN_VENV) $(ONE_THREAD) .venv/bin/python -m pytest -m "not verl and not slurm and not browser" $(PYTEST_ARGS)

test-report: $(TEST) ## Run the tests of the report in Chromium, which has to be installed (Debian: apt-get install chromium).
	@command -v chromium > /dev/null || command -v chromium-browser > /dev/null || command -v google-chrome > /dev/null || { \
		echo "There is no chromium: apt-get install chromium" >&2; exit 1; }
	@echo "Testing the report in Chromium; this takes about two minutes."
	@$(IN_VENV) $(ONE_THREAD) .venv/bin/python -m pytest -m browser --durations=5

test-slurm: $(TEST) ## Run the tests of `snakemake --profile slurm` on a Slurm that comes up for them on this machine; as root.
	@[ "$$(id -u)" = 0 ] || { echo "Only root can start Slurm's daemons: sudo make test-slurm" >&2; exit 1; }
	@for name in slurmctld slurmd munged; do command -v $$name > /dev/null || { \
		echo "There is no $$name: apt-get install slurm-wlm munge" >&2; exit 1; }; done
	@echo "Testing on a Slurm of one node, with jobs that are killed, preempted and cancelled; this takes 10 to 15 minutes."
	@$(IN_VENV) $(ONE_THREAD) .venv/bin/python -m pytest -m slurm --durations=10

test-verl: $(VERL) ## Run the tests with verl and vLLM on a CPU, the smoke scale among them, in .venv-verl.
	@.venv-verl/bin/python -c 'import verl, vllm' || { \
		echo "verl or vLLM cannot be imported: rm -r .venv-verl, and again" >&2; exit 1; }
	@echo "Testing with verl and vLLM, the whole workflow at the smoke scale included; this takes about half an hour."
	@PATH="$(CURDIR)/.venv-verl/bin:$$PATH" $(ONE_THREAD) .venv-verl/bin/python -m pytest -m verl --durations=15

lint: $(TEST) ## Check style, types and the workflow's own rules.
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	$(IN_VENV) .venv/bin/snakemake --lint
	.venv/bin/snakefmt --check --line-length 120 Snakefile workflow/rules

clean: ## Remove the environments and caches; results/ and figures/ stay.
	rm -rf .venv .venv-verl .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find Snakefile src tests workflow -name __pycache__ -type d -prune -exec rm -rf {} +

# The environments

define CHECK_PYTHON
	@command -v "$(PYTHON)" > /dev/null || { \
		echo "There is no $(PYTHON). Install Python 3.11 or later, or name another: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$("$(PYTHON)" -V 2>&1); 3.11 or later is needed. Name another: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2> /dev/null || { \
		echo "$(PYTHON) cannot create environments, it has no venv (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
endef

# Made anew if a creation was interrupted. The environment ignores itself for git.
.venv/.created .venv-verl/.created:
	$(CHECK_PYTHON)
	@echo "Creating the environment $(@D) with $$("$(PYTHON)" -V) ..."
	@"$(PYTHON)" -m venv --clear $(@D)
	@echo '*' > $(@D)/.gitignore
	@touch $@

$(LOCAL): envs/local.txt pyproject.toml | .venv/.created
	@echo "Installing PyTorch in .venv ..."
	@.venv/bin/python $(PIP_TORCH) --constraint envs/local.txt torch
	@echo "Installing what else envs/local.txt names, and this project ..."
	@.venv/bin/python $(PIP) --requirement envs/local.txt
	@.venv/bin/python $(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(TEST): envs/test.txt $(LOCAL)
	@echo "Installing what tests need in .venv (envs/test.txt) ..."
	@.venv/bin/python $(PIP) --requirement envs/test.txt
	@touch $@

# A complete lock of two packages that pin each other's dependencies apart: pip installs it as it is.
$(VERL): envs/verl-cpu.txt pyproject.toml | .venv-verl/.created
	@echo "Installing PyTorch in .venv-verl ..."
	@.venv-verl/bin/python $(PIP_TORCH) --constraint envs/verl-cpu.txt torch
	@echo "Installing verl, vLLM and what they need (envs/verl-cpu.txt), about 3 GB; this takes a few minutes ..."
	@.venv-verl/bin/python $(PIP) --no-deps --requirement envs/verl-cpu.txt
	@.venv-verl/bin/python $(PIP) --no-deps --no-build-isolation --editable .
	@touch $@
