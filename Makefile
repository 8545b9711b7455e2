# What a developer and CI run. `make test` is everything, and installs what it needs (Debian packages; needs root).

# The compilers, the mail server and the tools that the tests use; and the target for which they build with musl.
PACKAGES = postfix gcc g++ clang binutils valgrind python3 python3-venv python3-aiosmtpd mypy libmilter-dev miltertest \
	abigail-tools pkgconf cmake musl-tools m4 systemd groff-base fail2ban debootstrap iproute2
# Mail servers that Debian does not install beside Postfix: package and program, or another file of it.
HOSTS = exim4-daemon-heavy/usr/sbin/exim4 opensmtpd/usr/sbin/smtpd sendmail-bin/usr/libexec/sendmail/sendmail \
	sendmail-cf/usr/share/sendmail/cf/m4/cf.m4
MUSL = $(shell uname -m)-unknown-linux-musl

.PHONY: test checks demo bench bench-milter bench-python storm hosts debian-root loom library manual deb install packages wheel

test: packages hosts debian-root
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --no-default-features --lib -- -D warnings
	cargo clippy --locked --no-default-features --features capi --lib -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
	cargo check --locked --manifest-path fuzz/Cargo.toml --target-dir target
	cargo test --locked
	$(MAKE) checks
	$(MAKE) loom

# A private Postfix with mxgate as its milter; clients connect, transcripts are printed, everything stops.
demo: packages
	cargo build --locked --release --bins
	cargo run --locked --release --quiet --example demo

bench: packages
	cargo bench --locked --bench networks --bench domains --bench decisions --bench load

# The daemon beside filters that do nothing, and behind a real Postfix. MXGATE_BENCH=quick for a short run.
bench-milter: packages
	cargo build --locked --release --manifest-path benches/milter/miltr/Cargo.toml --target-dir target/miltr
	MXGATE_MILTR=$(CURDIR)/target/miltr/release/miltr-nothing cargo bench --locked --bench milter

# What needs an optimised build: the network table against others (100 million questions or MXGATE_QUESTIONS, and
# all of IPv4), the memory of limits under ten million clients, and what look-ups and checks cost in instructions (BLESS=1
# writes new limits).
checks: packages
	cargo test --locked --profile checks --test tables --test flood --test instructions -- --include-ignored --nocapture

# What a check costs from Python, beside an empty C function.
bench-python: packages library
	MXGATE_LIBRARY=$(LIBRARY)/libmxgate.so python3 -B benches/python.py

# The daemon under storms at their full size, which takes half an hour and 20,000 open files (ulimit -Hn).
storm:
	cargo build --locked --release --bins
	MXGATE_STORM=full MXGATE_PROGRAM=$(abspath $(or $(CARGO_TARGET_DIR),target)/release/mxgate) \
	    cargo test --locked --test storm -- --nocapture --test-threads 1

# The exchange of what is in force, and counts that are moved, under the schedules of their threads.
loom:
	RUSTFLAGS="--cfg loom" cargo test --locked --no-default-features --lib --target-dir target/loom loom_tests

# The manual pages in man/, of the command line and of the table of settings.
manual:
	BLESS=1 cargo test --locked --bin mxgate --test manual the_committed_page

# The C library: target/library/libmxgate.so and libmxgate.a. One crate type at a time, because with several cargo leaves
# out link-time optimisation.
LIBRARY = $(abspath $(or $(CARGO_TARGET_DIR),target)/library)
CARGO_LIBRARY = cargo rustc --locked --release --lib --no-default-features --features capi --target-dir $(LIBRARY)
SOURCES = Cargo.toml Cargo.lock build.rs $(shell find src -name '*.rs')
OBJCOPY = objcopy

library: $(LIBRARY)/libmxgate.so $(LIBRARY)/libmxgate.a

$(LIBRARY)/libmxgate.so: $(SOURCES)
	$(CARGO_LIBRARY) --crate-type cdylib
	install -m 755 $(LIBRARY)/release/libmxgate.so $@

# A static library of rustc has names of Rust's own library as global symbols, so that a program cannot have two such
# libraries (rust-lang/rust#44322, #104707). Hence one object in which all names are local but ours. Section groups are
# dissolved: in a program the group of one library would stand in for that of the other, whose names are not the same any
# more. The bitcode of Rust's own library is of no use to others.
$(LIBRARY)/libmxgate.a: $(SOURCES)
	$(CARGO_LIBRARY) --crate-type staticlib -- --print native-static-libs=$(LIBRARY)/native-static-libs
	$(LD) -r --force-group-allocation --whole-archive -o $(LIBRARY)/mxgate.o $(LIBRARY)/release/libmxgate.a
	$(OBJCOPY) --wildcard --keep-global-symbol='mxgate_*' -R .llvmbc -R .llvmcmd $(LIBRARY)/mxgate.o
	rm -f $@
	$(AR) rcs $@ $(LIBRARY)/mxgate.o
	rm $(LIBRARY)/mxgate.o

# A Debian package with the command, its units, manual pages and completions, in target/debian.
RELEASE = $(or $(CARGO_TARGET_DIR),target)/release
BUILD_COMMAND = cargo build --locked --release --bin mxgate

deb: packages
	$(BUILD_COMMAND)
	mkdir -p $(RELEASE)/completions
	$(RELEASE)/mxgate completions bash > $(RELEASE)/completions/mxgate
	$(RELEASE)/mxgate completions zsh > $(RELEASE)/completions/_mxgate
	$(RELEASE)/mxgate completions fish > $(RELEASE)/completions/mxgate.fish
	cargo deb --locked --no-build $(DEB_OPTIONS)

# Installs the C library, by the variables that packagers know. Needs no cargo after `make library`, so that root can do it.
# The command: cargo install --locked --path .
PREFIX = /usr/local
LIBDIR = $(PREFIX)/lib
INCLUDEDIR = $(PREFIX)/include
ABI = $(shell sed -n 's/^.define MXGATE_ABI //p' include/mxgate.h)
VERSION = $(shell sed -n '/^version = /{s/.*"\(.*\)"/\1/p;q}' Cargo.toml)
# What else a program with the static library is linked with. -lgcc_s and -lc come from the compiler, which knows better:
# a program that is static as a whole has others in their place.
PRIVATE = $(filter-out -lgcc_s -lc,$(shell cat $(LIBRARY)/native-static-libs))
FILL_IN = sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
	-e 's|@VERSION@|$(VERSION)|' -e 's|@ABI@|$(ABI)|' -e 's|@PRIVATE@|$(PRIVATE)|'

install: library
	install -d $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(LIBDIR)/cmake/mxgate
	install -m 644 include/mxgate.h include/mxgate.hpp $(DESTDIR)$(INCLUDEDIR)/
	install -m 755 $(LIBRARY)/libmxgate.so $(DESTDIR)$(LIBDIR)/libmxgate.so.$(ABI)
	ln -sf libmxgate.so.$(ABI) $(DESTDIR)$(LIBDIR)/libmxgate.so
	install -m 644 $(LIBRARY)/libmxgate.a $(DESTDIR)$(LIBDIR)/
	$(FILL_IN) include/mxgate.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/mxgate.pc
	$(FILL_IN) include/mxgate-config.cmake.in > $(DESTDIR)$(LIBDIR)/cmake/mxgate/mxgate-config.cmake
	$(FILL_IN) include/mxgate-config-version.cmake.in > $(DESTDIR)$(LIBDIR)/cmake/mxgate/mxgate-config-version.cmake
	chmod 644 $(DESTDIR)$(LIBDIR)/pkgconfig/mxgate.pc $(DESTDIR)$(LIBDIR)/cmake/mxgate/*.cmake

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
	@command -v cargo-deb >/dev/null || cargo install --quiet --locked --debug --no-default-features cargo-deb \
	    || echo "not installed: cargo-deb; tests that need it are skipped" >&2
	@if command -v rustup >/dev/null && [ ! -e "$$(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ]; then \
	    rustup component add rust-src || echo "not installed: rust-src; tests that need it are skipped" >&2; \
	fi
	@if command -v rustup >/dev/null && [ ! -d "$$(rustc --print target-libdir --target $(MUSL))" ]; then \
	    rustup target add $(MUSL) || echo "not installed: the target $(MUSL); tests that need it are skipped" >&2; \
	fi

# The mail servers for the tests of examples/ are unpacked below target/hosts; only the libraries that they need are
# installed. They own no file outside of that directory, and nothing runs with the rights of a file's owner.
hosts:
	@set -e; mkdir -p target/hosts; cd target/hosts; \
	for program in $(HOSTS); do \
	    package=$${program%%/*}; \
	    if [ -e $$program ] && ! ldd $$program 2>&1 | grep -q 'not found'; then continue; fi; \
	    if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	        echo "not unpacked: $$package (as root: make hosts); tests that need it are skipped" >&2; continue; \
	    fi; \
	    apt-get update -qq; rm -rf $$package $${package}_*.deb; \
	    apt-get download -qq -o APT::Sandbox::User=root $$package; \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	        $$(dpkg-deb -f $${package}_*.deb Depends | tr ',' '\n' | sed -n 's/^ *\(lib[^ |]*\).*/\1/p') >/dev/null; \
	    dpkg-deb -x $${package}_*.deb $$package; chmod ug-s $$program; \
	done

# The root of a clean Debian with Postfix, for the test that installs the package: of the release of this machine, whose C library
# the command is built with, and from where its apt has it. What is mounted on the way goes with the namespace.
debian-root: packages
	@set -e; root=target/debian-root; ID= VERSION_CODENAME=; [ ! -r /etc/os-release ] || . /etc/os-release; \
	if [ "$$ID" != debian ] || [ -z "$$VERSION_CODENAME" ] || [ "$$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then \
	    echo "not made: $$root (as root, on Debian: make debian-root); the test that needs it is skipped" >&2; exit 0; \
	fi; \
	if grep -qsx "VERSION_CODENAME=$$VERSION_CODENAME" $$root/etc/os-release; then exit 0; fi; \
	mirror=$$(apt-get indextargets --format '$$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Component: main' \
	    "Codename: $$VERSION_CODENAME" | head -n 1); \
	echo "Debian $$VERSION_CODENAME is installed in $$root"; mkdir -p target; rm -rf $$root $$root.new; \
	if unshare --mount debootstrap --variant=minbase --include=postfix $$VERSION_CODENAME $$root.new $$mirror >$$root.log 2>&1; then \
	    rm -f $$root.new/var/cache/apt/archives/*.deb; mv $$root.new $$root; \
	else \
	    tail -n 5 $$root.log >&2; echo "not made: $$root; the test that needs it is skipped" >&2; \
	fi
