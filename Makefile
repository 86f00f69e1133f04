# tpshard / tprun. `make help` lists the targets.
config ?= release
SHARED ?= ../shared
PREFIX ?= /usr/local
VERSION = 0.1.0
-include Makefile.config

CC = gcc
CXX = g++
# V=1 shows every command
Q = $(if $(V),,@)
CSTD = -std=gnu11 -D_GNU_SOURCE
# Warnings are errors where nobody waits for a program: in CI, and with WERROR=1. Another compiler has others.
WERROR ?= $(CI)
STRICT = $(if $(filter-out 0 false,$(WERROR)),-Werror)
WARN = -Wall -Wextra -Wconversion -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith $(STRICT)
# No contraction anywhere: which operations are fused is part of docs/numerics.md.
FP = -ffp-contract=off -fno-math-errno -fno-trapping-math
ifeq ($(config),release)
  B = build
  OPT = -O2 -g1
else ifeq ($(config),debug)
  B = build/debug
  OPT = -Og -g
else ifeq ($(config),asan)
  B = build/asan
  OPT = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
else ifeq ($(config),tsan)
  B = build/tsan
  OPT = -O1 -g -fsanitize=thread
else ifeq ($(config),fuzz)
  B = build/fuzz
  CC = clang
  OPT = -O1 -g -fsanitize=fuzzer-no-link,address,undefined,float-cast-overflow -fno-sanitize-recover=all
  WARN = -Wall -Wextra
else
  $(error unknown config=$(config), want debug, release, asan, tsan or fuzz)
endif
ifneq ($(filter-out clean help uninstall,$(or $(MAKECMDGOALS),all)),)
  TARGET := $(or $(shell $(CC) -dumpmachine 2>/dev/null),$(shell uname -m))
  ifeq ($(filter x86_64% amd64%,$(TARGET)),)
    $(error x86-64 is required, $(CC) makes programs for $(TARGET))
  endif
endif
# A word of a shell's command line, whatever is in it.
quote  := '
quoted  = $(quote)$(subst $(quote),'\'',$(1))$(quote)
# The folders of a room, and its sources, in one order everywhere; headers are found by bare name.
rooms   = $(addprefix -I,$(sort $(shell find $(1) -type d)))
sources = $(sort $(shell find $(1) -name '*.c'))
CFLAGS = $(CSTD) $(WARN) $(FP) $(OPT) -ffile-prefix-map=$(call quoted,$(CURDIR))=. $(call rooms,format kernels) -pthread $(EXTRA_CFLAGS)
LDLIBS = -ldl -lzstd -lxxhash -ljansson -lpcre2-8 -lutf8proc -ledit -lhwloc -lpthread -lm
LDFLAGS = $(OPT) -pthread

FORMAT  = $(call sources,format)
KERNELS = $(call sources,kernels)
TOOLS   = $(filter-out tools/tpshard.c,$(call sources,tools))
RUNTIME = $(filter-out runtime/tprun.c,$(call sources,runtime))
FUZZ    = $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
UNIT    = $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/test_*.c))
obj     = $(patsubst %.c,$(B)/obj/%.o,$(1))

.PHONY: ask all emulated demo test check test-long bench fuzz install uninstall deb help check-includes check-format deps deps-programs clean format build-tests build-deb run-tests run-demo run-bench
.DEFAULT_GOAL = all
all: $(B)/tpshard $(B)/tprun ## build both programs

$(B)/tpshard: $(call obj,tools/tpshard.c $(TOOLS) $(KERNELS) $(FORMAT))
	@echo '  LD  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(B)/tprun: $(call obj,runtime/tprun.c $(RUNTIME) $(KERNELS) $(FORMAT))
	@echo '  LD  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# Tiles (rows_amx.c) are in assembly; the rest of it is plain C.
AVX2 = -O3 -g1 -mavx2 -mfma -mf16c
AVX512 = $(AVX2) -mavx512f -mavx512bw -mavx512vl -mavx512dq -mprefer-vector-width=512
$(addprefix $(B)/obj/,kernels/cpu/%_avx2.o format/%_avx2.o): ISA = $(AVX2)
$(addprefix $(B)/obj/,kernels/cpu/%_avx512.o format/%_avx512.o kernels/cpu/rows_amx.o): ISA = $(AVX512)
$(B)/obj/kernels/cpu/%_avx512bf16.o: ISA = $(AVX512) -mavx512bf16 -mavx512vbmi
$(B)/obj/kernels/cpu/%_scalar.o: ISA = -O2
$(B)/obj/format/lanes.o $(B)/obj/format/stored_codes.o $(B)/obj/tools/bundle/pack.o: ISA = -O3
$(B)/obj/tools/%.o: CFLAGS += $(call rooms,tools)
$(B)/obj/runtime/%.o: CFLAGS += $(call rooms,runtime)
$(B)/obj/tests/%.o: CFLAGS += $(call rooms,tools runtime) -Itests/unit
$(B)/obj/format/version.o: CFLAGS += -include $(B)/version_made.h
$(B)/obj/format/version.o: $(B)/version_made.h
$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo '  CC  $@'
	$(Q)$(CC) $(CFLAGS) $(ISA) -MMD -MP -c -o $@ $<
# asked every time, written where it is another one
$(B)/version_made.h: ask
	@scripts/make_version.sh '$(VERSION)' $@
ask:

# The GPU's kernels, where there is nvcc: on PATH, or from scripts/install_cuda.sh. Without it all else is built.
# NVCC= (empty) leaves them out.
NVCC ?= $(firstword $(shell command -v nvcc) $(wildcard build/cuda/nvcc))
CUDA_ARCHS ?= 80 90 100 120
FATBIN = build/kernels.fatbin
ifneq ($(NVCC),)
$(FATBIN): $(wildcard kernels/cuda/*)
	@mkdir -p $(@D)
	@echo '  NVCC $@'
	$(Q)scripts/make_fatbin.sh "$(NVCC)" $@ "$(CUDA_ARCHS)"
$(B)/obj/runtime/cuda/cuda_image.o: CFLAGS += -DCUDA_FATBIN='"$(FATBIN)"'
$(B)/obj/runtime/cuda/cuda_image.o: $(FATBIN)
endif

# cuda.h, for the test that compares declarations with it
$(B)/obj/tests/unit/test_cuda_api.o: CFLAGS += $(addprefix -idirafter ,$(firstword $(wildcard $(dir $(realpath $(NVCC)))../include /usr/local/cuda/include)))
# A unit test is one cmocka program per file, linked with everything but the two mains.
$(B)/tests/test_%: $(B)/obj/tests/unit/test_%.o $(B)/obj/tests/unit/filter.o $(call obj,$(TOOLS) $(RUNTIME) $(KERNELS) $(FORMAT))
	@mkdir -p $(@D)
	@echo '  LD  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lcmocka -lm $(LDLIBS)
# A fuzz target reads any input; clang's build makes inputs up, the others replay files. Both take from an
# archive what they need: parsers, no kernels.
$(B)/tests/parsers.a: $(call obj,$(TOOLS) $(RUNTIME) $(FORMAT))
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rc $@ $^
$(B)/tests/fuzz_%: $(B)/obj/tests/fuzz/fuzz_%.o $(if $(filter fuzz,$(config)),,$(B)/obj/tests/fuzz/replay.o) $(B)/tests/parsers.a
	@echo '  LD  $@'
	$(Q)$(CC) $(LDFLAGS) $(if $(filter fuzz,$(config)),-fsanitize=fuzzer) -o $@ $^ -lm $(LDLIBS)
# The runtime with one kernel that sums in another order: the tests of bits must see it.
$(B)/obj/reordered/%.o: %.c
	@mkdir -p $(@D)
	@echo '  CC  $@'
	$(Q)$(CC) $(CFLAGS) -DTP_TEST_REORDER -MMD -MP -c -o $@ $<
$(B)/tests/tprun_reordered: $(B)/obj/reordered/kernels/cpu/dot_scalar.o $(call obj,runtime/tprun.c $(RUNTIME) $(filter-out kernels/cpu/dot_scalar.c,$(KERNELS)) $(FORMAT))
	@mkdir -p $(@D)
	@echo '  LD  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
# The kernels for the tile unit, over one in memory, in tests where there is no such unit.
TILES = $(B)/obj/tests/tools/emulated_tiles.o $(B)/obj/tiles/kernels/cpu/rows_amx.o
$(B)/obj/tiles/%.o: %.c
	@mkdir -p $(@D)
	@echo '  CC  $@'
	$(Q)$(CC) $(CFLAGS) -O2 -DTP_TEST_TILES -MMD -MP -c -o $@ $<
$(B)/tests/test_kernels $(B)/tests/test_attention $(B)/tests/tprun_tiles: $(TILES)
$(B)/tests/test_kernels $(B)/tests/test_attention $(B)/tests/tprun_tiles: LDFLAGS += -Wl,--wrap=kernels_get
$(B)/tests/tprun_tiles: $(call obj,runtime/tprun.c $(RUNTIME) $(KERNELS) $(FORMAT))
	@mkdir -p $(@D)
	@echo '  LD  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
# The runtime with a random wait before every meeting of ranks.
$(B)/tests/tprun_delayed: $(B)/obj/tests/tools/delays.o $(call obj,runtime/tprun.c $(RUNTIME) $(KERNELS) $(FORMAT))
	@mkdir -p $(@D)
	@echo '  LD  $@'
	$(Q)$(CC) $(LDFLAGS) -Wl,--wrap=barrier_wait_for -o $@ $^ $(LDLIBS)
# The runtime on another device, in place of the CPU: none of its files.
CPU_DEVICE = $(call sources,runtime/cpu)
$(B)/tests/tprun_plain: $(B)/obj/tests/tools/device_plain.o $(call obj,runtime/tprun.c $(filter-out $(CPU_DEVICE),$(RUNTIME)) $(KERNELS) $(FORMAT))
	@mkdir -p $(@D)
	@echo '  LD  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(B)/tests/batch_random: $(B)/obj/tests/tools/batch_random.o $(call obj,$(RUNTIME) $(KERNELS) $(FORMAT))
	@mkdir -p $(@D)
	@echo '  LD  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(B)/tests/forge_random: $(call obj,$(addprefix tests/tools/,forge_random.c forge_bundle.c forge_json.c forge_bytes.c forge_remake.c) $(TOOLS) $(RUNTIME) $(KERNELS) $(FORMAT))
	@mkdir -p $(@D)
	@echo '  LD  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(B)/tests/logits_nll: $(B)/obj/tests/tools/logits_nll.o
	@mkdir -p $(@D)
	@echo '  LD  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lm
$(B)/tests/encode_bytes: $(B)/obj/tests/tools/encode_bytes.o $(B)/tests/parsers.a
	@echo '  LD  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lm $(LDLIBS)
# preloaded by tests
$(B)/tests/%.so: tests/tools/%.c
	@mkdir -p $(@D)
	@echo '  LD  $@'
	$(Q)$(CC) $(CSTD) -Wall -Wextra $(STRICT) -O1 -g -fPIC -shared -o $@ $< -ldl -lpthread
$(B)/obj/tests/bench/measure.o: ISA = -O3
$(B)/tests/bench_%: $(B)/obj/tests/bench/bench_%.o $(B)/obj/tests/bench/measure.o $(call obj,$(RUNTIME) $(KERNELS) $(FORMAT))
	@mkdir -p $(@D)
	@echo '  LD  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lm $(LDLIBS)
BENCHES := $(filter-out %/bench_onednn,$(patsubst tests/bench/%.c,$(B)/tests/%,$(wildcard tests/bench/bench_*.c)))
# oneDNN's products stand beside ours where Debian's libdnnl-dev is.
ifneq ($(filter run-bench,$(MAKECMDGOALS)),)
  BENCHES += $(if $(shell $(CC) -E -include dnnl.h -x c /dev/null >/dev/null 2>&1 && echo yes),$(B)/tests/bench_onednn)
endif
$(B)/tests/bench_onednn: LDLIBS += -ldnnl
# The kernels of a GPU as C++, with an emulated device and a driver in front of it: libcuda.so.1 for tests.
# The emulator itself is not instrumented; it tells the sanitizers of its threads.
CUDA_LIBRARIES = $(addprefix runtime/cuda/,cuda_api.c cuda_blas.c cuda_library.c cuda_nccl.c cuda_open.c blas_api.c nccl_api.c) \
  $(addprefix format/,base/checked.c base/cpu_set.c base/error.c base/interrupt.c base/mem.c base/shown.c dtype.c lanes.c lanes_avx2.c lanes_avx512.c stored.c stored_codes.c values.c)
CUDA_SOURCES = $(filter-out kernels/cuda/kernels.cu,$(wildcard kernels/cuda/*.cu))
CXXFLAGS = -std=c++17 -fPIC -Wall -Wextra $(STRICT) -Wno-unknown-pragmas -Wno-ignored-attributes $(FP) -mavx2 -mfma -mf16c -DEMULATE \
  -Ikernels/cuda -Itests/cuda -Iruntime/cuda -Iformat/base
SANITIZED = $(if $(filter asan,$(config)),-DEMUL_ASAN)$(if $(filter tsan,$(config)),-DEMUL_TSAN)
$(B)/obj/tests/cuda/emul.o: tests/cuda/emul.cpp
	@mkdir -p $(@D)
	@echo '  CXX $@'
	$(Q)$(CXX) $(CXXFLAGS) -O2 -g $(SANITIZED) -MMD -MP -c -o $@ $<
$(B)/obj/emulated/%.o: kernels/cuda/%.cu
	@mkdir -p $(@D)
	@echo '  CXX $@'
	$(Q)$(CXX) -x c++ $(CXXFLAGS) $(OPT) -MMD -MP -c -o $@ $<
$(B)/tests/emulated/libcuda.so.1: $(B)/obj/tests/cuda/emul.o $(B)/obj/tests/cuda/driver.o $(CUDA_SOURCES:kernels/cuda/%.cu=$(B)/obj/emulated/%.o)
	@mkdir -p $(@D)
	@echo '  LD  $@'
	$(Q)$(CXX) -shared $(OPT) -o $@ $^
# With two inboxes in place of three, which the tests must notice.
$(B)/obj/two_inboxes/%.o: kernels/cuda/%.cu
	@mkdir -p $(@D)
	@echo '  CXX $@'
	$(Q)$(CXX) -x c++ $(CXXFLAGS) $(OPT) -DTP_TEST_INBOXES=2 -MMD -MP -c -o $@ $<
$(B)/tests/two_inboxes/libcuda.so.1: $(B)/obj/tests/cuda/emul.o $(B)/obj/tests/cuda/driver.o $(CUDA_SOURCES:kernels/cuda/%.cu=$(B)/obj/emulated/%.o)
$(B)/tests/two_inboxes/libcuda.so.1: $(patsubst %,$(B)/obj/two_inboxes/%.o,rows dot_bf16)
	@mkdir -p $(@D)
	@echo '  LD  $@'
	$(Q)$(CXX) -shared $(OPT) -o $@ $(filter-out %emulated/rows.o %emulated/dot_bf16.o,$^)
$(foreach n,driver planted blas nccl,$(B)/obj/tests/cuda/$(n).o): $(B)/obj/%.o: %.cpp
	@mkdir -p $(@D)
	@echo '  CXX $@'
	$(Q)$(CXX) $(CXXFLAGS) $(OPT) -MMD -MP -c -o $@ $<
$(B)/tests/planted: $(B)/obj/tests/cuda/emul.o $(B)/obj/tests/cuda/planted.o
	@mkdir -p $(@D)
	@echo '  LD  $@'
	$(Q)$(CXX) $(OPT) -o $@ $^
$(B)/tests/fast_prompts: $(B)/obj/tests/tools/fast_prompts.o $(B)/obj/tests/cuda/image.o $(call obj,$(filter-out runtime/cuda/cuda_image.c,$(RUNTIME)) $(KERNELS) $(FORMAT))
	@mkdir -p $(@D)
	@echo '  LD  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
# The libraries that the GPU side opens beside the driver, and what tests their use.
$(B)/tests/emulated/libcublasLt.so.13: $(B)/obj/tests/cuda/blas.o
$(B)/tests/emulated/libnccl.so.2: $(B)/obj/tests/cuda/nccl.o
$(B)/tests/emulated/libcublasLt.so.13 $(B)/tests/emulated/libnccl.so.2: $(B)/tests/emulated/libcuda.so.1
	@echo '  LD  $@'
	$(Q)$(CXX) -shared $(OPT) -o $@ $(filter %.o,$^) -L$(@D) -l:libcuda.so.1
$(B)/tests/cuda_libraries: $(call obj,tests/cuda/image.c)
$(B)/tests/cuda_libraries_gpu: $(call obj,runtime/cuda/cuda_image.c)
$(B)/tests/cuda_libraries $(B)/tests/cuda_libraries_gpu: $(call obj,tests/cuda/libraries.c $(CUDA_LIBRARIES))
	@mkdir -p $(@D)
	@echo '  LD  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(B)/tests/tprun_cuda: $(B)/obj/tests/cuda/image.o $(call obj,runtime/tprun.c $(filter-out runtime/cuda/cuda_image.c,$(RUNTIME)) $(KERNELS) $(FORMAT))
	@mkdir -p $(@D)
	@echo '  LD  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
# The kernels that choose tokens against the sampler; choose_gpu: on the machine's GPU.
CHOOSE = $(B)/obj/tests/tools/choose_random.o $(call obj,$(filter-out runtime/cuda/cuda_image.c,$(RUNTIME)) $(KERNELS) $(FORMAT))
$(B)/tests/choose_random: $(B)/obj/tests/cuda/image.o $(CHOOSE)
$(B)/tests/choose_gpu: $(B)/obj/runtime/cuda/cuda_image.o $(CHOOSE)
$(B)/tests/choose_random $(B)/tests/choose_gpu:
	@mkdir -p $(@D)
	@echo '  LD  $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
# objects that only rules of patterns name are kept
.PRECIOUS: $(B)/obj/%.o $(B)/obj/reordered/%.o $(B)/obj/tiles/%.o $(B)/obj/emulated/%.o $(B)/obj/two_inboxes/%.o

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)

# What is missing is seen by using it; what is there may come from anywhere.
INSTALL_DEPS = CC='$(strip $(CC) $(EXTRA_CFLAGS))' CXX='$(CXX)' scripts/install_deps.sh
deps: ## install what building and testing need and is missing, from Debian packages
	@$(INSTALL_DEPS) tests
deps-programs: ## the same, of what the programs need alone
	@$(INSTALL_DEPS) programs

demo: deps-programs ## build, convert the small model in the tree to three ranks, print a story
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@$(MAKE) --no-print-directory run-demo
run-demo: all
	@scripts/demo.sh $(B)

test: deps ## build and run every test; config=asan|tsan, T=NAME runs those whose name holds NAME
	@$(MAKE) --no-print-directory -j$$(nproc) build-tests config=$(config)
	@for c in asan tsan; do $(MAKE) --no-print-directory -j$$(nproc) emulated config=$$c || exit 1; done
	@$(MAKE) --no-print-directory run-tests config=$(config)
emulated: $(B)/tests/emulated/libcuda.so.1 $(B)/tests/emulated/libcublasLt.so.13 $(B)/tests/emulated/libnccl.so.2 $(B)/tests/planted $(B)/tests/cuda_libraries
TEST_TOOLS = tprun_reordered tprun_tiles tprun_delayed tprun_plain tprun_cuda fast_prompts choose_random two_inboxes/libcuda.so.1 batch_random \
  forge_random logits_nll encode_bytes record_io.so fail_alloc.so
# The benches go with what they measure, so they build with the tests; bench_layout has GCC's own means.
build-tests: all emulated $(UNIT) $(FUZZ:%=$(B)/tests/%) $(TEST_TOOLS:%=$(B)/tests/%) $(filter-out %/bench_layout,$(BENCHES))
run-tests: build-tests check-includes check-format
	@BUILD=$(B) CONFIG=$(config) SHARED=$(SHARED) tests/run $(only)

check: ## for daily work, in some two minutes: no sweeps, a sample of the combinations
	@$(MAKE) --no-print-directory -j$$(nproc) build-tests
	@TIER=check $(MAKE) --no-print-directory run-tests
test-long: ## the sweeps and random sequences, an hour or more
	@$(MAKE) --no-print-directory -j$$(nproc) build-tests
	@TIER=long SWEEP=0 SEQUENCES=5000 CUTS=5000 MADE_UP=5000 FORGED=10000 ALLOCS=0 SOAK=600 $(MAKE) --no-print-directory run-tests \
	  only='test_io_sweep test_nothing_lost test_power_cut test_tokenizer_format test_format test_forged test_alloc_sweep test_limits test_cuda'

seconds ?= 60
fuzz: ## every fuzz target, or only=NAME, for seconds=60 each, with clang's libFuzzer; finds go to build/fuzz/
	@$(MAKE) --no-print-directory -j$$(nproc) config=fuzz $(FUZZ:%=build/fuzz/tests/%)
	@scripts/fuzz.sh $(seconds) $(or $(only),$(FUZZ))

bench: deps ## measure beside the machine's limits and peers; only='decode ...': parts; LLAMA=DIR: llama.cpp; see docs/benchmarks.md
	@$(MAKE) --no-print-directory run-bench
run-bench: all $(BENCHES)
	@BUILD=$(B) SHARED=$(SHARED) LLAMA='$(LLAMA)' scripts/bench.py $(only)

check-includes: ## the direction of includes between rooms
	@scripts/check_includes.sh

check-format: ## make format would change nothing
	@scripts/check_format.sh

# The names of what is installed and removed begin with these: one word each.
ifneq ($(filter install uninstall,$(MAKECMDGOALS)),)
  ifneq ($(words "$(PREFIX)$(DESTDIR)"),1)
    $(error PREFIX and DESTDIR may not hold spaces)
  endif
  ifeq ($(filter /%,$(PREFIX)),)
    $(error PREFIX must begin with /)
  endif
endif
# Below $(DESTDIR)$(PREFIX). Programs are stripped there; those in build/ are not.
PROGRAMS = tpshard tprun
STRIP ?= strip
BASH_COMPLETIONS ?= share/bash-completion/completions
ZSH_COMPLETIONS ?= share/zsh/site-functions
FISH_COMPLETIONS ?= share/fish/vendor_completions.d
INSTALLED = $(PROGRAMS:%=bin/%) $(PROGRAMS:%=share/man/man1/%.1) $(PROGRAMS:%=$(BASH_COMPLETIONS)/%) $(PROGRAMS:%=$(ZSH_COMPLETIONS)/_%) \
  $(PROGRAMS:%=$(FISH_COMPLETIONS)/%.fish) $(addprefix share/doc/tpshard/,$(TEXTS) $(PAGES))
TEXTS = README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE
PAGES = $(wildcard docs/*.md docs/*.svg)
install: all ## programs, man pages, completions and README below PREFIX (default /usr/local), in DESTDIR
	@install -d $(sort $(dir $(INSTALLED:%=$(DESTDIR)$(PREFIX)/%)))
	install -s --strip-program=$(STRIP) -m 755 $(PROGRAMS:%=$(B)/%) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(PROGRAMS:%=docs/%.1) $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 $(TEXTS) $(DESTDIR)$(PREFIX)/share/doc/tpshard
	install -m 644 $(PAGES) $(DESTDIR)$(PREFIX)/share/doc/tpshard/docs
	@set -e; umask 022; for p in $(PROGRAMS); do \
	  scripts/make_completion.sh bash $(B)/$$p >$(DESTDIR)$(PREFIX)/$(BASH_COMPLETIONS)/$$p; \
	  scripts/make_completion.sh zsh $(B)/$$p >$(DESTDIR)$(PREFIX)/$(ZSH_COMPLETIONS)/_$$p; \
	  scripts/make_completion.sh fish $(B)/$$p >$(DESTDIR)$(PREFIX)/$(FISH_COMPLETIONS)/$$p.fish; done
uninstall: ## remove what install made, with the same PREFIX and DESTDIR
	rm -f $(INSTALLED:%=$(DESTDIR)$(PREFIX)/%)
	@rmdir $(addprefix $(DESTDIR)$(PREFIX)/share/doc/tpshard,/docs /) 2>/dev/null || true
deb: ## a Debian package of both programs, in build/
	@$(INSTALL_DEPS) programs && $(INSTALL_DEPS) deb
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@$(MAKE) --no-print-directory build-deb
DEB_DIR ?= $(B)
build-deb: all
	@rm -rf $(DEB_DIR)/root
	@$(MAKE) --no-print-directory -o all install DESTDIR=$(abspath $(DEB_DIR))/root PREFIX=/usr ZSH_COMPLETIONS=share/zsh/vendor-completions >/dev/null
	@scripts/make_deb.sh $(DEB_DIR)/root '$(VERSION)' $(DEB_DIR)
	@rm -rf $(DEB_DIR)/root

format: ## clang-format over the sources
	clang-format -i $$(find format kernels tools runtime tests -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp')

clean: ## remove build/
	rm -rf build

help: ## this list
	@echo 'make [config=release|debug|asan|tsan] TARGET'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 18
