# Two commands matter: `make test` runs everything, `make demo` shows the program on real data. Both install what a
# fresh Debian machine lacks (see trainer/scripts/setup.sh) and say what they do.

CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto

.PHONY: test demo setup lint check-wasm bench slow-test clean

setup:
	@sh trainer/scripts/setup.sh vulkan data

test: setup lint check-wasm
	$(CARGO) test --release --workspace

# The paper's 128-channel network and other checks that take minutes on a software device.
slow-test: setup
	DUET_SLOW=1 $(CARGO) test --release --workspace

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

# The library must build for browsers; the page itself is not part of this version.
check-wasm:
	@sh trainer/scripts/check-wasm.sh

bench: setup
	$(CARGO) run --release --package duet-trainer -- bench

demo: setup
	$(CARGO) build --release --package duet-trainer
	sh trainer/scripts/demo.sh

clean:
	$(CARGO) clean
	rm -rf runs demo
