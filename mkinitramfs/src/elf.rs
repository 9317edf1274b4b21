//! What an ELF program needs before it can run.

use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{Endianness, elf};

/// Why a program cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
}

/// Checks that a program runs without an interpreter or libraries.
///
/// # Errors
/// It does not, or is no program for x86-64.
pub fn check_static(program: &[u8]) -> Result<(), Error> {
    let file = ElfFile64::<Endianness>::parse(program).map_err(Error::NotElf)?;
    let endian = file.endian();
    let machine = file.elf_header().e_machine.get(endian);
    if machine != elf::EM_X86_64 {
        return Err(Error::Machine(machine.0));
    }
    for header in file.elf_program_headers() {
        if let Ok(Some(interpreter)) = header.interpreter(endian, program) {
            let interpreter = String::from_utf8_lossy(interpreter).into_owned();
            return Err(Error::Dynamic { interpreter });
        }
    }
    Ok(())
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
