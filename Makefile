# The few commands that everybody needs. `make` alone lists them.

.PHONY: help run check test bench deny

help:
	@echo "make run    try Gatepost: a demonstration on this machine, no configuration needed"
	@echo "make check  formatting, lints, documentation"
	@echo "make test   all tests; as root on Debian it first installs the servers that they run against"
	@echo "make bench  the benchmark (release build); SCENARIO=\"idle 500 pop3\" chooses one"
	@echo "make deny   licences, banned and doubled crates (needs cargo-deny)"

run:
	cargo run --locked -- demo

check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

test:
	ci/test

bench:
	cargo build --release --locked -p gatepost
	cargo run --release --locked -p bench -- $(SCENARIO)

deny:
	@cargo deny --version >/dev/null 2>&1 || { echo "cargo-deny is not here; cargo install --locked cargo-deny"; exit 1; }
	cargo deny --locked --workspace check bans licenses sources
