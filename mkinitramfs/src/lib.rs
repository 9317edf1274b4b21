//! Packs the ramdisk, builds its kernel and joins them to one file that firmware can boot.
//!
//! The story is [`cli::run`]: read the specification, collect the files into a [`tree::Tree`], write
//! it as a [`cpio`] archive, compress it, make the [`kernel`] ready, put the ramdisk into it, and
//! write the results. Nothing here needs root.

pub mod archive_cache;
pub mod bzimage;
pub mod certificates;
pub mod cli;
pub mod cmdline;
pub mod compress;
pub mod cpio;
pub mod elf;
pub mod flavour;
pub mod host_key;
pub mod image;
pub mod inspect;
pub mod kept;
pub mod kernel;
pub mod keys;
pub mod output;
pub mod packages;
pub mod sizes;
pub mod spec;
pub mod tree;
