# The short names that people type. Every target does all the set-up it needs.
#
#   make demo                 a small assistant from real text, end to end
#   make demo BACKEND=flex    the same in pure Rust, without libtorch
#   make build                kiln and its worker
#   make test                 the default tests; make test-long the long ones as well
#   make fuzz TARGET=tree     feeds the reader of a format with what libFuzzer finds; SECONDS=600 (60 else)
#   make soak                 random histories of random pipelines, SEED=7 CASES=1000, else on from where it stopped;
#                             and 2,000 jobs of a Slurm of one node
#   make soak-shared          10,000 corruptions of stores and remotes, and 1,000 kills
#   make speed                measures the store, on a quiet machine
#   make bench                our figures beside those of ninja, DVC, Snakemake, PyTorch, TRL, ..; ONLY=noop-1000,.. for some rows
#   make lint                 formatting and clippy
#
# LIBTORCH=/path names a libtorch 2.11 (or the torch folder of a CUDA wheel) to use instead of ours.

BACKEND ?= libtorch
CARGO ?= cargo

ifeq ($(BACKEND),flex)
BUILT := target/flex
BUILD  := $(CARGO) build --release --workspace --no-default-features --target-dir $(BUILT)
SETUP  :=
else ifeq ($(BACKEND),libtorch)
BUILT := target
BUILD  := $(CARGO) build --release --workspace
SETUP  := libtorch
else
$(error BACKEND is `$(BACKEND)`; there are libtorch and flex)
endif

KILN := $(BUILT)/release/kiln

.PHONY: demo build libtorch test test-long fuzz soak soak-shared speed bench lint

demo: build
	@$(KILN) run pipelines/assistant.yaml
	@python3 scripts/demo.py $(KILN) pipelines/assistant.yaml

build: $(SETUP)
	@$(BUILD)

libtorch:
	@python3 scripts/libtorch.py

test: libtorch
	$(CARGO) build --release --workspace
	$(CARGO) test --release --workspace
	python3 tests/tools/servers.py target/release/kiln
	python3 tests/tools/slurm.py target/release/kiln

test-long: test
	python3 stages/tests/huggingface.py target/release/kiln-stages tokenizer
	python3 stages/tests/models.py target/release/kiln-stages
	python3 stages/tests/adapters.py target/release/kiln-stages
	python3 stages/tests/shared_base.py target/release/kiln-stages
	python3 stages/tests/smollm2.py target/release/kiln target/release/kiln-stages
	$(CARGO) build --release -p kiln-formats --examples
	python3 formats/tests/gguf_oracle.py target/release/examples/gguf
	python3 formats/tests/templates.py target/release/examples/render
	python3 formats/tests/foreign.py target/release/examples/encode
	python3 formats/tests/records.py target/release/examples/records
	python3 tests/tools/provenance.py target/release/kiln
	python3 tests/tools/servers.py target/release/kiln ladder
	python3 tests/tools/ray_jobs.py target/release/kiln
	python3 tests/tools/slurm.py target/release/kiln over_its_time a_node_that_dies preempted killed_runners
	$(CARGO) test --release --workspace -- --ignored --skip cas::tests::speed $(addprefix --skip ,$(SOAKED))

# What would take test-long beyond an hour: 10,000 corruptions, 1,000 kills. KILN_KILLS_SEED replays one of 950.
SOAKED := cas::tests::damage nine_hundred_and_fifty_kills fifty_kills_at_random
soak-shared:
	$(CARGO) test --release -p kiln --lib -- --ignored --nocapture cas::tests::damage
	$(CARGO) test --release -p kiln --test kills -- --ignored --nocapture nine_hundred_and_fifty_kills
	$(CARGO) test --release -p kiln --test ladder -- --ignored --nocapture fifty_kills_at_random

# It notes the next seed in target/soak.next now and then; a failure says how to replay it.
CASES ?= 1000
soak:
	$(if $(SEED),KILN_SOAK_SEED=$(SEED)) KILN_SOAK_CASES=$(CASES) $(CARGO) test --release -p kiln --test soak -- --ignored --exact soak --nocapture
	python3 tests/tools/slurm.py target/release/kiln two_thousand

# The flags are those of `cargo fuzz`, which is not needed; all of them are known to a stable compiler.
FUZZ_FLAGS := -Cpasses=sancov-module $(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters \
  pc-table trace-compares) --cfg fuzzing
FUZZ_TARGET_DIR ?= fuzz/target
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
SECONDS ?= 60
fuzz:
	$(if $(TARGET),,$(error TARGET is one of $(notdir $(wildcard fuzz/corpus/*))))
	@mkdir -p fuzz/work/$(TARGET)
	RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) build --release --manifest-path fuzz/Cargo.toml --target-dir $(FUZZ_TARGET_DIR) \
	  --target $(HOST) --bin $(TARGET)
	$(FUZZ_TARGET_DIR)/$(HOST)/release/$(TARGET) -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=2048 \
	  -artifact_prefix=fuzz/work/ -print_final_stats=1 fuzz/work/$(TARGET) fuzz/corpus/$(TARGET)

speed: libtorch
	$(CARGO) test --release --workspace --lib -- --ignored --nocapture cas::tests::speed

# BENCH_FLAGS: --skip dvc, --size 50 --samples 1 (a trial), --keep; `python3 scripts/bench --help` lists them.
bench: build
	@python3 scripts/bench --kiln $(KILN) $(if $(ONLY),--only $(ONLY)) $(BENCH_FLAGS)

lint: libtorch
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings
