#!/bin/bash
# boot.sh: boots a real systemd as PID 1 of a throw-away Debian container, which is the router of a
# named network namespace.
#   boot.sh root KIND SUITE      make (once) the root of KIND (router, build or bare); print its
#                                folder
#   boot.sh up   NAME SUITE      boot a router in the existing namespace NAME; print its PID 1
#   boot.sh exec NAME CMD [ARG]  run CMD inside, in a clean environment, with the caller's stdio;
#                                the exit status is that of CMD
#   boot.sh down NAME            halt it and remove everything that is left of it
#   boot.sh sh   SUITE CMD       run a shell command in a copy-on-write chroot of the build root
#   boot.sh bare SUITE CMD       run a shell command in a copy-on-write bare Debian: apt and make,
#                                with this machine's network and apt sources
# Environment:
#   BIND  a folder of this machine, which is writable inside as /srv
#   ROOT  a folder that keeps what is written elsewhere, like a machine that is switched off and on;
#         without it, everything outside BIND is removed by down
#   KIND  build: boot the root in which packages are built and autopkgtest is installed
# Debian's roots are kept in /var/tmp/ctrecorder-roots.
# Needs root, systemd-container, mmdebstrap and zstd.  If something is not possible, it prints the
# reason and exits with 1: it skips nothing.
set -eu -o pipefail
CACHE=/var/tmp/ctrecorder-roots RUN=${TMPDIR:-/tmp}/ctrecorder-boot
# A small router: what ctrecorder depends on (no network inside), and what the tests do there.
router=systemd,systemd-sysv,dbus,libpam-systemd,libnss-systemd,python3,python3-systemd
router+=,python3-numpy,python3-zstandard,python3-defusedxml,tzdata
router+=,python3-cap-ng,python3-argcomplete,python3-tqdm,python3-pyroute2,python3-qrcode
router+=,iproute2,nftables,conntrack,kmod,procps,bash-completion,zsh,fish
# The packages that build and check a package there.
build=dpkg-dev,debhelper,dh-python,pybuild-plugin-pyproject,python3-all,python3-setuptools
build+=,python3-wheel,bash-completion
build+=,mandoc,lintian,autopkgtest,apt-utils,gpgv,systemd,systemd-sysv,dbus,python3-systemd
build+=,python3-numpy,python3-zstandard,python3-defusedxml,tzdata
build+=,python3-cap-ng,python3-argcomplete,python3-tqdm,python3-pyroute2,python3-qrcode,iproute2,nftables
build+=,conntrack,procps
# A fresh machine of a newcomer: apt, and make to type `make`.
bare=make
die() { echo "boot.sh: $*" >&2; exit 1; }

root() {  # KIND SUITE -> BASE
  local kind=$1 suite=$2 packages=${!1} key host sources archive new
  local variant=minbase sources_list=': >"$1"/etc/apt/sources.list'
  [ "$kind" != bare ] || variant=apt sources_list=true  # which keeps its sources
  key=$(echo "$suite $packages" | sha256sum | cut -c1-12) && BASE=$CACHE/$kind-$suite-$key
  archive=$BASE.tar.zst new=$BASE.new.tar.zst
  mkdir -p "$CACHE"; exec 9>"$CACHE/lock"; flock 9
  if [ ! -e "$BASE.done" ]; then
    # The mirrors of this machine's apt, with the other release's name.
    host=$(. /etc/os-release; echo "$VERSION_CODENAME")
    sources=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' |
      awk -v h="$host" -v s="$suite" \
        '$3 == "main" && $2 ~ "^" h "(-|$)" {sub(h, s, $2); print "deb", $1, $2, $3}' | sort -u)
    [ -n "$sources" ] || die "apt knows no main of $host: run apt-get update first"
    rm -rf "$BASE" "$archive" "$CACHE/$kind-$suite-"*; mkdir -p "$BASE"
    mmdebstrap --quiet --mode=root --variant=$variant --include="$packages" \
      --aptopt='Acquire::Check-Valid-Until "false"' --dpkgopt='force-unsafe-io' \
      --customize-hook='rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap' \
      --customize-hook='rm -f "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$1"/etc/resolv.conf' \
      --customize-hook='echo router >"$1"/etc/hostname; : >"$1"/etc/machine-id' \
      --customize-hook="$sources_list" "$suite" "$new" - <<<"$sources" >&2 9>&- ||
      die "mmdebstrap could not make a $suite root: is the apt mirror reachable?"
    tar --zstd --numeric-owner --xattrs --xattrs-include='*' -xpf "$new" -C "$BASE"
    rm "$new"; touch "$BASE.done"
  fi
  exec 9>&-
}

cgroups() {
  findmnt -rnt cgroup2 -o TARGET | head -1
  findmnt -rnt cgroup -O name=systemd -o TARGET | head -1
}

leader() {  # NAME: the container's PID 1, as it is numbered here
  local nspawn; nspawn=$(cat "$RUN/$1/pid" 2>/dev/null) || return 1
  ps -o pid=,comm= --ppid "$nspawn" | awk '$2 == "systemd" {print $1; found = 1} END {exit !found}'
}

inside() {
  local pid; pid=$(leader "$1") || die "$1 is not up"; shift
  nsenter -t "$pid" -a -- "$@"
}

sweep() {  # NAME: end what is left in the cgroups made for this container, and in no other
  local folder group i
  for group in $(cgroups); do
    folder=$group/ctrecorder-$1
    [ -d "$folder" ] || continue
    for i in $(seq 50); do
      find "$folder" -name cgroup.procs -exec cat {} + 2>/dev/null |
        xargs -r kill -KILL 2>/dev/null || true
      find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [ -d "$folder" ] || break
      sleep .1
    done
    [ ! -d "$folder" ] || echo "boot.sh: $folder is still busy" >&2
  done
  ! mountpoint -q "$RUN/$1/root" || umount "$RUN/$1/root"
  rm -rf --one-file-system "${RUN:?}/$1" "/run/systemd/nspawn/propagate/$1"
  rmdir "$RUN" 2>/dev/null || true
}

sweep_dead() {  # what runs of the tests that were killed have left: their pid is in the name
  local folder name pid
  for folder in "$RUN"/ctrec-*; do
    name=${folder##*/}; pid=${name#ctrec-}; pid=${pid%%-*}
    [ ! -d "$folder" ] || [ -d "/proc/$pid" ] || sweep "$name"
  done
}

up() {  # NAME SUITE
  local name=$1 tree i state wrapper options=(--volatile=overlay)
  [ "$(id -u)" = 0 ] || die "only root can boot a container"
  command -v systemd-nspawn >/dev/null || die "no systemd-nspawn: apt-get install systemd-container"
  [ -e "/run/netns/$name" ] || die "no network namespace $name"
  root "${KIND:-router}" "$2"
  sweep_dead; sweep "$name"; mkdir -p "$RUN/$name"; tree=$BASE
  if [ -n "${ROOT:-}" ]; then
    options=() tree=$RUN/$name/root
    mkdir -p "$ROOT/upper" "$ROOT/work" "$tree"
    mount -t overlay -o "lowerdir=$BASE,upperdir=$ROOT/upper,workdir=$ROOT/work" ctrecorder "$tree"
  fi
  [ -z "${BIND:-}" ] || options+=("--bind=$BIND:/srv")
  ip -n "$name" link set lo up
  export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
  (
    for group in $(cgroups); do
      mkdir -p "$group/ctrecorder-$name"; echo "$BASHPID" >"$group/ctrecorder-$name/cgroup.procs"
    done
    echo "$BASHPID" >"$RUN/$name/pid"
    exec setsid systemd-nspawn -D "$tree" --boot -M "$name" --register=no --keep-unit \
      --network-namespace-path="/run/netns/$name" --capability=all \
      --system-call-filter='bpf keyctl' \
      --console=pipe --link-journal=no --resolv-conf=off --timezone=off "${options[@]}"
  ) </dev/null >"$RUN/$name/log" 2>&1 &
  wrapper=$!; disown
  for i in $(seq 600); do
    [ -d "/proc/$wrapper" ] || {
      cat "$RUN/$name/log" >&2; sweep "$name"
      die "this machine cannot boot containers: systemd-nspawn ended"
    }
    state=$(leader "$name" >/dev/null &&
      inside "$name" systemctl is-system-running 2>/dev/null || true)
    case $state in running | degraded) leader "$name"; return 0 ;; esac
    sleep .1
  done
  cat "$RUN/$name/log" >&2; down "$name"
  die "$name did not come up within 60 s (state: ${state:-none})"
}

down() {  # NAME
  local nspawn i; nspawn=$(cat "$RUN/$1/pid" 2>/dev/null || true)
  if [ -n "$nspawn" ] && grep -qs "ctrecorder-$1" "/proc/$nspawn/cgroup"; then
    kill -TERM "$nspawn" 2>/dev/null || true  # nspawn turns it into a halt of PID 1
    for i in $(seq 200); do [ -d "/proc/$nspawn" ] || break; sleep .1; done
  fi
  sweep "$1"
}

# A transient unit: a clean environment, in the container's own cgroup.  systemd expands $VAR, so
# each $ is doubled.
execute() {
  local name=$1; shift
  inside "$name" systemd-run --quiet --wait --pipe --collect -E HOME=/root -E LANG=C.UTF-8 \
    -E DEBIAN_FRONTEND=noninteractive \
    -- "${@//\$/\$\$}"
}

chrooted() {  # SUITE CMD: in a mount namespace of its own, so that nothing stays mounted
  root build "$1"
  BASE=$BASE COMMAND=$2 unshare --mount --net --propagation private sh -eu -c '
    mount -t tmpfs none /mnt; cd /mnt; mkdir up work root
    mount -t overlay -o "lowerdir=$BASE,upperdir=up,workdir=work" none root
    mount -t proc none root/proc; mount --rbind /dev root/dev; mount -t tmpfs none root/tmp
    ip link set lo up
    [ -z "${BIND:-}" ] || mount --bind "$BIND" root/srv
    exec env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
      DEBIAN_FRONTEND=noninteractive TMPDIR=/tmp \
      chroot root sh -eu -c "$COMMAND"'
}

# What apt needs to reach the mirrors as it does here.
apt_settings() {
  apt-config dump | grep -Ei '^Acquire::(https?::Proxy|Check-Valid-Until)\b' || true
}

# SUITE CMD: in mount and PID namespaces, which end everything that was mounted or started in them
bare() {
  root bare "$1"
  mkdir -p "$CACHE/debs/partial"
  exec 8>"$CACHE/debs.lock"; flock 8  # apt in one root at a time: they share its downloads
  find "$CACHE/debs" -name '*.deb' -mtime +30 -delete
  # Who kills this process kills all that runs in the root.
  export BASE COMMAND=$2 DEBS=$CACHE/debs APT
  APT=$(apt_settings)
  exec unshare --mount --pid --fork --kill-child --propagation private \
    bash -eu -c '
      mount -t tmpfs none /mnt; cd /mnt; mkdir up work root
      mount -t overlay -o "lowerdir=$BASE,upperdir=up,workdir=work" none root
      echo "$APT" >root/etc/apt/apt.conf.d/99-this-machine
      cp -L /etc/resolv.conf root/etc/resolv.conf
      mount -t proc none root/proc; mount --rbind /sys root/sys; mount --rbind /dev root/dev
      mount -t tmpfs none root/run; mount -t tmpfs none root/tmp
      mount --bind "$DEBS" root/var/cache/apt/archives
      mkdir -p root/lib/modules
      [ ! -d /lib/modules ] || mount --bind -o ro /lib/modules root/lib/modules
      [ -z "${BIND:-}" ] || mount --bind "$BIND" root/srv
      exec env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        ${http_proxy:+http_proxy="$http_proxy"} \
        chroot root sh -eu -c "$COMMAND"' </dev/null
}

case ${1:-} in
  root) root "$2" "$3"; echo "$BASE" ;;
  up) up "$2" "$3" ;;
  exec) shift; execute "$@" ;;
  down) down "$2" ;;
  sh) chrooted "$2" "$3" ;;
  bare) bare "$2" "$3" ;;
  *) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 1 ;;
esac
