#!/bin/bash
# Kernel tests on an emulated CPU: the vector forms that this machine cannot run. Bochs boots Debian's
# kernel for virtual machines with the tests as its only program; minutes for each of them.
#   scripts/emulate.sh [TEST...]    kv, panels, ...; default: all of those of vector forms
# The CPU has AVX-512 (F, BW, DQ, VL). Of Bochs 2.7 the models with VNNI do not get past the kernel's
# first second; CPU=tigerlake tries. Products of matrices are those of a build without oneDNN. Needs
# root, to install what is missing.
set -eu
cd "$(dirname "$0")/.."
cpu=${CPU:-corei7_skylake_x}
[ $# -gt 0 ] || set -- super_block kv cache panels panel_linear kernels_ref kernels
work=build-emulated
kernel_package=linux-image-cloud-amd64

scripts/setup.sh --emulate
cmake -S . -B "$work" -G Ninja -DCMAKE_BUILD_TYPE=Release -DEQAT_ONEDNN=OFF -DEQAT_SERVE=OFF >/dev/null
ninja -C "$work" --quiet "${@/#/test_}"

if [ ! -e "$work/vmlinuz" ]; then # without installing a kernel here
    image=$(apt-cache depends --no-recommends "$kernel_package" | sed -n 's/.*Depends: //p' | head -n 1)
    (cd "$work" && apt-get download -qq "$image" 2>/dev/null && dpkg-deb -x "$image"_*.deb kernel)
    cp "$work"/kernel/boot/vmlinuz-* "$work/vmlinuz"
fi

files=$work/files
rm -rf "$files" && mkdir -p "$files"/{proc,dev,tmp,tests} "$work/disc/isolinux"
cp "$(command -v busybox)" "$files/busybox"
cp -r tests/golden "$files/tests/golden"
for test in "$@"; do
    strip -o "$files/test_$test" "$work/tests/test_$test"
    ldd "$work/tests/test_$test" | grep -oE '/[^ ]+' | while read -r library; do
        mkdir -p "$files$(dirname "$library")" && cp -L "$library" "$files$library"
    done
done
cat >"$files/init" <<INIT
#!/busybox sh
/busybox mount -t proc proc /proc
/busybox mount -t devtmpfs dev /dev
/busybox mount -t tmpfs tmp /tmp
echo "emulated: \$(/busybox grep -m1 -o 'avx512[a-z_0-9 ]*' /proc/cpuinfo)"
for test in $*; do
    ./test_\$test && echo "passed \$test" || echo "failed \$test"
done 2>&1
echo "emulated: end"
while :; do /busybox sleep 1000; done
INIT
chmod +x "$files/init"
(cd "$files" && find . | cpio --quiet -o -H newc | gzip -1) >"$work/disc/initrd.gz"

cp "$work/vmlinuz" /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$work/disc/"
mv "$work/disc"/{isolinux.bin,ldlinux.c32} "$work/disc/isolinux/"
# The kernel finds the sizes of the emulated XSAVEC, XSAVES and PKU wrong and would do without vectors;
# with an APIC it waits for ever.
cat >"$work/disc/isolinux/isolinux.cfg" <<CFG
DEFAULT eqat
LABEL eqat
 KERNEL /vmlinuz
 APPEND initrd=/initrd.gz console=ttyS0 nokaslr mitigations=off noxsaves clearcpuid=321,323,515,149,120 acpi=off nosmp noapic nolapic
CFG
xorriso -report_about WARNING -as mkisofs -quiet -o "$work/disc.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat \
    -no-emul-boot -boot-load-size 4 -boot-info-table "$work/disc"
cat >"$work/bochsrc" <<RC
megs: 768
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
cpu: model=$cpu, count=1, ips=100000000, ignore_bad_msrs=1
ata0-master: type=cdrom, path=$work/disc.iso, status=inserted
boot: cdrom
clock: sync=none
log: $work/bochs.log
panic: action=report
com1: enabled=1, mode=file, dev=$work/serial.txt
display_library: term
RC
echo c >"$work/continue"
rm -f "$work/serial.txt" "$work/disc.iso.lock"
TERM=xterm setsid script -qc "bochs -q -f $work/bochsrc -rc $work/continue" /dev/null >/dev/null 2>&1 </dev/null &
trap 'pkill -KILL -f "bochs-bin.*$work/bochsrc"' EXIT
for ((waited = 0; ; waited += 5)); do
    sleep 5
    ! grep -q 'emulated: end' "$work/serial.txt" 2>/dev/null || break
    why=
    pgrep -f "bochs-bin.*$work/bochsrc" >/dev/null || why="bochs ended, see $work/bochs.log"
    [ $waited -lt 300 ] || grep -q '^emulated' "$work/serial.txt" 2>/dev/null ||
        why="the kernel has not come up, see $work/serial.txt"
    [ -z "$why" ] || { echo "emulate: $why" >&2 && exit 1; }
done
grep -E '^emulated|^passed|^failed|FAILED|LINE' "$work/serial.txt" | tr -d '\r'
! grep -q '^failed' "$work/serial.txt"
