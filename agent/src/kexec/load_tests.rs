use super::*;
use crate::bzimage::tests::kernel_head;
use crate::sys::{Call, FakeSystem};

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("vmlinuz"), kernel_head()).unwrap();
        fs::write(directory.path().join("initramfs"), "070701").unwrap();
        fs::write(directory.path().join("empty"), "").unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Loads with a kernel that answers `errno`; paths are shortened to names.
    fn load(
        &self,
        kernel: &str,
        initramfs: Option<&str>,
        cmdline: &str,
        errno: i32,
    ) -> (Vec<Call>, Result<(), String>) {
        let (kernel, initramfs) = (self.path(kernel), initramfs.map(|name| self.path(name)));
        let load = loaded(initramfs.is_some(), cmdline.trim_end());
        let refusals = if errno == 0 { vec![] } else { vec![(load, errno)] };
        let mut system = FakeSystem { refusals, ..FakeSystem::default() };
        let initramfs = initramfs.as_deref();
        let next = Next { kernel: &kernel, initramfs, cmdline, downloads: None, luggage: None };
        let result = super::load(&mut system, next);
        let directory = format!("{}/", self.directory.path().display());
        let text = |error: Error| Chain(&error).to_string().replace(&directory, "");
        (system.calls, result.map(drop).map_err(text))
    }
}

fn loaded(initramfs: bool, cmdline: &str) -> Call {
    Call::KexecLoad { initramfs, cmdline: cmdline.to_owned() }
}

#[test]
fn a_kernel_is_loaded_with_its_initramfs_and_command_line() {
    let files = Files::new();
    let longest = "x".repeat(2016);
    for (initramfs, cmdline, expected) in [
        (Some("initramfs"), "root=/dev/ram0 a=\"x y\"", "root=/dev/ram0 a=\"x y\""),
        (None, "", ""),
        (None, "a\r\n\n", "a"),
        (None, longest.as_str(), longest.as_str()),
    ] {
        assert_eq!(
            files.load("vmlinuz", initramfs, cmdline, 0),
            (vec![Call::KexecUnload, loaded(initramfs.is_some(), expected)], Ok(()))
        );
    }
}

#[test]
fn what_cannot_work_is_refused_before_the_kernel_is_asked() {
    let files = Files::new();
    let too_long = "x".repeat(2017);
    for (kernel, initramfs, cmdline, expected) in [
        ("none", None, "", "cannot read none: No such file or directory (os error 2)"),
        (
            "initramfs",
            None,
            "",
            "cannot load initramfs: expected an x86 kernel (bzImage), got a cpio archive (an initramfs?)",
        ),
        (
            "vmlinuz",
            None,
            too_long.as_str(),
            "expected a command line of at most 2016 bytes for this kernel, got 2017",
        ),
        ("vmlinuz", None, "a\0b", "expected a command line without zero bytes"),
        ("vmlinuz", Some("none"), "", "cannot read none: No such file or directory (os error 2)"),
        ("vmlinuz", Some("empty"), "", "cannot load empty: the file is empty"),
    ] {
        let (calls, result) = files.load(kernel, initramfs, cmdline, 0);
        assert_eq!(result, Err(expected.to_owned()));
        assert!(!calls.iter().any(|call| matches!(call, Call::KexecLoad { .. })), "{expected}");
    }
}

#[test]
fn a_refusal_of_the_kernel_is_explained() {
    let files = Files::new();
    for (errno, expected) in [
        (
            Errno::EBUSY,
            "cannot load vmlinuz, another kernel is being loaded or entered at this moment: \
             Device or resource busy (os error 16)",
        ),
        (
            Errno::ETXTBSY,
            "cannot load vmlinuz, something still has one of the files open for writing: \
             Text file busy (os error 26)",
        ),
        (Errno::EIO, "cannot load vmlinuz: Input/output error (os error 5)"),
    ] {
        let (_, result) = files.load("vmlinuz", None, "", errno as i32);
        assert_eq!(result, Err(expected.to_owned()));
    }
}

#[test]
fn not_permitted_has_three_causes_and_the_right_one_is_named() {
    for (load_disabled, lockdown, expected) in [
        ("0\n", "[none] integrity confidentiality\n", ", only root may do that"),
        ("0\n", "", ", only root may do that"),
        (
            "0\n",
            "none [integrity] confidentiality\n",
            ", the running kernel is locked down (secure boot?) and takes only signed kernels",
        ),
        (
            "1\n",
            "",
            ", loading is switched off until the next restart (kernel.kexec_load_disabled)",
        ),
    ] {
        assert_eq!(why_not_permitted(load_disabled, lockdown), expected);
    }
}

#[test]
fn an_earlier_kernel_is_forgotten_before_memory_is_counted() {
    let (calls, _) = Files::new().load("vmlinuz", Some("empty"), "", 0);
    assert_eq!(calls, [Call::KexecUnload]);
}

#[test]
fn luggage_goes_into_a_download_and_into_nothing_else() {
    let files = Files::new();
    let (kernel, initramfs) = (files.path("vmlinuz"), files.path("initramfs"));
    for (downloads, luggage, expected) in [
        (Some(files.directory.path()), &b"more"[..], &b"\xfd7zXZ\0\0\0more"[..]),
        (None, b"more", b"\xfd7zXZ\0"),
    ] {
        fs::write(&initramfs, b"\xfd7zXZ\0").unwrap();
        let next = Next {
            kernel: &kernel,
            initramfs: Some(&initramfs),
            cmdline: "",
            downloads,
            luggage: Some(luggage),
        };
        super::load(&mut FakeSystem::default(), next).unwrap();
        assert_eq!(fs::read(&initramfs).unwrap(), expected);
    }
}

#[test]
fn luggage_is_left_behind_where_memory_is_short() {
    let files = Files::new();
    let (kernel, initramfs) = (files.path("vmlinuz"), files.path("initramfs"));
    fs::write(&initramfs, b"\xfd7zXZ\0").unwrap();
    // No machine holds that much; the file itself is one large hole.
    File::options().write(true).open(&kernel).unwrap().set_len(1 << 40).unwrap();
    let next = Next {
        kernel: &kernel,
        initramfs: Some(&initramfs),
        cmdline: "",
        downloads: Some(files.directory.path()),
        luggage: Some(b"more"),
    };
    let result = super::load(&mut FakeSystem::default(), next);
    assert!(matches!(result, Err(Error::Memory { .. })));
    assert_eq!(fs::read(&initramfs).unwrap(), b"\xfd7zXZ\0");
}
