//! One operation on a chip, in a process of its own.
//!
//! The process gets a [`Request`] and bytes in the file that is its standard input, and says
//! [`Event`]s on its standard output, one JSON value per line, the last one being
//! [`Event::Answer`] or [`Event::Failed`]. What it has read from the chip replaces the content of
//! the input file. It dies with its parent: two processes never work on one chip.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::rc::Rc;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::chip::{Chip, ChipError, Region, WriteProtection};
use crate::flashrom::{Library, OpenChip, OpenProgrammer, ProbeError, Verdict};
use crate::observer::{BlockStep, Level, Observation, Observer};
use crate::programmer::Programmer;

/// The argument that makes the program such a process.
pub const ARGUMENT: &str = "chip-operation";

/// What to do, and to what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// The programmer to open.
    pub programmer: Programmer,
    /// The only chip to look for, where the operator named one.
    pub chip_name: Option<String>,
    /// The chip as it was identified before.
    pub chip: Option<Chip>,
    /// What to do.
    pub operation: Operation,
    /// What shall go wrong.
    #[cfg(feature = "dummy")]
    pub faults: Faults,
}

/// What to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Operation {
    /// Identify the chip.
    Probe,
    /// Ask for its protection.
    WriteProtection,
    /// Read regions.
    Read {
        /// Which.
        regions: Vec<Region>,
    },
    /// Tell the erase blocks. The input holds the chip's content.
    EraseBlocks,
    /// Write regions. The input holds the image and then the chip's content.
    Write {
        /// Which.
        regions: Vec<Region>,
        /// What may be erased for it.
        may_erase: Vec<Region>,
    },
}

impl Operation {
    /// What people call it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Probe => "probing",
            Self::WriteProtection => "asking for write protection",
            Self::Read { .. } => "reading",
            Self::EraseBlocks => "asking for erase blocks",
            Self::Write { .. } => "writing",
        }
    }
}

/// What an operation found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The chip.
    Probed(Chip),
    /// Its protection.
    Protection(WriteProtection),
    /// The input file holds the chip's content now.
    Read,
    /// Its erase blocks.
    EraseBlocks(Vec<Region>),
    /// Written and verified.
    Written,
}

/// What the process says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A step on an erase block.
    Block {
        /// The block.
        block: Region,
        /// The step.
        step: BlockStep,
    },
    /// A line of libflashrom's log.
    Said(String),
    /// Done.
    Answer(Answer),
    /// Not done.
    Failed(ChipError),
}

/// Faults on demand, counted in erase and program steps.
#[cfg(feature = "dummy")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// The machine loses power at this step.
    pub crash_at: Option<u32>,
    /// The chip fails at this step.
    pub fail_at: Option<u32>,
    /// Nobody stops the library: the control that shows what the guards are for.
    pub without_guards: bool,
}

/// Exit codes of a process that was ended from inside of the library.
const STOPPED: u8 = 77;
/// Exit code for a simulated loss of power.
#[cfg(feature = "dummy")]
pub const CRASHED: u8 = 88;

/// The process.
#[must_use]
pub fn run() -> ExitCode {
    match answer() {
        Ok(answer) => say(&Event::Answer(answer)),
        Err(error) => say(&Event::Failed(error)),
    }
    ExitCode::SUCCESS
}

fn answer() -> Result<Answer, ChipError> {
    let broken = |error: io::Error| ChipError::Process {
        operation: ARGUMENT.to_owned(),
        why: error.to_string(),
    };
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| broken(errno.into()))?;
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned().map_err(broken)?);
    let (request, bytes) = read_request(&mut input).map_err(broken)?;
    let seen = Rc::new(RefCell::new(Seen::default()));
    let library = Library::start(watcher(&request, Rc::clone(&seen)))?;
    let programmer = library.open(&request.programmer).map_err(|_| ChipError::Programmer {
        programmer: request.programmer.name().to_owned(),
        said: seen.borrow().last_words(),
    })?;
    let (mut chip, found) = find_chip(&programmer, &request, &seen)?;
    match &request.operation {
        Operation::Probe => Ok(Answer::Probed(found)),
        Operation::WriteProtection => chip.write_protection().map(Answer::Protection),
        Operation::Read { regions } => {
            chip.select(regions)?;
            let content = chip.read()?;
            replace(&mut input, &content).map_err(broken)?;
            Ok(Answer::Read)
        }
        Operation::EraseBlocks => erase_blocks(&mut chip, bytes, &seen),
        Operation::Write { regions, .. } => write(&mut chip, regions, bytes),
    }
}

/// A request is one line; the bytes that belong to it follow.
fn read_request(input: &mut File) -> io::Result<(Request, Vec<u8>)> {
    input.rewind()?;
    let mut reader = BufReader::new(input);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    Ok((serde_json::from_str(&line)?, bytes))
}

fn replace(file: &mut File, content: &[u8]) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(content)
}

fn say(event: &Event) {
    let Ok(line) = serde_json::to_string(event) else { return };
    let mut output = io::stdout().lock();
    // Who does not listen any more has gone, and this process goes with it.
    let _gone = writeln!(output, "{line}").and_then(|()| output.flush());
}

/// What the library's log has told so far.
#[derive(Debug, Default)]
struct Seen {
    chips: Vec<Chip>,
    blocks: Vec<Region>,
    lines: Vec<String>,
}

impl Seen {
    fn last_words(&self) -> String {
        let start = self.lines.len().saturating_sub(3);
        self.lines[start..].join(" / ")
    }
}

/// Watches the library: tells what it does, and stops it before it does too much.
fn watcher(
    request: &Request,
    seen: Rc<RefCell<Seen>>,
) -> impl FnMut(Level, &str) -> Verdict + 'static {
    let mut observer = Observer::default();
    #[cfg_attr(not(feature = "dummy"), expect(unused_mut, reason = "only faults are counted"))]
    let mut guard = Guard::new(request);
    move |level, text| {
        for observation in observer.message(level, text) {
            note(&observation, &mut seen.borrow_mut());
            if let Some(error) = guard.objection(&observation) {
                say(&Event::Failed(error));
                return Verdict::EndProcess(STOPPED);
            }
            #[cfg(feature = "dummy")]
            if let Some(verdict) = guard.injected(&observation) {
                return verdict;
            }
        }
        Verdict::GoOn
    }
}

fn note(observation: &Observation, seen: &mut Seen) {
    match observation {
        Observation::Found(chip) => seen.chips.push(chip.clone()),
        Observation::Block { block, step: BlockStep::Skip } => seen.blocks.push(*block),
        Observation::Block { block, step } => say(&Event::Block { block: *block, step: *step }),
        Observation::Line(_, line) => {
            say(&Event::Said(line.clone()));
            seen.lines.push(line.clone());
        }
        Observation::Escalation | Observation::ProtectionStands => {}
    }
}

/// What this operation may do to the chip.
struct Guard {
    may_erase: Vec<Region>,
    may_program: Vec<Region>,
    writes: bool,
    #[cfg(feature = "dummy")]
    faults: Faults,
    #[cfg(feature = "dummy")]
    steps: u32,
}

impl Guard {
    fn new(request: &Request) -> Self {
        let (may_program, may_erase) = match &request.operation {
            Operation::Write { regions, may_erase } => (regions.clone(), may_erase.clone()),
            _ => (Vec::new(), Vec::new()),
        };
        Self {
            may_erase,
            may_program,
            writes: matches!(request.operation, Operation::Write { .. }),
            #[cfg(feature = "dummy")]
            faults: request.faults,
            #[cfg(feature = "dummy")]
            steps: 0,
        }
    }

    /// The log speaks of an erase before it happens: the last moment to object.
    fn objection(&self, observation: &Observation) -> Option<ChipError> {
        #[cfg(feature = "dummy")]
        if self.faults.without_guards {
            return None;
        }
        match observation {
            Observation::Escalation if self.writes => Some(ChipError::EscalationStopped),
            Observation::ProtectionStands => Some(ChipError::ProtectionStands),
            Observation::Block { block, step: BlockStep::Erase } => {
                let allowed = self.may_erase.iter().any(|region| region.contains(block));
                (!allowed).then_some(ChipError::EscalationStopped)
            }
            Observation::Block { block, step: BlockStep::Program } => {
                let allowed = self.may_program.iter().any(|region| region.overlaps(block));
                (!allowed).then_some(ChipError::EscalationStopped)
            }
            _ => None,
        }
    }

    #[cfg(feature = "dummy")]
    fn injected(&mut self, observation: &Observation) -> Option<Verdict> {
        let Observation::Block { step: BlockStep::Erase | BlockStep::Program, .. } = observation
        else {
            return None;
        };
        self.steps += 1;
        if self.faults.crash_at == Some(self.steps) {
            return Some(Verdict::EndProcess(CRASHED));
        }
        if self.faults.fail_at == Some(self.steps) {
            say(&Event::Failed(ChipError::Write(crate::chip::WriteError::Corrupted)));
            return Some(Verdict::EndProcess(STOPPED));
        }
        None
    }
}

/// The chip, if it is the only one, and known, and the one that was identified before.
fn find_chip<'p>(
    programmer: &'p OpenProgrammer<'_>,
    request: &Request,
    seen: &RefCell<Seen>,
) -> Result<(OpenChip<'p>, Chip), ChipError> {
    let known = request.chip.as_ref().map(|chip| &chip.name).or(request.chip_name.as_ref());
    let chip = programmer.probe(known.map(String::as_str)).map_err(|error| match error {
        ProbeError::NoChip => ChipError::NoChip,
        ProbeError::SeveralChips => ChipError::SeveralChips {
            names: seen.borrow().chips.iter().map(|chip| chip.name.clone()).collect(),
        },
        ProbeError::Other(code) => ChipError::Probe(code),
    })?;
    let found = identity(&chip, seen.borrow().chips.last())?;
    match &request.chip {
        Some(expected) if *expected != found => {
            Err(ChipError::AnotherChip { expected: expected.clone(), found })
        }
        _ => Ok((chip, found)),
    }
}

/// A chip that answers but is not in the tables has a generic name and no size.
fn identity(chip: &OpenChip<'_>, logged: Option<&Chip>) -> Result<Chip, ChipError> {
    let found = Chip {
        size_bytes: chip.size_bytes(),
        ..logged.cloned().unwrap_or_else(|| Chip {
            vendor: "Unknown".to_owned(),
            name: String::new(),
            size_bytes: 0,
        })
    };
    let generic = ["Generic", "Unknown"].contains(&found.vendor.as_str());
    if found.size_bytes == 0 || generic || found.name.to_lowercase().starts_with("unknown") {
        return Err(ChipError::UnknownChip(found));
    }
    Ok(found)
}

/// Asks the library to write what the chip holds already: it walks over its erase blocks, says
/// each, and skips each.
fn erase_blocks(
    chip: &mut OpenChip<'_>,
    content: Vec<u8>,
    seen: &RefCell<Seen>,
) -> Result<Answer, ChipError> {
    let whole = Region { start: 0, end: chip.size_bytes() };
    chip.select(&[whole])?;
    let mut image = content.clone();
    chip.write(&mut image, &content).map_err(ChipError::Write)?;
    let blocks = std::mem::take(&mut seen.borrow_mut().blocks);
    let covered = crate::chip::joined(blocks.clone()) == [whole];
    if covered {
        Ok(Answer::EraseBlocks(blocks))
    } else {
        Err(ChipError::Unsupported("the library does not tell the chip's erase blocks".to_owned()))
    }
}

fn write(
    chip: &mut OpenChip<'_>,
    regions: &[Region],
    mut bytes: Vec<u8>,
) -> Result<Answer, ChipError> {
    let size = chip.size_bytes();
    if bytes.len() != 2 * size {
        return Err(ChipError::Write(crate::chip::WriteError::SizeMismatch));
    }
    chip.select(regions)?;
    let (image, current) = bytes.split_at_mut(size);
    chip.write(image, current).map_err(ChipError::Write)?;
    Ok(Answer::Written)
}
