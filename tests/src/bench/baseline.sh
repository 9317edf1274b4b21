#!/bin/sh
# A stage2 made of Debian's programs: ssh for the operator, the boot document, files, kexec.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin

fail() {
    echo "bench: failed: $1"
    poweroff -f
}

fetch() {
    curl --silent --show-error --fail --retry 5 --retry-connrefused "$@"
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs -o size=95% tmpfs /tmp

ip link set lo up
for word in $(cat /proc/cmdline); do
    case $word in
    epoxy.ip=*) network=${word#epoxy.ip=} ;;
    esac
done
IFS=:
set -- $network
unset IFS
interface=$6
ip link set "$interface" up || fail "$interface"

# While the link comes up there is time for a host key.
(dropbearkey -t ed25519 -f /etc/dropbear/host_key >/dev/null 2>&1 &&
    dropbear -s -r /etc/dropbear/host_key) &

until read -r carrier <"/sys/class/net/$interface/carrier" && [ "$carrier" = 1 ]; do
    usleep 10000
done
ip address add "$1/$4" dev "$interface" && ip route add default via "$3" || fail address
hostname "$5"

fetch --data '' --output /tmp/digests "$server/digests" || fail document
for file in initramfs kernel; do
    fetch --output "/tmp/$file" "$server/$file" || fail "$file"
done
echo "bench: fetched"
(cd /tmp && /usr/bin/sha256sum --check --status digests) || fail digests
echo "bench: verified"
# shellcheck disable=SC2154,SC2086 # Like the server, it comes from the kernel's command line.
kexec --load $kexec_option --command-line='console=ttyS0 rootfstype=ramfs' --initrd=/tmp/initramfs /tmp/kernel || fail load
echo "bench: loaded"
kexec --exec
fail enter
