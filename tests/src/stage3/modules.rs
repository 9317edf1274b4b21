//! The few drivers that the root needs, out of the four thousand of Debian's kernel package.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use mkinitramfs::tree::Tree;

use super::apt::Kernel;
use crate::command;

/// Part of Debian's kernel package `kmod`; not on an ordinary user's search path.
const DEPMOD: &str = "/usr/sbin/depmod";

/// What `depmod` reads beside the modules themselves.
const LISTS: &[&str] = &["modules.builtin", "modules.builtin.modinfo", "modules.order"];

/// Adds `drivers`, what they depend on, and the index that `modprobe` reads.
pub(super) fn add(
    tree: &mut Tree,
    kernel: &Kernel,
    drivers: &[&str],
    scratch: &Path,
) -> anyhow::Result<()> {
    let directory = format!("lib/modules/{}", kernel.release);
    let all = kernel.root.join(&directory);
    depmod(kernel, &kernel.root)?;
    let dependencies = fs::read_to_string(all.join("modules.dep"))?;

    let few_root = scratch.join("modules");
    let few = few_root.join(&directory);
    let wanted = closure(&dependencies, drivers)?;
    for file in wanted.iter().map(String::as_str).chain(LISTS.iter().copied()) {
        let target = few.join(file);
        fs::create_dir_all(target.parent().context("expected a file in a directory")?)?;
        fs::copy(all.join(file), target).with_context(|| format!("cannot copy {file}"))?;
    }
    depmod(kernel, &few_root)?;

    for entry in fs::read_dir(&few)?.filter_map(Result::ok).filter(|entry| entry.path().is_file()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        tree.file(&format!("/usr/{directory}/{name}"), 0o644, fs::read(entry.path())?)?;
    }
    for file in &wanted {
        tree.file(&format!("/usr/{directory}/{file}"), 0o644, fs::read(few.join(file))?)?;
    }
    Ok(())
}

fn depmod(kernel: &Kernel, root: &Path) -> anyhow::Result<()> {
    command::output(Command::new(DEPMOD).arg("-b").arg(root).arg(&kernel.release)).map(drop)
}

/// The files of `drivers` and of everything that they depend on, by `modules.dep`, which lists for
/// each module all that it needs.
fn closure(dependencies: &str, drivers: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let by_name: BTreeMap<&str, &str> = dependencies
        .lines()
        .filter_map(|line| {
            let (file, _) = line.split_once(':')?;
            let name = file.rsplit('/').next()?.split('.').next()?;
            Some((name, line))
        })
        .collect();
    let mut files = BTreeSet::new();
    for driver in drivers {
        let line = by_name.get(driver).with_context(|| format!("the kernel has no {driver}"))?;
        files.extend(line.replace(':', "").split_whitespace().map(str::to_owned));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_brings_all_that_it_depends_on() {
        let dependencies = "kernel/net/virtio_net.ko: kernel/virtio.ko kernel/failover.ko\n\
                            kernel/virtio.ko:\nkernel/failover.ko:\nkernel/other.ko:\n";
        let files = closure(dependencies, &["virtio_net"]).unwrap();
        assert_eq!(
            files.into_iter().collect::<Vec<_>>(),
            ["kernel/failover.ko", "kernel/net/virtio_net.ko", "kernel/virtio.ko"]
        );
        let error = closure(dependencies, &["missing"]).unwrap_err();
        assert_eq!(error.to_string(), "the kernel has no missing");
    }
}
