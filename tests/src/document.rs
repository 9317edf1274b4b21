//! Boot documents and iPXE scripts of the shapes that M-Lab publishes for its machines, written
//! for the Debian that we boot: `stage1to2`, `stage2to3` and `stage3post`.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A file as a document names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Where it is; a template.
    pub url: String,
    /// Its digest in hexadecimal; M-Lab's own documents have none.
    pub sha256: Option<String>,
}

impl Artifact {
    /// An artifact whose digest is that of `file`.
    pub fn of_file(url: &str, file: &Path) -> anyhow::Result<Self> {
        let sha256 = sha256_of_file(file)?;
        Ok(Self { url: url.to_owned(), sha256: Some(sha256) })
    }

    /// An artifact whose digest is that of `bytes`.
    #[must_use]
    pub fn of_bytes(url: &str, bytes: &[u8]) -> Self {
        Self { url: url.to_owned(), sha256: Some(sha256(bytes)) }
    }

    fn spec(&self) -> Value {
        match &self.sha256 {
            Some(sha256) => json!({ "url": self.url, "sha256": sha256 }),
            None => json!({ "url": self.url }),
        }
    }
}

/// SHA-256 in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// SHA-256 of a file in hexadecimal.
pub fn sha256_of_file(file: &Path) -> anyhow::Result<String> {
    let context = || format!("cannot read {}", file.display());
    let mut hash = Hashing(Sha256::new());
    io::copy(&mut File::open(file).with_context(context)?, &mut hash).with_context(context)?;
    Ok(hexadecimal(&hash.0.finalize()))
}

struct Hashing(Sha256);

impl io::Write for Hashing {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.0.update(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What every stage hands to the next on the kernel command line.
const HANDED_ON: &[&str] = &[
    "epoxy.ip",
    "epoxy.ipv4",
    "epoxy.ipv6",
    "epoxy.interface",
    "epoxy.hostname",
    "epoxy.stage2",
    "epoxy.stage3",
    "epoxy.report",
    "epoxy.server",
    "epoxy.project",
    "epoxy.images_version",
];

const SEARCH_PATH: &str = "/bin:/usr/bin:/usr/local/bin";

/// How the initramfs is given to kexec; M-Lab has used both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitrdForm {
    /// `--initrd=FILE`, as in `stage1to2.json`.
    OneWord,
    /// `--initrd FILE`, as in `stage2to3.json`.
    TwoWords,
}

/// A document that kexecs `kernel` with `initramfs`, which then finds `cmdline` at the end of its
/// command line.
#[must_use]
pub fn kexec(kernel: &Artifact, initramfs: &Artifact, cmdline: &str, form: InitrdForm) -> String {
    let mut command =
        vec!["/sbin/kexec", "--force", "--command-line={{.vars.kargs}} {{.vars.cmdline}}"];
    command.extend(match form {
        InitrdForm::OneWord => &["--initrd={{.files.initram.name}}"][..],
        InitrdForm::TwoWords => &["--initrd", "{{.files.initram.name}}"],
    });
    command.push("{{.files.vmlinuz.name}}");
    let document = json!({
        "v1": {
            "env": { "PATH": SEARCH_PATH },
            "files": { "vmlinuz": kernel.spec(), "initram": initramfs.spec() },
            "vars": { "kargs": handed_on(), "cmdline": cmdline },
            "commands": ["# Run kexec using the downloaded initram and vmlinuz files.", command],
        }
    });
    format!("{document:#}\n")
}

/// The same for a `kernel` that has its initramfs inside.
#[must_use]
pub fn kexec_into(kernel: &Artifact, cmdline: &str) -> String {
    let document = json!({
        "v1": {
            "files": { "vmlinuz": kernel.spec() },
            "vars": { "kargs": handed_on(), "cmdline": cmdline },
            "commands": [[
                "/sbin/kexec",
                "--force",
                "--command-line={{.vars.kargs}} {{.vars.cmdline}}",
                "{{.files.vmlinuz.name}}"
            ]],
        }
    });
    format!("{document:#}\n")
}

fn handed_on() -> Vec<String> {
    HANDED_ON.iter().map(|name| format!("{name}={{{{kargs `{name}`}}}}")).collect()
}

/// A document that downloads a program and runs it with what it wants to know, as stage3 does last.
#[must_use]
pub fn stage3post(program: &Artifact) -> String {
    let document = json!({
        "v1": {
            "env": { "PATH": SEARCH_PATH },
            "files": { "setup": program.spec() },
            "commands": [
                "# Make the program executable, then run it with this machine's configuration.",
                "/usr/bin/chmod 755 {{.files.setup.name}}",
                "{{.files.setup.name}} {{kargs `epoxy.project`}} {{kargs `epoxy.ip`}} \
                 {{kargs `epoxy.server`}}",
            ],
        }
    });
    format!("{document:#}\n")
}

/// A document that fetches `files`, each by its name, and then runs `commands`.
#[must_use]
pub fn commands(files: &[(&str, &Artifact)], commands: &[&[&str]]) -> String {
    let files: Value = files
        .iter()
        .map(|(name, artifact)| ((*name).to_owned(), artifact.spec()))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let document = json!({
        "v1": { "env": { "PATH": SEARCH_PATH }, "files": files, "commands": commands }
    });
    format!("{document:#}\n")
}

/// A document that only names the next one.
#[must_use]
pub fn chain(url: &str) -> String {
    format!("{:#}\n", json!({ "v1": { "chain": url } }))
}

/// The script that a card's ROM carries: goes on to this host's `stage1.ipxe`. M-Lab's posts what it
/// knows of the machine with `params`, which Debian's iPXE is built without.
#[must_use]
pub fn rom_script(stage1_url: &str) -> String {
    format!("#!ipxe\nisset ${{ip}} || dhcp\nchain {stage1_url}\n")
}

/// The script that iPXE chains to after `stage1.ipxe`: loads stage2 from `kernel_url` and boots it
/// with this machine's network settings and the stages' URLs.
#[must_use]
pub fn stage1to2_ipxe(kernel_url: &str, project: &str, cmdline: &str) -> String {
    format!(
        "#!ipxe\n\
         set vmlinuz_url {kernel_url}\n\
         echo Starting stage1to2 script\n\
         echo -- Downloading stage2 image from ${{vmlinuz_url}}\n\
         set retry_count:int32 1\n\
         goto firstfetch\n\
         :loop\n\
         \x20 inc retry_count 1\n\
         \x20 echo Failed. Retrying after ${{retry_count}} seconds\n\
         \x20 sleep ${{retry_count}}\n\
         :firstfetch\n\
         \x20 kernel --name vmlinuz ${{vmlinuz_url}} || goto loop\n\
         imgstat\n\
         set network ${{ip}}::${{gateway}}:${{netmask}}:${{hostname}}:eth0:off:${{dns}}:8.8.4.4\n\
         echo -- Booting stage2: vmlinuz ip=${{network}}\n\
         set kargs net.ifnames=0 autoconf=0\n\
         set kargs ${{kargs}} epoxy.ip=${{network}}\n\
         set kargs ${{kargs}} epoxy.ipv6=\n\
         set kargs ${{kargs}} epoxy.interface=eth0\n\
         set kargs ${{kargs}} epoxy.stage2=${{stage2_url}}\n\
         set kargs ${{kargs}} epoxy.stage3=${{stage3_url}}\n\
         set kargs ${{kargs}} epoxy.report=${{report_url}}\n\
         set kargs ${{kargs}} epoxy.project={project}\n\
         set kargs ${{kargs}} epoxy.images_version=${{images_version}}\n\
         set kargs ${{kargs}} {cmdline}\n\
         boot vmlinuz ${{kargs}} || shell\n"
    )
}
