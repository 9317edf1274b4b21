//! What a specification puts into the ramdisk.
//!
//! On entry the specification is read; on return every file it names was read and checked. The
//! agent is one program under four names, and every command of busybox is a link to busybox.

mod dynamic;
mod flavour;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::dynamic::Libraries;
use crate::compress::{self, Compression};
use crate::elf;
use crate::flavour::Flavour;
use crate::host_key::{self, HostKey};
use crate::kernel::cache::Cache;
use crate::packages::Packages;
use crate::sizes::Part;
use crate::spec::{FileSpec, ImageSpec};
use crate::tree::{self, DeviceKind, Node, Tree};
use crate::{archive_cache, certificates, cpio, keys};

/// Where Debian's `ca-certificates` keeps what the host trusts.
pub const HOST_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n";
const GROUP: &str = "root:x:0:\n";
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

/// Directories that the agent mounts on or writes to, and their modes.
const DIRECTORIES: &[(&str, u32)] = &[
    ("/dev", 0o755),
    ("/etc", 0o755),
    ("/proc", 0o555),
    ("/root", 0o700),
    ("/root/.ssh", 0o700),
    ("/run", 0o755),
    ("/sys", 0o555),
    ("/tmp", 0o1777),
    ("/var", 0o755),
];

/// PID 1 has these before it has mounted anything: path, mode, major and minor number.
const DEVICES: &[(&str, u32, (u32, u32))] =
    &[("/dev/console", 0o600, (5, 1)), ("/dev/kmsg", 0o600, (1, 11)), ("/dev/null", 0o666, (1, 3))];

/// The agent's other names.
const AGENT_LINKS: &[&str] =
    &["/sbin/kexec", "/sbin/send-backup", "/usr/bin/epoxy_client", "/usr/bin/stage2"];

/// Every login shows what the machine is doing, unless whoever started the shell has shown it.
const PROFILE: &str = "\
# Read by every login shell.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
[ -t 1 ] && [ -z \"$STAGE2_GREETED\" ] && stage2
export STAGE2_GREETED=yes
PS1='\\h:\\w# '
";

/// Why there is no ramdisk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that the specification names cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program cannot run in the ramdisk.
    #[error("cannot pack {} as {target}", path.display())]
    Program {
        /// The program on the build host.
        path: PathBuf,
        /// Its path in the image.
        target: &'static str,
        /// Why.
        source: elf::Error,
    },
    /// It is unknown what a dynamic program needs.
    #[error("cannot tell what {} needs", program.display())]
    Dependencies {
        /// The program on the build host.
        program: PathBuf,
        /// Why.
        source: elf::Error,
    },
    /// No shell to pack.
    #[error("cannot find busybox at {}: run `apt-get install busybox-static`, or set busybox.path", .0.display())]
    NoBusybox(PathBuf),
    /// The host has no certificates to take.
    #[error(
        "cannot find {HOST_CERTIFICATES}: run `apt-get install ca-certificates`, or name files in \
         ca_certificates"
    )]
    NoHostCertificates,
    /// Authorized keys are wrong.
    #[error(transparent)]
    Keys(#[from] keys::Error),
    /// The host key is wrong.
    #[error(transparent)]
    HostKey(#[from] host_key::Error),
    /// CA certificates are wrong.
    #[error(transparent)]
    Certificates(#[from] certificates::Error),
    /// A path of the specification is wrong.
    #[error(transparent)]
    Tree(#[from] tree::Error),
    /// The archive cannot be written.
    #[error(transparent)]
    Cpio(#[from] cpio::Error),
    /// The archive cannot be compressed.
    #[error(transparent)]
    Compress(#[from] compress::Error),
    /// `/etc/stage2` cannot be written.
    #[error("cannot write {0} as JSON")]
    Json(&'static str, #[source] serde_json::Error),
}

/// `/etc/stage2/build.json`.
#[derive(Debug, Serialize)]
struct Build<'a> {
    version: &'a str,
    source_date_epoch: u32,
}

/// A ramdisk and what the operator should know about it.
#[derive(Debug)]
pub struct Image {
    /// All files.
    pub tree: Tree,
    /// The agent's bytes.
    pub agent: Vec<u8>,
    /// The flasher's bytes, if it is in the image.
    pub flasher: Option<Vec<u8>>,
    /// Lines such as that nobody can log in.
    pub notes: Vec<String>,
    /// What the flavours brought.
    pub parts: Vec<Part>,
    /// Paths of the libraries that are this host's.
    host_libraries: BTreeSet<String>,
}

impl Image {
    /// Collects and checks all files.
    ///
    /// # Errors
    /// A file is missing or wrong; the first one is named.
    pub fn collect(spec: &ImageSpec, agent: &Path, date: u32) -> Result<Self, Error> {
        let mut tree = skeleton()?;
        let mut notes = Vec::new();
        let agent = static_program(agent, "/init")?;
        add_agent(&mut tree, &agent)?;
        add_busybox(&mut tree, spec)?;
        add_keys(&mut tree, spec, &mut notes)?;
        add_host_key(&mut tree, spec, &mut notes)?;
        add_certificates(&mut tree, spec, &mut notes)?;
        add_settings(&mut tree, spec, date)?;
        let mut libraries = Libraries::of_host();
        let flasher = dynamic::add_all(&mut tree, spec, &mut libraries)?;
        let host_libraries = libraries.into_brought();
        spec.files.iter().try_for_each(|file| add_file(&mut tree, file))?;
        for link in &spec.symlinks {
            tree.symlink(&link.link, &link.target)?;
        }
        Ok(Self { tree, agent, flasher, notes, parts: Vec::new(), host_libraries })
    }

    /// Adds a flavour from its unpacked packages.
    ///
    /// # Errors
    /// A program or a library is not in the packages, or its path is taken.
    pub fn add_flavour(&mut self, flavour: Flavour, packages: &Packages) -> Result<(), Error> {
        let ingredients = flavour.ingredients();
        let Self { tree, host_libraries, .. } = self;
        self.parts.push(flavour::add(tree, ingredients, &packages.root, host_libraries)?);
        let versions = packages.versions.join(", ");
        self.notes.push(format!("flavour {}: {versions}", ingredients.name));
        Ok(())
    }

    /// Archives and compresses the tree; large files go into an archive of their own, whose
    /// compressed form the cache keeps.
    ///
    /// # Errors
    /// A file of 4 GiB or more.
    pub fn initramfs(
        &self,
        compression: Compression,
        date: u32,
        cache: &Cache,
    ) -> Result<Vec<u8>, Error> {
        let (small, large) = self.tree.split(archive_cache::LARGE_FILE_BYTES);
        let mut initramfs = compression.compress(&cpio::archive(&small, date)?)?;
        if large.iter().next().is_some() {
            let archive = cpio::archive(&large, date)?;
            initramfs.extend(archive_cache::compressed(compression, &archive, cache)?);
        }
        Ok(initramfs)
    }
}

fn skeleton() -> Result<Tree, tree::Error> {
    let mut tree = Tree::default();
    for (path, mode) in DIRECTORIES {
        tree.directory(path, *mode)?;
    }
    for (path, mode, number) in DEVICES {
        let kind = DeviceKind::Character;
        tree.add(path, Node::Device { kind, mode: *mode, number: *number })?;
    }
    tree.file("/etc/passwd", 0o644, PASSWD)?;
    tree.file("/etc/group", 0o644, GROUP)?;
    tree.file("/etc/hosts", 0o644, HOSTS)?;
    tree.file("/etc/profile", 0o644, PROFILE)?;
    Ok(tree)
}

fn add_agent(tree: &mut Tree, agent: &[u8]) -> Result<(), tree::Error> {
    tree.file("/init", 0o755, agent)?;
    AGENT_LINKS.iter().try_for_each(|link| tree.symlink(link, "/init"))
}

fn add_busybox(tree: &mut Tree, spec: &ImageSpec) -> Result<(), Error> {
    let path = &spec.busybox.path;
    if !path.is_file() {
        return Err(Error::NoBusybox(path.clone()));
    }
    tree.file("/bin/busybox", 0o755, static_program(path, "/bin/busybox")?)?;
    for applet in &spec.busybox.applets {
        tree.symlink(&format!("/bin/{applet}"), "busybox")?;
    }
    Ok(())
}

fn add_keys(tree: &mut Tree, spec: &ImageSpec, notes: &mut Vec<String>) -> Result<(), Error> {
    if spec.authorized_keys.is_empty() {
        notes.push(
            "warning: no authorized keys are packed: nobody can log in to rescue over ssh"
                .to_owned(),
        );
        return Ok(());
    }
    let keys = keys::read(&spec.authorized_keys)?;
    tree.file("/root/.ssh/authorized_keys", 0o600, keys)?;
    Ok(())
}

fn add_host_key(tree: &mut Tree, spec: &ImageSpec, notes: &mut Vec<String>) -> Result<(), Error> {
    let Some(key) = HostKey::read(&spec.ssh)? else { return Ok(()) };
    notes.push(
        "warning: a host key is packed: whoever can read the image can pose as its machines"
            .to_owned(),
    );
    tree.file("/etc/stage2/ssh_host_ed25519_key", 0o600, key.private)?;
    if let Some(certificate) = key.certificate {
        tree.file("/etc/stage2/ssh_host_ed25519_key-cert.pub", 0o644, certificate)?;
    }
    Ok(())
}

fn add_certificates(
    tree: &mut Tree,
    spec: &ImageSpec,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    let host = [PathBuf::from(HOST_CERTIFICATES)];
    let is_host = spec.ca_certificates.is_empty();
    if is_host && !host[0].is_file() {
        return Err(Error::NoHostCertificates);
    }
    let pem = certificates::read(if is_host { &host } else { &spec.ca_certificates })?;
    let count = certificates::count(&pem);
    notes.push(match is_host {
        true => format!("trusting this host's {count} CA certificates, as none are named"),
        false => format!("trusting {count} CA certificates"),
    });
    tree.file("/etc/stage2/roots.pem", 0o644, pem)?;
    Ok(())
}

fn add_settings(tree: &mut Tree, spec: &ImageSpec, date: u32) -> Result<(), Error> {
    let build = Build { version: env!("CARGO_PKG_VERSION"), source_date_epoch: date };
    add_json(tree, "/etc/stage2/policy.json", &spec.policy)?;
    add_json(tree, "/etc/stage2/build.json", &build)
}

fn add_json(tree: &mut Tree, path: &'static str, value: &impl Serialize) -> Result<(), Error> {
    let mut text = serde_json::to_string(value).map_err(|source| Error::Json(path, source))?;
    text.push('\n');
    tree.file(path, 0o644, text)?;
    Ok(())
}

fn add_file(tree: &mut Tree, file: &FileSpec) -> Result<(), Error> {
    let contents = read(&file.source)?;
    Ok(tree.file(&file.target, file.mode.0, contents)?)
}

fn static_program(path: &Path, target: &'static str) -> Result<Vec<u8>, Error> {
    let program = read(path)?;
    elf::check_static(&program).map_err(|source| Error::Program {
        path: path.to_owned(),
        target,
        source,
    })?;
    Ok(program)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect;

    /// Any static program will do as the agent.
    const AGENT: &str = "/bin/busybox";

    fn spec_with_ca(directory: &Path) -> ImageSpec {
        let certificate = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
        let ca = directory.join("ca.pem");
        fs::write(&ca, certificate.cert.pem()).unwrap();
        ImageSpec { ca_certificates: vec![ca], ..ImageSpec::default() }
    }

    fn contents<'a>(image: &'a Image, path: &str) -> &'a [u8] {
        match image.tree.get(path) {
            Some(Node::File { contents, .. }) => contents,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn the_agent_has_its_four_names_and_settings() {
        let directory = tempfile::tempdir().unwrap();
        let image = Image::collect(&spec_with_ca(directory.path()), Path::new(AGENT), 7).unwrap();
        let link = Node::Symlink { target: "/init".to_owned() };
        assert_eq!(image.tree.get("/sbin/kexec"), Some(&link));
        assert_eq!(image.tree.get("/usr/bin/epoxy_client"), Some(&link));
        assert_eq!(image.tree.get("/usr/bin/stage2"), Some(&link));
        assert_eq!(contents(&image, "/init"), fs::read(AGENT).unwrap());
        assert_eq!(
            contents(&image, "/etc/stage2/policy.json"),
            b"{\"plain_http_documents\":false,\"console_shell\":false}\n"
        );
        let build =
            format!("{{\"version\":\"{}\",\"source_date_epoch\":7}}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(contents(&image, "/etc/stage2/build.json"), build.as_bytes());
        assert_eq!(
            image.notes,
            [
                "warning: no authorized keys are packed: nobody can log in to rescue over ssh",
                "trusting 1 CA certificates"
            ]
        );
    }

    #[test]
    fn keys_are_readable_by_root_only() {
        let directory = tempfile::tempdir().unwrap();
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGXZyGGhsdzJcS8Ctrm3VTfYCZ5J7zOOLGzCcBXwKQEg a\n";
        let path = directory.path().join("admin.pub");
        fs::write(&path, key).unwrap();
        let spec = ImageSpec { authorized_keys: vec![path], ..spec_with_ca(directory.path()) };
        let image = Image::collect(&spec, Path::new(AGENT), 0).unwrap();
        let expected = Node::File { mode: 0o600, contents: key.into() };
        assert_eq!(image.tree.get("/root/.ssh/authorized_keys"), Some(&expected));
        assert_eq!(image.tree.get("/root/.ssh"), Some(&Node::Directory { mode: 0o700 }));
    }

    #[test]
    fn all_files_are_in_the_ramdisk_whatever_their_size() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path().join("cache"));
        let image = Image::collect(&spec_with_ca(directory.path()), Path::new(AGENT), 0).unwrap();
        for compression in Compression::ALL {
            let initramfs = image.initramfs(compression, 0, &cache).unwrap();
            let archives = inspect::archives(&initramfs).unwrap();
            let mut paths: Vec<String> = archives
                .iter()
                .flat_map(|archive| cpio::read::entries(&archive.cpio))
                .map(|entry| format!("/{}", entry.unwrap().name))
                .collect();
            paths.sort();
            assert_eq!(paths, image.tree.iter().map(|(path, _)| path).collect::<Vec<_>>());
            assert_eq!(
                initramfs,
                image.initramfs(compression, 0, &cache).unwrap(),
                "from the cache"
            );
        }
    }

    #[test]
    fn what_cannot_be_packed_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let spec = spec_with_ca(directory.path());
        let missing = directory.path().join("missing");
        let dynamic = std::env::current_exe().unwrap();
        let file = |target: &str| FileSpec {
            source: AGENT.into(),
            target: target.to_owned(),
            mode: crate::spec::Mode(0o644),
        };
        let with_file = |target: &str| ImageSpec { files: vec![file(target)], ..spec.clone() };
        for (spec, agent, expected) in [
            (spec.clone(), missing.as_path(), format!("cannot read {}", missing.display())),
            (spec.clone(), &dynamic, format!("cannot pack {} as /init", dynamic.display())),
            (with_file("/init"), AGENT.as_ref(), "cannot put two things at /init".to_owned()),
            (
                with_file("etc/motd"),
                AGENT.as_ref(),
                "expected an absolute path without `.` and `..`, got \"etc/motd\"".to_owned(),
            ),
        ] {
            let error = Image::collect(&spec, agent, 0).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
