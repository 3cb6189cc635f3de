# Thin front of the build: CMake compiles, ctest runs the tests, scripts/ hold the rest.
#   make          build/eqat, build/libeqat.a, build/libeqat.so
#   make demo     install what is needed, fetch the model, quantize it, compare, let it speak
#   make test     install what is needed, build, run every test
#   make test-clients  what we read, export and serve, in the programs that it is for (downloads PyTorch)
#   make check    the long gate: both compilers, sanitizers, reduced builds, form
# BUILD=folder, CC=compiler, JOBS=n and FLAGS="-DEQAT_OPENMP=OFF ..." change the build.

BUILD ?= build
FLAGS ?=
JOBS ?=
ifeq ($(origin CC),default)
CC := gcc
endif
NINJA := ninja -C $(BUILD) $(if $(JOBS),-j$(JOBS))
PYTHON := .venv/bin/python
PEER := .venv-peer/bin/python
CLIENTS := .venv-clients
SOURCES = $(shell find include src tests -name '*.[ch]')

.PHONY: all setup model demo test test-clients check format golden bench bench-peer bench-clients clean

all: $(BUILD)/build.ninja
	$(NINJA)

$(BUILD)/build.ninja:
	cmake -S . -B $(BUILD) -G Ninja -DCMAKE_C_COMPILER=$(CC) -DCMAKE_BUILD_TYPE=Release $(FLAGS)

setup:
	scripts/setup.sh

model: setup
	scripts/fetch_model.sh

demo: setup
	$(MAKE) all
	scripts/fetch_model.sh
	scripts/demo.sh $(BUILD)/eqat

test: setup
	$(MAKE) all
	scripts/fetch_model.sh
	scripts/venv.sh .venv requirements/test.txt
	ctest --test-dir $(BUILD) --output-on-failure

test-clients: setup
	$(MAKE) all
	scripts/fetch_model.sh
	scripts/venv.sh $(CLIENTS) requirements/clients.txt
	scripts/setup.sh --clients
	tests/clients/run.sh $(BUILD)/eqat
	$(CLIENTS)/bin/python tests/clients/check_foreign.py $(BUILD)/eqat
	$(CLIENTS)/bin/python tests/clients/check_openai.py $(BUILD)/eqat
	$(CLIENTS)/bin/python tests/clients/check_page.py $(BUILD)/eqat
	$(CLIENTS)/bin/python tests/clients/check_families.py $(BUILD)/eqat

check:
	scripts/setup.sh --check
	scripts/fetch_model.sh
	scripts/venv.sh .venv requirements/test.txt
	scripts/check.sh

format:
	clang-format -i $(SOURCES)

golden:
	scripts/venv.sh .venv-peer requirements/peer.txt
	$(PEER) tools/make_golden.py

bench: all
	$(BUILD)/eqat bench

bench-peer: all
	scripts/venv.sh .venv-peer requirements/peer.txt
	$(PEER) bench/peer_blockap.py --eqat $(BUILD)/eqat
	$(PEER) bench/peer_e2e.py --eqat $(BUILD)/eqat

bench-clients: all
	scripts/fetch_model.sh
	scripts/venv.sh $(CLIENTS) requirements/clients.txt
	bench/clients.sh $(BUILD)/eqat

clean:
	rm -rf $(BUILD)
