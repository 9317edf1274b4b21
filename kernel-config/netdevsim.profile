# All of vm.profile, and a simulated card that devlink flashes: for tests. With the flavour disk it
# is one kernel for all of them that need more than the default image has.
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
netdevsim.config
virtual.config
