#!/bin/bash
# other-release.sh SUITE COMMAND...: runs COMMAND on a copy of this checkout inside another Debian
# release, as root.  mmdebstrap makes a bare root once.  It is kept in $CTRECORDER_ROOTS (default:
# /var/tmp/ctrecorder), with what COMMAND installs.  To begin with a bare root again, remove this
# folder.
set -eu -o pipefail
suite=${1:?SUITE} && shift
root=${CTRECORDER_ROOTS:-/var/tmp/ctrecorder}/$suite
[ "$(id -u)" = 0 ] || { echo "other-release: needs root (it makes a chroot)" >&2; exit 1; }

# The mirrors that this machine's apt uses, with the name of the other release.
sources() {
    local here
    here=$(. /etc/os-release && echo "$VERSION_CODENAME")
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v here="$here" -v suite="$suite" '$3 == "main" && $2 ~ "^" here "(-|$)" {
            sub(here, suite, $2); print "deb", $1, $2, $3 }' |
        sort -u
}

if [ ! -e "$root/done" ]; then
    apt-get -qq update
    rm -rf "$root" && mkdir -p "$root"
    sources | mmdebstrap --quiet --mode=root --variant=minbase \
        --include=make,git,ca-certificates,iproute2 \
        --aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$root/root" - >&2
    touch "$root/done"
fi

# Copy the files that git knows or would add, but nothing that another release's Python or linter
# left in the checkout.
rm -rf "$root/root/src" && mkdir "$root/root/src"
git ls-files -z --cached --others --exclude-standard |
    tar --null --ignore-failed-read -cf - -T - | tar -xf - -C "$root/root/src"
[ ! -e /etc/resolv.conf ] || cp -L /etc/resolv.conf "$root/root/etc/resolv.conf"

# The mounts end with the command.  The network is that of this machine, for apt.  The new root is a
# mount and not a chroot, because ip-netns(8) needs one.
exec unshare --mount --propagation private -- bash -c '
    root=$1 && shift
    mount --bind "$root" "$root" && cd "$root"
    mount -t proc proc proc && mount --rbind /sys sys && mount --rbind /dev dev
    mount -t tmpfs tmpfs run && mount -t tmpfs tmpfs tmp
    mkdir -p run/old && pivot_root . run/old && umount -l /run/old && rmdir /run/old && cd /src
    exec env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 CI="${CI:-}" "$@"
' bash "$root/root" "$@" </dev/null
