# ctrecorder: everything that is done in a checkout.  `make` alone lists it.

PYTHON = /usr/bin/python3
SUITE ?= trixie
.DEFAULT_GOAL = help

# Debian packages, named alike in Debian 12 and 13.  RUN is what debian/control depends on.  DEMO,
# CHECK and BENCH are what the demonstration, the tests and the benchmarks need besides.  BUILD is
# read from debian/control.  tests/package/test_commands.py fails for a command that no package of
# its target brings.
RUN = python3 python3-numpy python3-zstandard python3-systemd python3-cap-ng python3-argcomplete \
	python3-pyroute2 python3-qrcode python3-tqdm tzdata python3-defusedxml
DEMO = iproute2 nftables conntrack iputils-ping kmod procps
CHECK = $(DEMO) conntrackd python3-venv python3-pytest python3-pytest-xdist python3-hypothesis \
	iptables mandoc man-db bash-completion systemd-container e2fsprogs btrfs-progs faketime \
	mmdebstrap zstd dbus git fail2ban rsync tmux less openssh-client python3-matplotlib \
	python3-cryptography nfdump
BENCH = $(DEMO) conntrackd gcc libc6-dev ulogd2 nfdump e2fsprogs faketime mount rsync \
	openssh-client python3-pytest
OTHER = mmdebstrap git mount
BROWSER = chromium poppler-utils fonts-dejavu-core util-linux
BUILD = $(shell sed -n '/^Build-Depends:/,/^[^ ]*:/s/^ \([a-z0-9.+-]*\).*/\1/p' debian/control)

# What `make coverage` needs besides.
COVERAGE = python3-coverage

# Linters, and the libraries whose types mypy reads: pinned, from PyPI, so that both releases give
# one answer (Debian 12 has no ruff, each has another mypy, and each numpy other types).  Nothing
# that is shipped or tested runs from there.
LINTERS = ruff==0.14.6 mypy==1.18.2 numpy==2.2.4 zstandard==0.23.0 pytest==8.3.5 hypothesis==6.130.5
VENV = .venv/$(subst ==,-,$(subst $(eval) ,_,$(LINTERS)))
# The fuzzer, which Debian does not have; only tests/faults needs it.
ATHERIS = atheris==3.0.0
FUZZER = .venv/$(subst ==,-,$(ATHERIS))
# The engine of ClickHouse, of which no Debian has a current server; only tests/faults needs it.
CHDB = chdb-core==26.9.0
ENGINE = .venv/$(subst ==,-,$(CHDB))

PYTEST = $(PYTHON) -B -m pytest
# For tests/package: both releases at once, because a booted router waits most of the time.
TWO_ROUTERS = -n 2 --dist loadgroup

# Installs those of the named packages that are missing.  Without root, it prints what to do.
install = $(SHELL) tests/install-packages.sh

# What makes network namespaces.
quick check check-unit check-lab check-faults check-model check-package: root
check-other check-browser check-full coverage demo bench: root

.PHONY: root help deps quick check check-full coverage check-lint check-unit check-lab
.PHONY: check-faults check-model check-package check-other check-browser faces format demo bench
.PHONY: deb clean
.NOTPARALLEL:

help:
	@echo 'As root, on Debian 12 or 13:'
	@echo '  make demo        record and list real traffic in network namespaces (10 s)'
	@echo '  make quick       lint, and the tests that are not marked slow (30 s)'
	@echo '  make check       lint, and the tests: unit, lab, faults, model, package'
	@echo '  make check-unit  only these; also check-lab, check-faults, check-package, check-model'
	@echo '  make bench       measure speed and memory on this machine'
	@echo '  make check-full  check, the pages in a browser, and the share of executed lines'
	@echo '  make deb         build the Debian package in build/'
	@echo '  make deps        install the packages that the other targets need, with apt'
	@echo '  make check-other SUITE=trixie  the unit and lab tests inside another Debian release'
	@echo '  make format      format the code'
	@echo '  make faces       rewrite the lists of the names that each package shows to others'
	@echo '  make clean       remove the files that these targets made in the checkout'
	@echo 'They install missing packages. Otherwise they change nothing outside their own namespaces.'

root:
	@[ "$$(id -u)" = 0 ] || { echo 'make: $(MAKECMDGOALS) needs root for network namespaces:' \
		'su -, or sudo make $(MAKECMDGOALS)' >&2; exit 1; }

deps:
	@$(install) $(RUN) $(CHECK) $(BENCH) $(BUILD) $(COVERAGE)

# Lint first, it is the quickest to say no; then the quick tests.  All run even if some failed: one
# run shows all failures.  The Debian roots that tests/package boots take minutes, once on a
# machine: they are made meanwhile.  tests/lab and tests/faults run one by one and wait a lot: the
# slow unit tests take what CPU is left.  A booted router waits most of the time: what needs nothing
# but CPU runs beside tests/package.  The units of the machine are listed before and after: no test
# installs or enables one.
SLOW = build/slow.log
BESIDE = build/beside.log
UNITS = find /etc/systemd/system /usr/lib/systemd/system /etc/rc?.d 2>/dev/null | sort
check: deps check-lint $(FUZZER)/done $(ENGINE)/done
	@mkdir -p build; $(UNITS) >build/units
	@for kind in router build bare; do for suite in bookworm trixie; do \
		tests/package/boot.sh root $$kind $$suite; done; done >/dev/null 2>&1 & \
	code=0; $(PYTEST) tests/unit -m 'not slow' -n 2 || code=$$?; \
	nice -n 19 $(PYTEST) tests/unit -m slow >$(SLOW) 2>&1 & slow=$$!; \
	$(PYTEST) tests/lab tests/faults tests/model -m 'not beside' || code=$$?; \
	wait $$slow || code=$$?; cat $(SLOW); wait; \
	$(PYTEST) tests/faults -m beside >$(BESIDE) 2>&1 & beside=$$!; \
	$(PYTEST) tests/package $(TWO_ROUTERS) || code=$$?; \
	wait $$beside || code=$$?; cat $(BESIDE); \
	$(UNITS) | diff build/units - || code=1; exit $$code

# For each change: lint, and what is not marked slow, on all CPUs.  The slowest are printed, so that
# one that grew is seen.
quick: check-lint
	@$(install) $(RUN) $(CHECK)
	$(PYTEST) tests/unit -m 'not slow' -q -n auto --hypothesis-profile=quick --durations=5

# What takes too long for each commit.
check-full: check check-browser coverage

# With coverage's tracing each test takes longer; its own memory and time are not the commands', so
# those tests are left out.
coverage:
	@$(install) $(RUN) $(CHECK) $(COVERAGE)
	tests/coverage.sh

check-lint: | $(VENV)/done
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/python -m mypy --cache-dir $(VENV)/mypy

$(VENV)/done:
	@$(install) python3-venv
	rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip --quiet --disable-pip-version-check install $(LINTERS) \
		|| { echo 'make: the linters could not be fetched from PyPI;' \
			'only `make check-lint` needs them' >&2; exit 1; }
	@touch $@

$(FUZZER)/done: | $(VENV)/done
	@$(VENV)/bin/pip --quiet --disable-pip-version-check install --target $(FUZZER) $(ATHERIS) \
		|| { echo 'make: atheris could not be fetched from PyPI;' \
			'only `make check-faults` needs it' >&2; exit 1; }
	@touch $@

$(ENGINE)/done: | $(VENV)/done
	@$(VENV)/bin/pip --quiet --disable-pip-version-check install --no-deps --target $(ENGINE) \
		$(CHDB) || { echo 'make: chdb-core could not be fetched from PyPI;' \
		'only `make check-faults` needs it' >&2; exit 1; }
	@touch $@

check-faults: $(FUZZER)/done $(ENGINE)/done
check-unit check-lab check-faults check-model check-package: check-%:
	@$(install) $(RUN) $(CHECK) $(if $(filter package,$*),$(BENCH) $(BUILD))
	$(PYTEST) tests/$* $(if $(filter package,$*),$(TWO_ROUTERS))

# Rewrites the lists of what each package shows to others, and the layout of the code: a test and
# check-lint compare both.
faces:
	$(PYTHON) -B tests/support/faces.py

format: | $(VENV)/done
	$(VENV)/bin/ruff format

check-other:
	@$(install) $(OTHER)
	tests/other-release.sh $(SUITE) make check-unit check-lab

# The pages of ctwho, drawn and printed by a real browser.
check-browser:
	@$(install) $(RUN) $(CHECK) $(BROWSER)
	$(PYTEST) tests/browser

demo:
	@$(install) $(RUN) $(DEMO)
	@$(PYTHON) -B -m tests.demo.demo

bench:
	@$(install) $(RUN) $(BENCH)
	@$(PYTHON) -B -m tests.bench.bench

deb:
	@$(install) $(BUILD)
	debian/build build

clean:
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
