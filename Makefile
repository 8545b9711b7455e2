# What a developer and CI run. `make test` is everything, and installs what it needs (Debian packages; needs root).

# The compilers, the mail server and the tools that the tests use.
PACKAGES = postfix gcc g++ clang binutils valgrind python3
# Mail servers that Debian does not install beside Postfix: package and program.
HOSTS = exim4-daemon-heavy/usr/sbin/exim4 opensmtpd/usr/sbin/smtpd

.PHONY: test demo bench packages hosts library

test: packages hosts
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --no-default-features --lib -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
	cargo test --locked

# A private Postfix with mxgate as its milter; clients connect, transcripts are printed, everything stops.
demo: packages
	cargo build --locked --release --bins
	cargo run --locked --release --quiet --example demo

bench: packages
	cargo bench --locked

# The shared library and the static one, one crate type at a time: with several cargo leaves out link-time optimisation.
library:
	cargo rustc --locked --release --lib --no-default-features --crate-type cdylib
	cargo rustc --locked --release --lib --no-default-features --crate-type staticlib

packages:
	@missing=$$(for package in $(PACKAGES); do \
	    dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done); \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	elif [ -n "$$missing" ]; then \
	    echo "not installed: $$missing (as root: make packages); tests that need them are skipped" >&2; \
	fi

# The mail servers for the tests of examples/ are unpacked below target/hosts; only the libraries that they need are
# installed. They own no file outside of that directory, and nothing runs with the rights of a file's owner.
hosts:
	@set -e; mkdir -p target/hosts; cd target/hosts; \
	for program in $(HOSTS); do \
	    package=$${program%%/*}; \
	    if [ -e $$program ] && ! ldd $$program | grep -q 'not found'; then continue; fi; \
	    if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	        echo "not unpacked: $$package (as root: make hosts); tests that need it are skipped" >&2; continue; \
	    fi; \
	    apt-get update -qq; rm -rf $$package $${package}_*.deb; \
	    apt-get download -qq -o APT::Sandbox::User=root $$package; \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	        $$(dpkg-deb -f $${package}_*.deb Depends | tr ',' '\n' | sed -n 's/^ *\(lib[^ |]*\).*/\1/p') >/dev/null; \
	    dpkg-deb -x $${package}_*.deb $$package; chmod ug-s $$program; \
	done
