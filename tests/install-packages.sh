#!/bin/sh
# install-packages.sh PACKAGE...: installs those that are missing, with apt; does nothing, and needs no root, if none is.
set -eu
export LC_ALL=C
missing=$(for package; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || echo "$package"
done | sort -u | tr '\n' ' ')
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "make: these packages are missing, and only root can install them: $missing" >&2
    if command -v sudo >/dev/null; then echo 'make: run it as `sudo make ...`' >&2; else echo 'make: run it as root (su -)' >&2; fi
    exit 1
fi
echo "installing: $missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# A daemon that comes with a package (ulogd2) must not start here: the tests start their own, in their own namespaces.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
    trap 'rm -f $policy' EXIT
fi
# shellcheck disable=SC2086
apt-get -qq -y install --no-install-recommends $missing </dev/null
