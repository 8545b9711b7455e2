# What a developer and CI run. `make test` is everything, and installs what it needs (Debian packages; needs root).

# The compilers, the mail server and the tools that the tests use.
PACKAGES = postfix gcc g++ clang binutils valgrind python3 python3-venv python3-aiosmtpd mypy libmilter-dev miltertest

.PHONY: test demo bench bench-python packages library wheel

test: packages
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --no-default-features --lib -- -D warnings
	cargo clippy --locked --no-default-features --features capi --lib -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
	cargo test --locked

# A private Postfix with mxgate as its milter; clients connect, transcripts are printed, everything stops.
demo: packages
	cargo build --locked --release --bins
	cargo run --locked --release --quiet --example demo

bench: packages
	cargo bench --locked

# What a check costs from Python, beside an empty C function.
bench-python: packages library
	MXGATE_LIBRARY=target/release/libmxgate.so python3 -B benches/python.py

# The shared library and the static one, one crate type at a time: with several cargo leaves out link-time optimisation.
library:
	cargo rustc --locked --release --lib --no-default-features --features capi --crate-type cdylib
	cargo rustc --locked --release --lib --no-default-features --features capi --crate-type staticlib

# A Python wheel with the shared library inside, in target/wheel.
wheel: library
	python3 -B examples/python/build_wheel.py target/wheel

packages:
	@missing=$$(for package in $(PACKAGES); do \
	    dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done); \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	elif [ -n "$$missing" ]; then \
	    echo "not installed: $$missing (as root: make packages); tests that need them are skipped" >&2; \
	fi
