# Machines that QEMU makes: q35 and i440fx, one of five NIC models, serial line or VGA.
# One fragment or patch of this directory per line; together they are the whole request.
base.config
boot.config
initramfs.config
process.config
filesystem.config
console.config
efi.config
time.config
random.config
net.config
net-intel.config
net-realtek.config
net-virtio.config
kexec.config
kexec-without-digest.patch
pstore.config
flash.config
virtual.config
