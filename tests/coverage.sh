#!/bin/sh
# coverage.sh [PYTEST ARGUMENT...]: the unit, lab and faults tests, and the share of ctrecorder's
# lines that they execute, as a table.  Every Python process is measured, also those that tests
# start in other namespaces, without an environment, or as another user: a .pth file starts the
# measurement.  It is laid over Debian's dist-packages, in a mount namespace of this run alone.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] ||
    set -- --hypothesis-profile=wide -m 'not unmeasured' tests/unit tests/lab tests/faults

work=$(mktemp -d /tmp/ctrecorder-coverage.XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir -m 1777 "$work/data" # processes that gave up root write here too
mkdir "$work/site"
chmod 755 "$work"
cat >"$work/rc" <<END
[run]
source = $PWD/ctrecorder
parallel = true
data_file = $work/data/coverage
END
echo "import os; os.environ.setdefault('COVERAGE_PROCESS_START', '$work/rc');" \
    "import coverage; coverage.process_startup()" >"$work/site/coverage-of-ctrecorder.pth"

python=/usr/bin/python3
site=$($python -c 'import sysconfig; print(sysconfig.get_path("purelib", "deb_system"))')
code=0
# shellcheck disable=SC2016 # expanded by the inner shell
WORK=$work SITE=$site unshare --mount --propagation private sh -euc '
    mount -t overlay overlay -o "lowerdir=$WORK/site:$SITE" "$SITE"
    unset WORK SITE
    exec "$0" -B -m pytest "$@"' "$python" "$@" || code=$?
$python -B tests/support/coverage_table.py "$work/rc"
exit $code
