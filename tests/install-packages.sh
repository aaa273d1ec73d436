#!/bin/sh
# install-packages.sh PACKAGE...: install with apt what is missing.  Needs root only then.
# A PACKAGE may be virtual.  No daemon of an installed package starts, and none stays enabled: the
# tests and the benchmarks start their own, in their own namespaces.
set -eu
export LC_ALL=C
present=$(dpkg-query -W -f '${db:Status-Status}, ${Package}, ${Provides}\n' |
    sed -n 's/^installed, //p' | sed 's/([^)]*)//g' | tr -s ', ' '\n')
missing=$(for package; do
    echo "$present" | grep -Fqx -e "$package" || echo "$package"
done | sort -u | tr '\n' ' ')
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "make: these packages are missing, and only root can install them: $missing" >&2
    how='root (su -)'
    ! command -v sudo >/dev/null || how='`sudo make ...`'
    echo "make: run it as $how" >&2
    exit 1
fi

# The units and the init scripts that are enabled, a line each, sorted.
enabled() {
    find /etc/systemd/system -mindepth 2 -type l -regex '.*\.\(service\|socket\|timer\|path\)' \
        -printf 'unit %f\n' 2>/dev/null | sort -u
    find /etc/rc[2-5].d -name 'S*' -printf 'script %f\n' 2>/dev/null | sed 's/ S[0-9]*/ /' | sort -u
}

# Packages enable their units, and deb-systemd-helper does it without systemctl too: disable what is
# new.  Not the units of systemd itself: a machine on which it is new needs them to boot.
restore() {
    code=$?
    [ -z "$made_policy" ] || rm -f $policy
    [ $code = 0 ] || cat "$log" >&2
    rm -f "$log"
    enabled | while read -r kind name; do
        echo "$before" | grep -Fqx -e "$kind $name" && continue
        if [ "$kind" = script ]; then
            update-rc.d "$name" disable >/dev/null
            continue
        fi
        owner=$(dpkg-query -S "*/systemd/system/$name" 2>/dev/null | sed -n '1s/:.*//p')
        [ -n "$owner" ] || continue
        [ "$(dpkg-query -W -f '${source:Package}' "$owner")" != systemd ] || continue
        # The helper works only for a maintainer script: the variable makes this one of the owner's.
        DPKG_MAINTSCRIPT_PACKAGE=$owner deb-systemd-helper disable "$name" >/dev/null
        echo "not enabled: $name"
    done
    exit $code
}

echo "installing: $missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp) policy=/usr/sbin/policy-rc.d made_policy='' before=$(enabled)
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if [ ! -e $policy ]; then
    made_policy=yes
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
fi
# What apt prints is of interest only if it fails.
# shellcheck disable=SC2086
{ apt-get -qq update && apt-get -qq -y install --no-install-recommends $missing; } \
    </dev/null >"$log" 2>&1
