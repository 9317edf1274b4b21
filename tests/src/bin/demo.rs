//! Shows a machine that boots through a real iPXE ROM into stage2, asks a boot server over HTTPS,
//! fetches and verifies a real Debian, and enters it; and says how long everything took.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Parser;
use vmtest::chain::{Chain, Stage3};
use vmtest::console::Console;
use vmtest::image::Image;
use vmtest::server::BootServer;
use vmtest::timeline::Timeline;
use vmtest::vm::Vm;

/// Watch a machine boot: its card's iPXE, stage2, and a Debian that reports to the boot server.
#[derive(Parser)]
#[command(after_help = "\
Everything runs in QEMU, without KVM unless STAGE2_TEST_ACCEL=kvm says so. The kernel of stage2 and
Debian's root are built once and kept in $STAGE2_CACHE (~/.cache/stage2).")]
struct Options {
    /// The agent to be packed into stage2: a static program
    #[arg(long, value_name = "FILE")]
    agent: PathBuf,
    /// The network card, by QEMU's name: virtio-net-pci, e1000, e1000e, rtl8139
    #[arg(long, value_name = "MODEL", default_value = "virtio-net-pci")]
    nic: String,
    /// The machine's memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u32,
}

/// From power on to a Debian that has reported; emulation on a busy machine is slow.
const LIMIT: Duration = Duration::from_secs(600);

/// How long nothing may be said before we look at the boot server again.
const GLANCE: Duration = Duration::from_millis(200);

/// Where one stage ends and the next begins, in this order.
const BANNERS: &[(&str, &str)] = &[
    ("SeaBIOS", "firmware: SeaBIOS"),
    ("iPXE (http", "stage1: iPXE in the network card's ROM"),
    ("Linux version", "stage2: our kernel and agent"),
    ("Linux version", "stage3: Debian"),
];

/// How a kernel's very first lines begin.
const KERNEL_LINE: &str = "[    0.000000]";

fn main() -> ExitCode {
    match demo(&Options::parse()) {
        Ok(up_after) => {
            println!("demo: stage3 is up after {:.1} s", up_after.as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let text = format!("{error:#}");
            let (reason, more) = text.split_once('\n').unwrap_or((&text, ""));
            println!("{more}\ndemo: failed: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn demo(options: &Options) -> anyhow::Result<Duration> {
    banner("the image of stage2");
    let image = Arc::new(Image::pack(&options.agent)?);
    banner("a Debian for stage3");
    let chain = Chain::prepare(image, Stage3::Debian, &|line| println!("{line}"))?;
    println!("boot server: {} and {}", chain.server.http_url("/"), chain.server.https_url("/"));
    banner(&format!("power on: {} MiB, {}", options.memory, options.nic));
    let mut vm = Vm::start(&chain.machine(&options.nic, options.memory))?;
    let up_after = watch(&mut vm, &chain.server);
    banner("how long it took");
    print!("{}", Timeline::of(&vm, &chain.server));
    up_after
}

/// Shows the console until stage3 has reported and asks for a login.
fn watch(vm: &mut Vm, server: &BootServer) -> anyhow::Result<Duration> {
    let deadline = Instant::now() + LIMIT;
    let mut screen = Screen::default();
    while Instant::now() < deadline {
        match vm.console.next_line(GLANCE) {
            Some(found) => screen.show(&found.line),
            None if vm.console.is_closed() => bail!("the machine has ended before stage3 was up"),
            None => {}
        }
        if let Some(report) = server.reports().iter().find(|report| report.message != "success") {
            bail!("the boot server was told: {}", report.message);
        }
        if let Some(at) = login_prompt(&vm.console)
            && !server.reports().is_empty()
        {
            println!("login:");
            println!("boot server: reported {:?}", "success");
            return Ok(at.max(report_time(vm, server)));
        }
    }
    bail!("stage3 is not up after {} s", LIMIT.as_secs())
}

fn login_prompt(console: &Console) -> Option<Duration> {
    let found = console.from_start().expect_within(Duration::ZERO, " login:").ok()?;
    Some(found.at)
}

fn report_time(vm: &Vm, server: &BootServer) -> Duration {
    let offset = vm.started().saturating_duration_since(server.log().started());
    let requests = server.log().requests();
    let report = requests.iter().rfind(|request| request.path.ends_with("/report"));
    report.map_or(Duration::ZERO, |report| report.at.saturating_sub(offset))
}

/// What was shown last: banners come once, and empty lines one at a time.
#[derive(Default)]
struct Screen {
    banners_shown: usize,
    last_was_empty: bool,
}

impl Screen {
    fn show(&mut self, line: &str) {
        let mut line = line.trim_end();
        if let Some((sign, title)) = BANNERS.get(self.banners_shown)
            && let Some(position) = line.find(sign)
        {
            // A kernel's first line may follow what the firmware has left unfinished.
            let begin = line[..position].find(KERNEL_LINE).unwrap_or(0);
            if begin > 0 {
                println!("{}", &line[..begin]);
            }
            banner(title);
            self.banners_shown += 1;
            line = &line[begin..];
        }
        if !(line.is_empty() && self.last_was_empty) {
            println!("{line}");
        }
        self.last_was_empty = line.is_empty();
    }
}

fn banner(title: &str) {
    println!("── {title} {}", "─".repeat(76_usize.saturating_sub(title.chars().count())));
}
