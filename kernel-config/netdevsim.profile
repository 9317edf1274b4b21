# The machine of vm.profile with a simulated card that devlink flashes: for tests.
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
net-virtio.config
kexec.config
kexec-without-digest.patch
pstore.config
netdevsim.config
virtual.config
