//! Finds libflashrom with pkg-config, binds its header, and says which later functions it has.
//!
//! Debian's library says version "unknown", so a version is never asked for: what counts is
//! whether the header declares a function.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Functions that libflashrom got after 1.3.0, and the `cfg` that tells that they are there.
const LATER_FUNCTIONS: &[(&str, &str)] = &[
    ("flashrom_flash_probe_v2", "has_probe_v2"),
    ("flashrom_set_log_callback_v2", "has_log_callback_v2"),
    ("flashrom_set_progress_callback_v2", "has_progress_callback_v2"),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let library = pkg_config::Config::new()
        .statik(is_static())
        .probe("flashrom")
        .map_err(|error| format!("libflashrom is missing (Debian: libflashrom-dev): {error}"))?;
    if is_static() {
        check_static(&library.link_paths)?;
    }
    let header = header(&library.include_paths)?;
    let declared = fs::read_to_string(&header)?;
    for (function, name) in LATER_FUNCTIONS {
        println!("cargo::rustc-check-cfg=cfg({name})");
        if declared.contains(&format!("{function}(")) {
            println!("cargo::rustc-cfg={name}");
        }
    }
    bind(&library.include_paths)
}

/// A static program needs a static `flashrom.pc`, which Debian does not have.
fn is_static() -> bool {
    env::var("CARGO_CFG_TARGET_FEATURE")
        .is_ok_and(|features| features.split(',').any(|feature| feature == "crt-static"))
}

/// Without this the linker says only that it does not find the library.
fn check_static(link_paths: &[PathBuf]) -> Result<(), Box<dyn Error>> {
    let usual = ["/usr/lib/x86_64-linux-gnu", "/usr/lib", "/usr/local/lib"].map(Path::new);
    let mut directories = link_paths.iter().map(PathBuf::as_path).chain(usual);
    if directories.any(|directory| directory.join("libflashrom.a").exists()) {
        return Ok(());
    }
    Err("a static flasher (crt-static) needs libflashrom.a and a flashrom.pc that names what it \
         needs, which Debian does not have: build without crt-static, and pack the flasher with \
         its libraries (make image FLASHER=1)"
        .into())
}

fn header(include_paths: &[PathBuf]) -> Result<PathBuf, Box<dyn Error>> {
    include_paths
        .iter()
        .map(PathBuf::as_path)
        .chain([Path::new("/usr/include"), Path::new("/usr/local/include")])
        .map(|path| path.join("libflashrom.h"))
        .find(|header| header.exists())
        .ok_or_else(|| "libflashrom.h is missing (Debian: libflashrom-dev)".into())
}

fn bind(include_paths: &[PathBuf]) -> Result<(), Box<dyn Error>> {
    bindgen::Builder::default()
        .header_contents("wrapper.h", "#include <libflashrom.h>\n#include <stdio.h>\n")
        .clang_args(include_paths.iter().map(|path| format!("-I{}", path.display())))
        .allowlist_function("flashrom_.*|vsnprintf")
        .allowlist_type("flashrom_.*")
        // A code that C returns and the header does not list is undefined behaviour as a Rust enum.
        .default_enum_style(bindgen::EnumVariation::NewType {
            is_bitfield: false,
            is_global: false,
        })
        .prepend_enum_name(false)
        .size_t_is_usize(true)
        .layout_tests(false)
        .generate()?
        .write_to_file(PathBuf::from(env::var("OUT_DIR")?).join("bindings.rs"))?;
    Ok(())
}
