//! Fills a built kernel's slot with a ramdisk and links the boot image around it.
//!
//! On entry the build directory holds a whole build. `vmlinux` and all objects stay as they are;
//! only the compressed payload and what is linked from it are made again, so that whatever
//! interrupts this, the next run starts from the same place.

use std::fs;
use std::path::Path;

use super::file::{FileError, cannot};
use super::replay::{self, replay};
use super::splice::{self, SLACK_BYTES};
use super::vmlinux::{self, Places};
use crate::{cmdline, kept};

/// The stripped kernel and its relocations: together the payload of the boot image.
const IMAGE: [&str; 2] =
    ["arch/x86/boot/compressed/vmlinux.bin", "arch/x86/boot/compressed/vmlinux.relocs"];
const PAYLOAD: &str = "arch/x86/boot/compressed/vmlinux.bin.zst";
const RESULT: &str = "arch/x86/boot/bzImage";
/// What the kernel's build does after it has compressed the payload, in its order.
const STEPS: [&str; 9] = [
    "arch/x86/boot/compressed/piggy.S",
    "arch/x86/boot/compressed/piggy.o",
    "arch/x86/boot/compressed/vmlinux",
    "arch/x86/boot/zoffset.h",
    "arch/x86/boot/header.o",
    "arch/x86/boot/setup.elf",
    "arch/x86/boot/setup.bin",
    "arch/x86/boot/vmlinux.bin",
    RESULT,
];

/// Why a ramdisk is not in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the build cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The kernel is not shaped as it must be.
    #[error(transparent)]
    Vmlinux(#[from] vmlinux::Error),
    /// The command line.
    #[error(transparent)]
    Cmdline(#[from] cmdline::Error),
    /// The slot was chosen for a smaller ramdisk.
    #[error("expected a ramdisk of at most {slot_bytes} bytes, got {initramfs_bytes}")]
    TooLarge {
        /// The ramdisk.
        initramfs_bytes: usize,
        /// The slot.
        slot_bytes: usize,
    },
    /// The payload cannot be compressed.
    #[error(transparent)]
    Splice(#[from] splice::Error),
    /// A step of the kernel's build failed.
    #[error(transparent)]
    Replay(#[from] replay::Error),
}

/// The boot image with a ramdisk and a default command line in it.
pub(super) fn image(build: &Path, initramfs: &[u8], cmdline: &str) -> Result<Vec<u8>, Error> {
    let kernel = read(&build.join("vmlinux"))?;
    let mut image = read(&build.join(IMAGE[0]))?;
    let places = vmlinux::places(&kernel, &image)?;
    image.extend(read(&build.join(IMAGE[1]))?);
    write_cmdline(&mut image[places.cmdline.clone()], cmdline)?;
    image[places.slot_size.clone()].copy_from_slice(&(initramfs.len() as u64).to_le_bytes());
    let payload = payload(build, &image, &places, initramfs)?;
    let path = build.join(PAYLOAD);
    fs::write(&path, payload).map_err(cannot("write", &path))?;
    STEPS.iter().try_for_each(|step| replay(build, step))?;
    read(&build.join(RESULT))
}

fn write_cmdline(buffer: &mut [u8], cmdline: &str) -> Result<(), Error> {
    cmdline::check_length(cmdline)?;
    buffer.fill(0);
    buffer[..cmdline.len()].copy_from_slice(cmdline.as_bytes());
    Ok(())
}

/// One zstd frame and, as the kernel's own build appends it, the size that it unpacks to.
fn payload(
    build: &Path,
    image: &[u8],
    places: &Places,
    initramfs: &[u8],
) -> Result<Vec<u8>, Error> {
    let slot = places.slot.clone();
    if initramfs.len() + SLACK_BYTES > slot.len() {
        return Err(Error::TooLarge { initramfs_bytes: initramfs.len(), slot_bytes: slot.len() });
    }
    let (head, tail) = (&image[..slot.start], &image[slot.end..]);
    let mut frame = splice::frame(&compressed_head(build, head)?, initramfs, slot.len(), tail)?;
    splice::check(&frame, &[head, initramfs, &vec![0; slot.len() - initramfs.len()], tail])?;
    frame.extend_from_slice(&(image.len() as u32).to_le_bytes());
    Ok(frame)
}

/// The kernel before the slot, compressed; kept, as it takes seconds.
fn compressed_head(build: &Path, head: &[u8]) -> Result<Vec<u8>, Error> {
    let path = build.join("head.zst");
    let key = kept::key(&splice::recipe(), head);
    if let Some(known) = kept::find(&path, &key) {
        return Ok(known);
    }
    let compressed = splice::head(head)?;
    kept::keep(&path, &key, &compressed).map_err(cannot("write", &path))?;
    Ok(compressed)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    Ok(fs::read(path).map_err(cannot("read", path))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_replaces_what_was_there_and_leaves_room_for_the_loaders() {
        let mut buffer = *b"placeholder\0\0\0\0\0";
        write_cmdline(&mut buffer, "quiet").unwrap();
        assert_eq!(&buffer, b"quiet\0\0\0\0\0\0\0\0\0\0\0");
        let long = "x".repeat(cmdline::LONGEST_BYTES + 1);
        assert!(matches!(write_cmdline(&mut [0; 2048], &long), Err(Error::Cmdline(_))));
    }

    #[test]
    fn a_kept_head_that_is_damaged_or_of_another_compressor_is_made_anew() {
        let build = tempfile::tempdir().unwrap();
        let path = build.path().join("head.zst");
        let head: Vec<u8> = (0..100_000_u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
        let fresh = compressed_head(build.path(), &head).unwrap();
        let mut damaged = fs::read(&path).unwrap();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        fs::write(&path, damaged).unwrap();
        assert!(compressed_head(build.path(), &head).unwrap() == fresh, "no build works any more");
        kept::keep(&path, &kept::key("another recipe", &head), b"of another level").unwrap();
        assert!(compressed_head(build.path(), &head).unwrap() == fresh, "who built here decides");
        kept::keep(&path, &kept::key(&splice::recipe(), &head), b"what is kept").unwrap();
        assert_eq!(compressed_head(build.path(), &head).unwrap(), b"what is kept");
    }
}
