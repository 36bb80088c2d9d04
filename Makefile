# The whole of Track-Unmix on one machine: needs make and Python 3.11 or newer, everything else goes into .venv.

VENV := .venv
BIN := $(VENV)/bin
# Another torch is another installation.
INSTALLED = $(VENV)/.installed$(addprefix -,$(CUDA))
# The first interpreter that is new enough; choose another with `make PYTHON=…`.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

# `auto`: htdemucs if it is cached or can be fetched, else the small demo model, and a line that says so.
MODEL ?= auto
# Without a number, as many as the processors and the memory are good for.
WORKERS ?=
# Where models are computed: cpu, cuda, cuda:1, mps. Without a name, as UNMIX_DEVICE says, else on the CPU.
DEVICE :=
TO_DEVICE = $(addprefix --device ,$(DEVICE))
# Where `make run` listens, and the threads of each worker; said on the command line, as shells have a HOST of their own.
HOST :=
THREADS :=
DATA ?= ./.unmix
PORT ?= 5000
# A song of your own for `make demo`; without one it takes the bundled song.
SONG ?=
# What is chosen at random in `make chaos`, to repeat a run.
SEED ?=

# The CUDA that torch is to be built for, as in cu130, in .venv and in the worker's image; without one it has the CPU
# alone. Said on the command line: a variable of the environment with this name may be a path.
CUDA :=
# What builds the images: docker or podman. MODELS and CUDA are build arguments of worker/Dockerfile.
DOCKER ?= docker
MODELS ?=
BUILD_ARGS ?=
# Where images go is said on the command line, not by a variable of the environment.
REGISTRY :=
# Docker's attestation of a build has the time in it: an image would get a new id each time, though nothing changed.
export BUILDX_NO_DEFAULT_ATTESTATIONS := 1
# Each image has two tags: the version, which the manifests name, and the very state that it was built from.
CURRENT = $(shell awk -F '"' '/^version = / { print $$2; exit }' pyproject.toml)
VERSION = $(CURRENT)
REVISION = $(shell git describe --tags --always --dirty 2>/dev/null)
REST_IMAGES = $(addprefix track-unmix-rest:,$(VERSION) $(REVISION))
WORKER_IMAGES = $(addsuffix $(if $(CUDA),-cuda),$(addprefix track-unmix-worker:,$(VERSION) $(REVISION)))

# Where the version is named beside pyproject.toml, and after which words. A test finds what is missing here.
VERSIONED := pyproject.toml rest/Dockerfile worker/Dockerfile worker/README.md k8s/README.md k8s/try-images.sh docs/gke.md docs/images.md \
	docs/single-machine/compose.yaml k8s/base/kustomization.yaml k8s/overlays/gke-gpu/kustomization.yaml tests/manifests/test_deploy.py \
	tests/manifests/test_diagnosis.py
BEFORE_VERSION := (^version = "|newTag: |track-unmix-(rest|worker):|TAG: |tag=[$$][{]1:-|refs.tags.v)

# Not more, on however many cores: a test of the whole service has up to ten processes of its own. In the order of names
# those of the whole service come first, and short files last.
TWO_FILES_AT_ONCE := -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo run test test-rest test-all chaos chaos-mutants e2e-kind bench bench-long bench-quality bench-music bench-service bench-parts bench-rest bench-exposed bench-operate bench-page images push lint \
	constraints version-set clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile
	@printf '\nVariables: PYTHON, CUDA (setup), MODEL=auto|NAME, DEVICE=cpu|cuda|mps (demo, run), SONG=path (demo),\n  WORKERS, THREADS, HOST, PORT, DATA (run), SEED (chaos), DOCKER, MODELS, CUDA, BUILD_ARGS (images), REGISTRY (push), VERSION (version-set)\n'

setup: $(INSTALLED) ## Make .venv with everything in it; CUDA=cu130 for GPUs

demo: setup ## Separate a song through the whole service; stems go to ./stems
	@exec $(BIN)/unmix demo $(if $(SONG),"$$SONG") --model $(MODEL) $(TO_DEVICE)

run: setup ## Serve here until Ctrl-C, on http://localhost:5000
	@exec $(BIN)/unmix local --model $(MODEL) $(addprefix --workers ,$(WORKERS)) $(addprefix --threads ,$(THREADS)) \
		--data-dir "$(DATA)" $(addprefix --host ,$(HOST)) --port $(PORT) $(TO_DEVICE)

test: setup test-rest ## Run the ordinary tests
	$(BIN)/pytest $(TWO_FILES_AT_ONCE) -m "not slow" --ignore-glob='*/unit/test_rest_*.py'  # those have just run

test-rest: $(VENV)-rest/.installed ## Run REST's unit tests where there is no torch
	$(VENV)-rest/bin/pytest $(TWO_FILES_AT_ONCE) -m "not slow" tests/unit/test_rest_*.py

test-all: $(VENV)/.bench-installed $(VENV)-peers/.installed test-rest ## Run every test, the slow ones too
	$(BIN)/pytest

chaos: setup ## Kill, freeze and starve the service in every way we know; docs/reliability.md says how long it takes
	PYTHONPATH=tests $(BIN)/python -m chaos $(if $(SEED),--seed $(SEED))

chaos-mutants: setup ## Remove each mechanism that keeps songs safe in turn, and see a test fail: 15 minutes and more
	PYTHONPATH=tests $(BIN)/python -m chaos.mutants

e2e-kind: setup ## Deploy to a kind cluster of its own and disturb it; needs kind, kubectl, docker
	k8s/e2e-kind.sh

bench: $(VENV)/.bench-installed $(VENV)-peers/.installed ## Measure time and memory beside demucs and others: about an hour
	$(BIN)/python -m benchmarks.separate bench

bench-long: $(VENV)/.bench-installed ## The same on songs of up to an hour: about an hour
	$(BIN)/python -m benchmarks.separate bench-long

bench-quality: $(VENV)/.bench-installed ## Measure what speed costs in quality; needs fluidsynth: 10 minutes
	$(BIN)/python -m benchmarks.quality

bench-music: $(VENV)/.bench-installed ## Measure how often key and tempo are right; needs fluidsynth: 10 minutes
	$(BIN)/python -m benchmarks.music

bench-service: $(VENV)/.bench-installed ## Measure what clients of the service wait for, what grows, what more workers bring: 30 minutes
	$(BIN)/python -m benchmarks.service
	$(BIN)/python -m benchmarks.history
	$(BIN)/python -m benchmarks.workers

bench-parts: $(VENV)/.bench-installed ## Measure what parts of songs bring and cost: 25 minutes and more
	PYTHONPATH=tests $(BIN)/python -m benchmarks.parts

bench-rest: $(VENV)/.bench-installed ## Measure what REST costs its clients: views, streams, uploads: 20 minutes
	$(BIN)/python -m benchmarks.rest

bench-exposed: $(VENV)/.bench-installed ## Measure what hostile clients can do, and what the gate costs; needs nginx: 15 minutes
	PYTHONPATH=tests $(BIN)/python -m benchmarks.exposed

bench-operate: $(VENV)/.bench-installed ## Measure what operators rely on: metrics, traces, scale-ins, a restore of 1,000 jobs: 20 minutes
	$(BIN)/python -m benchmarks.metrics
	$(BIN)/python -m benchmarks.traces
	$(BIN)/python -m benchmarks.scale_day
	PYTHONPATH=tests $(BIN)/python -m benchmarks.scale_in
	$(BIN)/python -m benchmarks.restore

bench-page: $(VENV)/.bench-installed ## Measure the page in a browser: drop to sound, weight, memory; needs chromium: 15 minutes
	PYTHONPATH=tests $(BIN)/python -m benchmarks.page

images: ## Build the container images, with DOCKER=docker or podman
	$(if $(MODELS),@echo 'Of the weights of $(MODELS): they are not ours. See "Licences" in worker/README.md before you offer them to others.')
	$(DOCKER) build -f rest/Dockerfile $(BUILD_ARGS) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
		$(addprefix -t ,$(REST_IMAGES)) .
	$(DOCKER) build -f worker/Dockerfile $(BUILD_ARGS) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
		--build-arg MODELS="$(MODELS)" --build-arg CUDA="$(CUDA)" $(addprefix -t ,$(WORKER_IMAGES)) .

push: ## Push the images to REGISTRY
	@test -n "$(REGISTRY)" || { echo 'Name a registry, as in `make push REGISTRY=registry.example.com/track-unmix`.'; exit 1; }
	for image in $(REST_IMAGES) $(WORKER_IMAGES); do \
		$(DOCKER) tag $$image "$(REGISTRY)/$$image" && $(DOCKER) push "$(REGISTRY)/$$image" || exit 1; \
	done

lint: setup ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

constraints: $(VENV)-constraints/bin/python ## Write the newest versions that pyproject.toml allows to constraints.txt
	$(VENV)-constraints/bin/pip install $(TORCH)
	$(VENV)-constraints/bin/pip install -e '.[rest,worker,local,traces,test,bench]'
	@echo '# The very versions that setup, CI and both images install. Made by `make constraints`: do not edit.' > constraints.txt
	$(VENV)-constraints/bin/pip freeze --exclude-editable | sed -E 's/\+[a-z0-9.]+$$//' >> constraints.txt
	rm -rf $(VENV)-constraints

version-set: ## Write VERSION=x.y.z wherever the version is named
	@echo '$(VERSION)' | grep -Eqx '[0-9]+\.[0-9]+\.[0-9]+' && test '$(VERSION)' != '$(CURRENT)' \
		|| { echo 'Name the new version, as in `make version-set VERSION=1.2.3`; this one is $(CURRENT).'; exit 1; }
	sed -E -i.old 's/$(BEFORE_VERSION)$(subst .,\.,$(CURRENT))/\1$(VERSION)/g' $(VERSIONED)
	rm $(addsuffix .old,$(VERSIONED))

clean: ## Remove what was made here, but not the data in ./.unmix
	rm -rf $(VENV) $(VENV)-rest $(VENV)-peers $(VENV)-constraints stems .mypy_cache .pytest_cache .ruff_cache .hypothesis

# A folder of PyTorch's index is one build of it. Who names a CUDA gets that build or an error: the local version in the
# pin makes sure of it. One name only in the first call: where the index cannot be reached, pip tries it once per name.
TORCH = --retries 1 "torch==2.13.0$(addprefix +,$(CUDA))" --extra-index-url https://download.pytorch.org/whl/$(or $(CUDA),cpu)
# Without it, two people who set up on two days test two different things.
PINNED := --constraint constraints.txt

$(INSTALLED): pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo 'Setting up $(VENV): once, some minutes, about 2.5 GB of disk$(if $(CUDA), for all but CUDA).'
	$(BIN)/pip install $(PINNED) $(TORCH)
	$(BIN)/pip install $(PINNED) -e '.[rest,worker,local,traces,test]'
	$(if $(CUDA)$(wildcard $(VENV)/.installed-*),,@$(BIN)/python -c "$$WARN_OF_CUDA")
	$(if $(CUDA),@rm -f $(VENV)/.installed-*)
	@touch $@ $(VENV)/.installed  # whoever names no CUDA later keeps this one

$(VENV)/.bench-installed: $(INSTALLED)
	$(BIN)/pip install --quiet $(PINNED) -e '.[bench]'
	@touch $@

$(VENV)-rest/.installed: pyproject.toml constraints.txt | $(VENV)-rest/bin/python
	$(VENV)-rest/bin/pip install --quiet $(PINNED) -e '.[rest,local]' pytest pytest-timeout pytest-xdist cryptography psutil \
		jsonschema openapi-spec-validator schemathesis
	@touch $@

# Other programs that run demucs' models, and demucs for the exporter of the last one. benchmarks/README.md has more.
PEERS := audio-separator==0.47.1 "demucs-infer[mp3]==4.4.0" "demucs-onnx[mp3]==0.3.4" onnxruntime==1.32.0 demucs==4.1.0

$(VENV)-peers/.installed: constraints.txt | $(VENV)-peers/bin/python
	$(VENV)-peers/bin/pip install --quiet $(PINNED) $(TORCH)
	$(VENV)-peers/bin/pip install --quiet $(PINNED) $(PEERS)
	@touch $@

$(VENV)/bin/python $(VENV)-rest/bin/python $(VENV)-peers/bin/python $(VENV)-constraints/bin/python:
	@if ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo 'Track-Unmix needs Python 3.11 or newer: install one, or name it as in `make PYTHON=/path/to/python3`.'; exit 1; \
	fi
	@if ! "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo 'This Python cannot make virtual environments; on Debian: apt install python3-venv'; exit 1; \
	fi
	@"$(PYTHON)" -m venv $(@:/bin/python=) || { rm -rf $(@:/bin/python=); exit 1; }

define WARN_OF_CUDA
import importlib.metadata as installed
if any((package.name or "").lower().startswith("nvidia-") for package in installed.distributions()):
    print("Warning: pip took the CUDA build of torch, which needs gigabytes of disk: the CPU index could not be reached.")
endef
export WARN_OF_CUDA
