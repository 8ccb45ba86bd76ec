# Two commands: `make demo` and `make test`. Each installs what is missing, configures, builds and runs.
PRESET ?= release
BUILD  := build/$(PRESET)
BIN    := $(BUILD)/bin
OUT    ?= out
CTEST_FLAGS ?= -LE slow

.PHONY: help demo test test-all build deps tools-deps format clean

help:
	@sed -n 's/^## //p' Makefile

## make demo       a talking video from the embedded mini model: out/demo.mp4 and its contact sheet out/demo.png
demo: build
	@mkdir -p $(OUT)
	$(BIN)/liveavatar generate --ckpt_dir models/mini --image assets/demo/portrait.png --audio assets/demo/voice.wav \
	  --prompt "A friendly cartoon character talks to the camera." --size "128*128" --save_file $(OUT)/demo.mp4
	$(BIN)/liveavatar sheet $(OUT)/demo.mp4 $(OUT)/demo.png
	@echo "video:         $(CURDIR)/$(OUT)/demo.mp4"
	@echo "contact sheet: $(CURDIR)/$(OUT)/demo.png"

## make test       the suite (a few minutes); PRESET=debug runs it under ASan and UBSan, PRESET=tsan under TSan
test: build tools-deps
	ctest --preset $(PRESET) $(CTEST_FLAGS)
	@grep -h '^callgrind\.' $(BUILD)/Testing/Temporary/LastTest.log || true

## make test-all   the suite with the long tests (label slow)
test-all: build tools-deps
	ctest --preset $(PRESET)

## make build      configure and build
build: deps
	@test -f $(BUILD)/build.ninja || cmake --preset $(PRESET) $(CMAKE_FLAGS) > /dev/null
	cmake --build $(BUILD)

deps:
	@scripts/install-deps

tools-deps:
	@scripts/install-deps bench/packages.txt
	@tools/mini/install

## make format     clang-format over the sources
format:
	find src include tests tools examples -name '*.cc' -o -name '*.h' -o -name '*.inl' | xargs clang-format -i

## make clean      remove build/ and out/
clean:
	rm -rf build $(OUT)
