#!/bin/sh
# Install what building and testing need, on Debian 12 (apt, as root or with sudo).
#   scripts/setup.sh            compiler, build tools, libraries
#   scripts/setup.sh --check    the same and what `make check` adds
#   scripts/setup.sh --clients  the same and what `make test-clients` adds
#   scripts/setup.sh --emulate  the same and what scripts/emulate.sh adds
# Looks first: when everything is there it says nothing and needs no apt.
set -eu

header() { echo "#include <$1>" | "${CC:-cc}" -E -x c - >/dev/null 2>&1; }
tool() { command -v "$1" >/dev/null 2>&1; }
library() { tool pkg-config && pkg-config --exists "$1"; }

missing=
need() { # package, then the command that succeeds when it is there
    package=$1
    shift
    "$@" || missing="$missing $package"
}

need gcc tool gcc
need libc6-dev header stdio.h
need cmake tool cmake
need ninja-build tool ninja
need pkg-config tool pkg-config
need libdnnl-dev header dnnl.h
need libjansson-dev library jansson
need libedit-dev library libedit
need libmicrohttpd-dev library libmicrohttpd
need libcmocka-dev library cmocka
need python3 tool python3
need python3-venv python3 -c 'import ensurepip, venv'
if [ "${1:-}" = --check ]; then
    need clang tool clang
    need libomp-dev sh -c 'echo "int main(void){return 0;}" | clang -fopenmp -x c - -o /dev/null'
    need clang-format tool clang-format
fi 2>/dev/null
[ "${1:-}" != --clients ] || need chromium tool chromium
if [ "${1:-}" = --emulate ]; then
    need bochs tool bochs
    need bochsbios test -e /usr/share/bochs/BIOS-bochs-latest
    need vgabios test -e /usr/share/bochs/VGABIOS-lgpl-latest
    need bochs-term sh -c 'ls /usr/lib/*/bochs/plugins/libbx_term_gui.so'
    need isolinux test -e /usr/lib/ISOLINUX/isolinux.bin
    need syslinux-common test -e /usr/lib/syslinux/modules/bios/ldlinux.c32
    need xorriso tool xorriso
    need busybox-static tool busybox
    need cpio tool cpio
fi >/dev/null 2>&1
[ -n "$missing" ] || exit 0

echo "setup: missing:$missing"
if ! tool apt-get; then
    echo "setup: no apt-get here; install the equivalents of these Debian packages" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" != 0 ]; then
    if ! tool sudo; then
        echo "setup: neither root nor sudo; run as root: apt-get install$missing" >&2
        exit 1
    fi
    as_root=sudo
fi
echo "setup: ${as_root:+$as_root }apt-get install$missing"
$as_root apt-get update -q
# shellcheck disable=SC2086  # one word per package
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
