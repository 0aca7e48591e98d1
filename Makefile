# How Wasmill is built, tried and tested. `make` lists the targets.

# Every plugin once: the packages below plugins/ that are components.
PLUGINS := clean enrich sessionize aggregate join dispatch
# Plugins that only benchmarks use: the packages below bench/plugins/.
BENCH_PLUGINS := sessions latest
# Plugins that only tests use: the packages below tests/plugins/.
TEST_PLUGINS := evil evil-keyed identity identity-keyed ledger

# What rust-toolchain.toml asks for.
toolchain = $(shell sed -n 's/^$(1) *= *//p' rust-toolchain.toml | tr -d '[]" ')
CHANNEL := $(call toolchain,channel)
COMPONENTS := $(call toolchain,components)
TARGET := $(call toolchain,targets)

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
COMPONENT_DIR := target/plugins
# A Rust that was installed just now may not be on the PATH of this shell yet.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

.DEFAULT_GOAL := help
.PHONY: help setup toolchain build plugins test-plugins demo test chaos bench bench-kafka kafka kafka-stop clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: toolchain ## install the Rust toolchain and fetch crates, where they are not there yet
	@set -- --manifest-path Cargo.toml --target $(TARGET) \
	  --target $$(rustc -vV | sed -n 's/^host: //p'); \
	if cargo fetch --quiet --offline "$$@" 2>/dev/null; then exit 0; fi; \
	echo "Fetching the crates that Cargo.lock lists"; \
	cargo fetch --quiet "$$@" || { \
	  echo "The crates could not be fetched, as cargo says above. Where there is no network, run cargo fetch" \
	    "where there is one and bring ~/.cargo along, or name a mirror to cargo (source replacement in" \
	    "https://doc.rust-lang.org/cargo/reference/source-replacement.html)" >&2; exit 1; }

toolchain:
	@command -v cc >/dev/null || { \
	  echo "There is no C compiler (cc). Install one: apt install build-essential, dnf install gcc," \
	    "or xcode-select --install" >&2; exit 1; }
	@command -v perl >/dev/null || { \
	  echo "There is no perl, which OpenSSL is built with. Install it: apt install perl, or dnf install perl" >&2; exit 1; }
	@export RUSTUP_AUTO_INSTALL=0; \
	if [ -d "$$(rustc --print target-libdir --target $(TARGET) 2>/dev/null)" ] \
	  && cargo clippy --version >/dev/null 2>&1 && cargo fmt --version >/dev/null 2>&1; then exit 0; fi; \
	command -v rustup >/dev/null || { \
	  echo "There is no Rust $(CHANNEL) with $(COMPONENTS) and target $(TARGET), and no rustup to" \
	    "install it. Install rustup (https://rustup.rs), then run make again" >&2; exit 1; }; \
	echo "Installing Rust $(CHANNEL) with $(COMPONENTS) and target $(TARGET)"; \
	rustup --quiet toolchain install $(CHANNEL) --profile minimal --no-self-update \
	  --component $(COMPONENTS) --target $(TARGET) || { \
	  echo "Rust $(CHANNEL) could not be installed, as rustup says above. Where there is no network," \
	    "install it beforehand" >&2; exit 1; }

build: setup plugins ## build the wasmill program and all plugins
	cargo build --workspace --release --bins

# Builds the packages $(1) as components and puts those that changed into their folder.
define components
cargo build --profile plugin --target $(TARGET) $(addprefix --package ,$(1))
@mkdir -p $(COMPONENT_DIR)
@for name in $(1); do \
  from=$(TARGET_DIR)/$(TARGET)/plugin/$$(echo $$name | tr - _).wasm; to=$(COMPONENT_DIR)/$$name.wasm; \
  cmp -s $$from $$to || { cp $$from $$to.new && mv $$to.new $$to; } || exit 1; \
done
endef

plugins: setup ## build all plugins into target/plugins
	$(call components,$(PLUGINS))

test-plugins: setup ## build all plugins and those that only tests use
	$(call components,$(PLUGINS) $(TEST_PLUGINS))

demo: build ## build everything and show what it does
	$(TARGET_DIR)/release/wasmill demo

# One profile for everything, so that dependencies are compiled once.
# Tests that this machine lacks something for write their names into this file.
test: export WASMILL_SKIPPED := $(CURDIR)/target/skipped-tests
test: setup test-plugins ## check format, lints, tests, what faults do, and documentation
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --release -- -D warnings
	cargo build --workspace --release --bins
	@$(TARGET_DIR)/release/wasmill-broker fetch
	@rm -f "$$WASMILL_SKIPPED"
	@if command -v cargo-nextest >/dev/null; then set -x; cargo nextest run --workspace --release; \
	else set -x; cargo test --workspace --release --lib --bins --tests; fi
	cargo test --workspace --release --doc
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --release --no-deps
	@if [ -s "$$WASMILL_SKIPPED" ]; then cat "$$WASMILL_SKIPPED"; fi

chaos: export CHAOS_LONG := 1
chaos: test-plugins ## break Kafka and instances as make test does, but many times as often
	cargo build --workspace --release --bins
	cargo test --workspace --release --test chaos -- --test-threads=1 --nocapture

bench: test-plugins ## measure: a line for each figure, and whether it reaches its goal
	cargo build --workspace --release --bins
	$(TARGET_DIR)/release/wasmill-bench

bench-kafka: test-plugins ## the same on Kafka (needs Java 17), beside its peers; ARGS=--quick for less
	$(call components,$(BENCH_PLUGINS))
	cargo build --workspace --release --bins
	cargo build --release --manifest-path bench/peers/native/Cargo.toml --target-dir target/peers/native
	$(TARGET_DIR)/release/wasmill-bench-kafka --program $(TARGET_DIR)/release/wasmill $(ARGS)

kafka: setup ## start an Apache Kafka for trials (needs Java 17), on 127.0.0.1:9092 or KAFKA_PORT
	@cargo build --quiet --package wasmill-test-kafka --release --bins
	@$(TARGET_DIR)/release/wasmill-broker start

kafka-stop: setup ## end the Apache Kafka for trials; its data stays
	@cargo build --quiet --package wasmill-test-kafka --release --bins
	@$(TARGET_DIR)/release/wasmill-broker stop

clean: ## remove everything that was built
	@if [ -e target/kafka/data/process ]; then $(MAKE) kafka-stop; fi
	rm -rf target
