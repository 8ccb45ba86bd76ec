# Two commands: `make demo` and `make test`. Each installs what is missing, configures, builds and runs.
PRESET ?= release
BUILD  := build/$(PRESET)
BIN    := $(BUILD)/bin
OUT    ?= out
CTEST_FLAGS ?= -LE "slow|live"
# GCC 12's TSan does not start at the addresses that kernels with wide ASLR give (vm.mmap_rnd_bits above 28).
NO_ASLR := $(if $(filter tsan,$(PRESET)),$(shell setarch -R true 2> /dev/null && echo setarch -R))

.PHONY: help demo serve test live test-all quick build program configure deps tools-deps fuzz format tidy clean

help:
	@sed -n 's/^## //p' Makefile

## make demo       a talking video from the embedded mini model: out/demo.mp4 and its contact sheet out/demo.png; builds
##                 the program alone, which takes minutes on two cores
demo: program
	@mkdir -p $(OUT)
	$(BIN)/liveavatar generate --ckpt_dir models/mini --image assets/demo/portrait.png --audio assets/demo/voice.wav \
	  --prompt "A friendly cartoon character talks to the camera." --size "128*128" --save_file $(OUT)/demo.mp4
	$(BIN)/liveavatar sheet $(OUT)/demo.mp4 $(OUT)/demo.png
	@echo "video:         $(CURDIR)/$(OUT)/demo.mp4"
	@echo "contact sheet: $(CURDIR)/$(OUT)/demo.png"

## make serve      the server with the mini model: http://127.0.0.1:8080; SERVE_FLAGS="--port 0 --quiet"
serve: program
	$(BIN)/liveavatar serve $(SERVE_FLAGS)

## make test       the suite (ten minutes); PRESET=debug runs it under ASan and UBSan, PRESET=tsan under TSan
test: build tools-deps
	$(NO_ASLR) ctest --preset $(PRESET) $(CTEST_FLAGS)
	@grep -h '^callgrind\.' $(BUILD)/Testing/Temporary/LastTest.log || true

## make live       the tests of servers and streams (label live), which wait for real time
live: build
	ctest --preset $(PRESET) -L live -LE slow

## make test-all   the suite with the tests of servers (label live) and the long ones (label slow)
test-all: build tools-deps
	$(NO_ASLR) ctest --preset $(PRESET)

## make quick      the tests of seconds (label quick), with their programs alone built; PRESET as above
quick: configure
	cmake --build $(BUILD) --target quick_tests
	$(NO_ASLR) ctest --preset $(PRESET) -L quick -j $(shell nproc)

## make build      configure and build
build: configure
	cmake --build $(BUILD)

program: configure
	cmake --build $(BUILD) --target liveavatar

configure: deps
	@if [ ! -f $(BUILD)/build.ninja ] || [ -n "$(CMAKE_FLAGS)" ]; then cmake --preset $(PRESET) $(CMAKE_FLAGS) > /dev/null; fi

deps:
	@scripts/install-deps

tools-deps:
	@scripts/install-deps bench/packages.txt
	@tools/mini/install

## make fuzz       every fuzz target under ASan and UBSan for FUZZ_SECONDS (600); needs clang-16 (tests/fuzz/packages.txt)
FUZZ_SECONDS ?= 600
FUZZ_TARGETS := safetensors gguf lora config torch packed tokenizer snapshot sound image serve http
fuzz: build
	@scripts/install-deps tests/fuzz/packages.txt
	cmake --preset fuzz > /dev/null
	cmake --build build/fuzz --target $(FUZZ_TARGETS:%=%_fuzz)
	@for t in $(FUZZ_TARGETS); do \
	  tests/fuzz/run.sh build/fuzz/bin/$${t}_fuzz $$t $(BUILD)/goldens/files $(FUZZ_SECONDS) || exit 1; done

## make format     clang-format over the sources
format:
	find src include tests tools examples -name '*.cc' -o -name '*.c' -o -name '*.h' -o -name '*.inl' -o -name '*.cu' -o -name '*.cuh' | \
	  xargs clang-format -i

## make tidy       clang-tidy over src, or over FILES (.clang-tidy; needs clang-tidy 14 and a configured build)
FILES ?= $(filter-out src/backend/cpu/kernels_%,$(shell find src -name '*.cc'))
tidy: configure
	@command -v clang-tidy > /dev/null || { echo "tidy: clang-tidy is missing: apt-get install clang-tidy"; exit 1; }
	@printf '%s\n' $(FILES) | xargs -P $(shell nproc) -n 1 clang-tidy --quiet -p $(BUILD)

## make clean      remove build/ and out/
clean:
	rm -rf build $(OUT)
