//! What an ELF program needs before it can run.

pub mod closure;

use std::io;
use std::path::{Path, PathBuf};

use object::read::elf::{DynamicTable, ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{Endianness, elf};

/// Why a program cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a 64-bit ELF file.
    #[error("expected a 64-bit ELF program")]
    NotElf(#[source] object::Error),
    /// Another processor's program.
    #[error("expected a program for x86-64, got ELF machine {0}")]
    Machine(u16),
    /// A dynamic program: its interpreter is not in the ramdisk.
    #[error(
        "expected a static program, got one that needs {interpreter}; build it with \
         `-C target-feature=+crt-static` or for a musl target"
    )]
    Dynamic {
        /// The program that loads its libraries.
        interpreter: String,
    },
    /// A library is on none of the ways that `ld.so(8)` goes.
    #[error("cannot find {library}, which {} needs", of.display())]
    Missing {
        /// Its name.
        library: String,
        /// Who needs it.
        of: PathBuf,
    },
}

/// Checks that a program runs without an interpreter or libraries.
///
/// # Errors
/// It does not, or is no program for x86-64.
pub fn check_static(program: &[u8]) -> Result<(), Error> {
    match Elf::parse(program)?.interpreter()? {
        Some(interpreter) => Err(Error::Dynamic { interpreter }),
        None => Ok(()),
    }
}

/// A program or library for x86-64.
struct Elf<'a> {
    file: ElfFile64<'a, Endianness>,
    bytes: &'a [u8],
}

impl<'a> Elf<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let file = ElfFile64::<Endianness>::parse(bytes).map_err(Error::NotElf)?;
        let machine = file.elf_header().e_machine(file.endian());
        if machine != elf::EM_X86_64 {
            return Err(Error::Machine(machine.0));
        }
        Ok(Self { file, bytes })
    }

    fn interpreter(&self) -> Result<Option<String>, Error> {
        let endian = self.file.endian();
        for header in self.file.elf_program_headers() {
            if let Some(path) = header.interpreter(endian, self.bytes).map_err(Error::NotElf)? {
                return Ok(Some(String::from_utf8_lossy(path).into_owned()));
            }
        }
        Ok(None)
    }

    /// The libraries that it names.
    fn needed(&self) -> Result<Vec<String>, Error> {
        self.dynamic_strings(elf::DT_NEEDED)
    }

    /// Where the object at `path` wants its libraries looked for, before the usual directories:
    /// its RUNPATH, or else its own RPATH and its program's.
    fn search_path(&self, path: &Path, program_rpath: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
        let runpath = self.directories(elf::DT_RUNPATH, path)?;
        if !runpath.is_empty() {
            return Ok(runpath);
        }
        let mut rpath = self.rpath(path)?;
        rpath.extend_from_slice(program_rpath);
        Ok(rpath)
    }

    /// An RPATH; beside a RUNPATH it has no meaning.
    fn rpath(&self, path: &Path) -> Result<Vec<PathBuf>, Error> {
        if self.dynamic_strings(elf::DT_RUNPATH)?.is_empty() {
            self.directories(elf::DT_RPATH, path)
        } else {
            Ok(Vec::new())
        }
    }

    fn directories(&self, tag: elf::DynamicTag, path: &Path) -> Result<Vec<PathBuf>, Error> {
        let origin = path.parent().unwrap_or(Path::new("/")).display().to_string();
        let expand = |directory: &str| {
            directory.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin).into()
        };
        let lists = self.dynamic_strings(tag)?;
        let directories = lists.iter().flat_map(|list| list.split(':'));
        Ok(directories.filter(|directory| !directory.is_empty()).map(expand).collect())
    }

    fn dynamic_strings(&self, tag: elf::DynamicTag) -> Result<Vec<String>, Error> {
        let table = self.dynamic_table()?;
        let strings = table.iter().filter(|entry| entry.tag == tag);
        strings
            .map(|entry| {
                let name = table.string(entry).map_err(Error::NotElf)?;
                Ok(String::from_utf8_lossy(name).into_owned())
            })
            .collect()
    }

    fn dynamic_table(&self) -> Result<DynamicTable<'a, elf::FileHeader64<Endianness>>, Error> {
        let sections = self.file.elf_section_table();
        sections.dynamic_table(self.file.endian(), self.bytes).map_err(Error::NotElf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_named_with_its_interpreter() {
        let this_test = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let error = check_static(&this_test).unwrap_err();
        assert!(
            matches!(&error, Error::Dynamic { interpreter } if interpreter.contains("ld-linux"))
        );
    }

    #[test]
    fn busybox_static_needs_nothing() {
        check_static(&std::fs::read("/bin/busybox").unwrap()).unwrap();
    }

    #[test]
    fn a_script_is_no_program() {
        assert!(matches!(check_static(b"#!/bin/sh\n"), Err(Error::NotElf(_))));
    }
}
