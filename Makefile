# make run     the daemon and 200 simulated routers, until Ctrl-C   (CONFIG=file, ROUTERS=n)
# make test    everything that must hold; needs what `make tools` names
# make failures  the five failures of the past against a release build, with a report
# make fleets  big results and whole fleets against a release build, with a report
# make fuzz    invents input for one codec   (TARGET=one of fuzz/fuzz_targets, SECONDS=60)
# make fmt     formats; make lint: what CI refuses

CONFIG ?= config.toml
ROUTERS ?= 200
CARGO_TARGET_DIR ?= target

.PHONY: run test test-faults test-failures failures test-fleets fleets autobahn fuzz tools fmt lint

run:
	@command -v cargo >/dev/null || { echo "missing: cargo (Rust 1.95 or newer, https://rustup.rs)"; exit 1; }
	cargo build --release -p berthd -p loadgen
	@packaging/run.sh $(CARGO_TARGET_DIR)/release $(CONFIG) $(ROUTERS)

# The daemon and loadgen are built first, because the black-box tests run the binaries.
test: tools
	cargo build --workspace
	cargo test --workspace
	$(MAKE) test-faults
	$(MAKE) test-failures
	$(MAKE) test-fleets

# Plants each fault in turn (a release, a stale check or an answer left out); the simulation must find every one. The leaks among
# them must be named by the verdict, and an account that does not balance must be counted.
test-faults:
	cargo test --features planted-faults --test simulation --test leaks --test unbind_audit

# The five failures of the past, small enough for a debug build; then each with its fault planted in the daemon: it must be seen.
# So must the fault of streams.
test-failures:
	@mkdir -p $(CARGO_TARGET_DIR)/planted
	cargo build -p berthd --features planted-faults
	cp $(CARGO_TARGET_DIR)/debug/berthd $(CARGO_TARGET_DIR)/planted/berthd
	cargo build -p berthd -p loadgen
	$(CARGO_TARGET_DIR)/debug/loadgen failures --quick --daemon $(CARGO_TARGET_DIR)/debug/berthd \
		--report $(CARGO_TARGET_DIR)/failures-quick.html
	$(CARGO_TARGET_DIR)/debug/loadgen failures --quick --planted --daemon $(CARGO_TARGET_DIR)/planted/berthd \
		--report $(CARGO_TARGET_DIR)/failures-planted.html
	$(CARGO_TARGET_DIR)/debug/loadgen fleets --quick --planted --daemon $(CARGO_TARGET_DIR)/planted/berthd \
		--report $(CARGO_TARGET_DIR)/fleets-planted.html

# The same at full size, with a release build: about four minutes.
failures:
	cargo build --release -p berthd -p loadgen
	$(CARGO_TARGET_DIR)/release/loadgen failures --daemon $(CARGO_TARGET_DIR)/release/berthd \
		--report $(CARGO_TARGET_DIR)/failures.html

# Streams, fleet commands and events, small enough for a debug build.
test-fleets:
	cargo build -p berthd -p loadgen
	$(CARGO_TARGET_DIR)/debug/loadgen fleets --quick --daemon $(CARGO_TARGET_DIR)/debug/berthd \
		--report $(CARGO_TARGET_DIR)/fleets-quick.html

# The same at full size, with a release build: under four minutes.
fleets:
	cargo build --release -p berthd -p loadgen
	$(CARGO_TARGET_DIR)/release/loadgen fleets --daemon $(CARGO_TARGET_DIR)/release/berthd \
		--report $(CARGO_TARGET_DIR)/fleets.html

# The Autobahn suite against an echo built of the same handshake, codec and queue; needs Python 2.7 (PYTHON2=path), see
# conformance/autobahn/run.py.
autobahn:
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/echo cargo build -p berthd --features websocket-echo
	python3 conformance/autobahn/run.py $(CARGO_TARGET_DIR)/echo/debug/berthd $(CARGO_TARGET_DIR)/autobahn

# What libFuzzer keeps goes to the build directory; a crash to fuzz/artifacts. What is worth keeping is moved to fuzz/corpus by
# hand, and is from then on a case of `make test`.
TARGET ?= router_frames
SECONDS ?= 60
FUZZ_FOUND = $(CARGO_TARGET_DIR)/fuzz/found/$(TARGET)

fuzz:
	@missing=0; \
	cargo +nightly --version >/dev/null 2>&1 || \
		{ echo "missing: nightly Rust (rustup toolchain install nightly)"; missing=1; }; \
	cargo fuzz --version >/dev/null 2>&1 || { echo "missing: cargo-fuzz (cargo install cargo-fuzz)"; missing=1; }; \
	exit $$missing
	@mkdir -p $(FUZZ_FOUND)
	cargo +nightly fuzz run --target-dir $(CARGO_TARGET_DIR)/fuzz $(TARGET) $(FUZZ_FOUND) fuzz/corpus/$(TARGET) -- \
		-max_total_time=$(SECONDS)

# Names all that is missing for the tests, not only the first.
tools:
	@missing=0; \
	need() { command -v $$1 >/dev/null || { echo "missing: $$1 ($$2)"; missing=1; }; }; \
	need cargo "Rust 1.95 or newer, https://rustup.rs"; \
	need python3 "apt-get install python3"; \
	need ip "apt-get install iproute2"; \
	need tc "apt-get install iproute2"; \
	if [ $$(id -u) -ne 0 ]; then \
		echo "missing: root (the tests of silent deaths make network namespaces)"; missing=1; \
	elif command -v ip >/dev/null; then \
		{ ip netns add berth-tools-$$$$ && ip netns del berth-tools-$$$$; } 2>/dev/null || \
			{ echo "missing: the right to make network namespaces (in a container: --privileged)"; missing=1; }; \
	fi; \
	exit $$missing

fmt:
	cargo fmt --all

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --all-targets --features planted-faults -- -D warnings
