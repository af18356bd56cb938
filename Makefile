# `make help` lists the targets. Build folders: build (release), build-asan (and the fuzzers), build-tsan, build-mutate,
# build-aarch64. GCC's warnings are errors in CI; clang's are clang-tidy's business (`make tidy`).
MODEL ?= smollm2:135m
PROMPT ?= Why is the sky blue? Answer in two sentences.
PREFIX ?= /usr/local
JOBS ?= $(shell nproc)
CI ?=

CMAKE = cmake -G Ninja -DBAIZE_WERROR=$(if $(CI),ON,OFF)
NINJA = ninja -j$(JOBS)
# Sanitizer builds: optimised a little so that they are bearable, asserts on; all builds share one build of the text crates.
DEBUG = -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g1" -DBAIZE_RUST_DIR=$(CURDIR)/build/rust
CLANG = -DCMAKE_C_COMPILER=clang-19 -DCMAKE_CXX_COMPILER=clang++-19
RUN_TESTS = python3 tools/run_tests.py
BAIZE = build/baize

.PHONY: run serve build test unit variants asan tsan fuzz soak qemu tidy mutate check-all install dist format bench cuda clean help \
        setup setup-test build-all build-asan build-tsan build-aarch64
.DEFAULT_GOAL := help

run: build  ## build what is missing, fetch the default model, answer one prompt
	@$(BAIZE) pull $(MODEL)
	@$(BAIZE) run $(MODEL) "$(PROMPT)"
	@echo
	@echo "Chat:              $(BAIZE) run $(MODEL)"
	@echo "Server, chat page: make serve   ($(BAIZE) serve $(MODEL), then http://127.0.0.1:8000)"
	@echo "Other models:      $(BAIZE) run FILE.gguf | FOLDER | NAME   ($(BAIZE) pull --help says where NAME may come from)"
	@echo "Everything else:   $(BAIZE) --help"

serve: build  ## serve the default model and the chat page on http://127.0.0.1:8000
	@$(BAIZE) pull $(MODEL)
	@$(BAIZE) serve $(MODEL)

build: setup build/build.ninja  ## the program, build/baize
	@$(NINJA) -C build $(if $(VERBOSE),,--quiet) baize

setup:
	@tools/setup.sh build
setup-test:
	@tools/setup.sh test

test: setup-test build-all build-asan  ## all quick tests, as CI runs them
	@$(RUN_TESTS) checks unit asan fuzz pytest

check-all: setup-test build-all build-asan build-tsan build-aarch64  ## test, and what takes longer
	@$(RUN_TESTS) checks unit asan fuzz pytest tsan qemu slow variants
	@$(MAKE) --no-print-directory tidy mutate

unit: setup-test build-all  ## unit tests of the release build
	@$(RUN_TESTS) unit
asan: setup-test build-asan  ## unit tests under the address and undefined-behaviour sanitizers
	@$(RUN_TESTS) asan
tsan: setup-test build-tsan  ## unit tests under the thread sanitizer
	@$(RUN_TESTS) tsan
fuzz: setup-test build-asan  ## fuzzers, FUZZ_SECONDS (60) each
	@$(RUN_TESTS) fuzz
variants: setup-test build-all  ## other sizes of every family against transformers (first: tools/setup.sh reference)
	@$(RUN_TESTS) variants
soak: setup-test build-asan  ## mixed load on the sanitized server, SOAK_SECONDS (600)
	@.venv/bin/python tests/soak/soak.py
qemu: setup-test build-aarch64  ## kernel tests for aarch64 under qemu
	@$(RUN_TESTS) qemu

build/build.ninja:
	@$(CMAKE) -B build > /dev/null
build-asan/build.ninja:
	@$(CMAKE) -B build-asan $(DEBUG) $(CLANG) -DBAIZE_WERROR=OFF -DBAIZE_SANITIZE=address > /dev/null
build-tsan/build.ninja:
	@$(CMAKE) -B build-tsan $(DEBUG) -DBAIZE_SANITIZE=thread > /dev/null
build-aarch64/build.ninja:
	@$(CMAKE) -B build-aarch64 -DCMAKE_TOOLCHAIN_FILE=tools/aarch64.cmake -DBAIZE_KERNELS_ONLY=ON > /dev/null

build-all: setup-test build/build.ninja
	@echo "== building build" && $(NINJA) -C build
build-asan: setup-test build-asan/build.ninja
	@echo "== building $@" && $(NINJA) -C $@
build-tsan: setup-test build-tsan/build.ninja
	@echo "== building $@" && $(NINJA) -C $@
build-aarch64: setup-test build-aarch64/build.ninja
	@echo "== building $@" && $(NINJA) -C $@

format:  ## format the C++ sources in place
	@git ls-files -co --exclude-standard '*.h' '*.cc' '*.cu' '*.cuh' | xargs -r clang-format-19 -i
tidy: setup-test build/build.ninja  ## clang-tidy over src/, all cores
	@tools/tidy.sh build $(JOBS)
mutate: setup-test  ## switch each mechanism off in turn: some test must notice
	@$(CMAKE) -B build-mutate -DBAIZE_MUTATE=ON -DBAIZE_RUST_DIR=$(CURDIR)/build/rust > /dev/null
	@$(NINJA) -C build-mutate
	@python3 tools/mutate.py build-mutate

install: build  ## install under PREFIX (/usr/local), honours DESTDIR
	@DESTDIR=$(DESTDIR) cmake --install build --prefix $(PREFIX) --strip
dist: build  ## dist/baize-VERSION-linux-ARCH.tar.gz, which runs on a bare Debian 12 or newer
	@tools/dist.sh build dist
bench: build  ## this machine's roofs, then MODEL's speed
	@$(BAIZE) bench --roof
	@$(BAIZE) bench $(MODEL)
cuda:  ## the program with the CUDA backend
	@tools/setup.sh cuda
	@$(CMAKE) -B build -DBAIZE_CUDA=ON > /dev/null
	@$(NINJA) -C build
clean:  ## remove everything built
	@rm -rf build build-* dist
help:  ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1 - \2/p' Makefile
