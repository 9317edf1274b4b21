//! A chip behind a process per operation.
//!
//! libflashrom ends its process when memory runs out and never returns from some cards. So each
//! operation runs in a process that is killed when its time is over and not waited for longer
//! than [`REAP_LIMIT`]: a process that hangs in the kernel does not die.

mod process;

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;

use crate::chip::{Chip, ChipError, FlashChip, Region, Write, WriteProtection};
use crate::observer::BlockStep;
use crate::operation::{ARGUMENT, Answer, Event, Operation, Request};
use crate::programmer::Programmer;
use process::{Heard, kill, lines_of, reaped};

/// How long a process that was killed is waited for.
pub const REAP_LIMIT: Duration = Duration::from_secs(5);
/// Opening a programmer calibrates a delay loop and probes some hundred chips: seconds, but a virtual
/// machine whose host is busy stood still for one minute of it.
const PROBE_LIMIT: Duration = Duration::from_secs(120);
/// A serial flash that is read bit by bit through a card's registers: 20 kB in a second.
const SLOWEST_READ_BYTES_PER_S: u64 = 20_000;
/// A 64 KiB block of an old chip takes up to 3 s to erase, and as long to program: 10 kB in a
/// second, and twice that to be sure.
const SLOWEST_WRITE_BYTES_PER_S: u64 = 5_000;

/// A chip behind a process per operation.
pub struct Helper {
    program: PathBuf,
    programmer: Programmer,
    chip_name: Option<String>,
    chip: Option<Chip>,
    limit: Option<Duration>,
    stuck: bool,
    on_message: Box<dyn FnMut(String)>,
    #[cfg(feature = "dummy")]
    faults: crate::operation::Faults,
    #[cfg(feature = "dummy")]
    steps: u32,
    #[cfg(feature = "dummy")]
    crashed: bool,
}

impl Helper {
    /// `program` is started with [`ARGUMENT`] for every operation on what `programmer` reaches.
    #[must_use]
    pub fn new(program: PathBuf, programmer: Programmer) -> Self {
        Self {
            program,
            programmer,
            chip_name: None,
            chip: None,
            limit: None,
            stuck: false,
            on_message: Box::new(|_| ()),
            #[cfg(feature = "dummy")]
            faults: crate::operation::Faults::default(),
            #[cfg(feature = "dummy")]
            steps: 0,
            #[cfg(feature = "dummy")]
            crashed: false,
        }
    }

    /// Looks for this chip only: needed where several descriptions fit one chip.
    #[must_use]
    pub fn chip_name(mut self, name: Option<String>) -> Self {
        self.chip_name = name;
        self
    }

    /// Bounds every operation, instead of the limits for its kind.
    #[must_use]
    pub const fn limit(mut self, limit: Option<Duration>) -> Self {
        self.limit = limit;
        self
    }

    /// Makes things go wrong.
    #[cfg(feature = "dummy")]
    #[must_use]
    pub const fn faults(mut self, faults: crate::operation::Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Was a loss of power simulated?
    #[cfg(feature = "dummy")]
    #[must_use]
    pub const fn crashed(&self) -> bool {
        self.crashed
    }

    /// Hears what libflashrom says.
    #[must_use]
    pub fn on_message(mut self, listener: impl FnMut(String) + 'static) -> Self {
        self.on_message = Box::new(listener);
        self
    }

    fn size_bytes(&self) -> usize {
        self.chip.as_ref().map_or(0, |chip| chip.size_bytes)
    }

    fn limit_of(&self, operation: &Operation) -> Duration {
        let bytes = |regions: &[Region]| regions.iter().map(Region::len).sum::<usize>() as u64;
        let slowest = match operation {
            Operation::Read { regions } => bytes(regions) / SLOWEST_READ_BYTES_PER_S,
            // What is verified afterwards is what was written.
            Operation::Write { regions, .. } => bytes(regions) / SLOWEST_WRITE_BYTES_PER_S,
            _ => 0,
        };
        self.limit.unwrap_or(PROBE_LIMIT + Duration::from_secs(slowest))
    }

    /// Runs one operation. `on_block` hears of every erase and program.
    fn run(
        &mut self,
        operation: Operation,
        bytes: &[&[u8]],
        on_block: &mut dyn FnMut(Region, BlockStep),
    ) -> Result<(Answer, File), ChipError> {
        #[cfg(feature = "dummy")]
        if self.crashed {
            return Err(ChipError::Stuck);
        }
        if self.stuck {
            return Err(ChipError::Stuck);
        }
        let limit = self.limit_of(&operation);
        let name = operation.name();
        let broken = |error: io::Error| ChipError::Process {
            operation: name.to_owned(),
            why: error.to_string(),
        };
        let input = self.input(operation, bytes).map_err(broken)?;
        let child = self.start(&input).map_err(broken)?;
        let result = self.follow(child, name, limit, on_block);
        result.map(|answer| (answer, input))
    }

    fn input(&self, operation: Operation, bytes: &[&[u8]]) -> io::Result<File> {
        let request = Request {
            programmer: self.programmer.clone(),
            chip_name: self.chip_name.clone(),
            chip: self.chip.clone(),
            operation,
            #[cfg(feature = "dummy")]
            faults: self.remaining_faults(),
        };
        let mut file = File::from(memfd_create(c"flasher", MFdFlags::MFD_CLOEXEC)?);
        serde_json::to_writer(&file, &request)?;
        file.write_all(b"\n")?;
        bytes.iter().try_for_each(|part| file.write_all(part))?;
        Ok(file)
    }

    /// A terminal's Ctrl-C is not for this process: it is in a group of its own.
    fn start(&self, input: &File) -> io::Result<Child> {
        Command::new(&self.program)
            .arg(ARGUMENT)
            .stdin(Stdio::from(input.try_clone()?))
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
    }

    fn follow(
        &mut self,
        mut child: Child,
        operation: &'static str,
        limit: Duration,
        on_block: &mut dyn FnMut(Region, BlockStep),
    ) -> Result<Answer, ChipError> {
        let group = Pid::from_raw(child.id().cast_signed());
        let lines = lines_of(&mut child);
        let end = reaped(child);
        let mut result = self.listen(&lines, operation, limit, on_block);
        if matches!(result, Heard::Nothing | Heard::Garbage(_)) {
            kill(group);
        }
        let status = end.recv_timeout(REAP_LIMIT).ok().or_else(|| {
            kill(group);
            end.recv_timeout(REAP_LIMIT).ok()
        });
        self.stuck = status.is_none();
        #[cfg(feature = "dummy")]
        if status.and_then(|status| status.code()) == Some(crate::operation::CRASHED.into()) {
            self.crashed = true;
        }
        if let (Heard::Answer(_), Some(status)) = (&result, status)
            && !status.success()
        {
            result = Heard::End;
        }
        result.into_result(operation, limit, status)
    }

    fn listen(
        &mut self,
        lines: &mpsc::Receiver<io::Result<String>>,
        operation: &'static str,
        limit: Duration,
        on_block: &mut dyn FnMut(Region, BlockStep),
    ) -> Heard {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Somebody who always has something to say would never be waited for.
            if left.is_zero() {
                return Heard::Nothing;
            }
            let line = match lines.recv_timeout(left) {
                Ok(Ok(line)) => line,
                Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => return Heard::End,
                Err(RecvTimeoutError::Timeout) => return Heard::Nothing,
            };
            match serde_json::from_str(&line) {
                Ok(Event::Block { block, step }) => {
                    self.count_step();
                    on_block(block, step);
                }
                Ok(Event::Said(line)) => (self.on_message)(format!("{operation}: {line}")),
                Ok(Event::Answer(answer)) => return Heard::Answer(answer),
                Ok(Event::Failed(error)) => return Heard::Failed(error),
                Err(_) => return Heard::Garbage(line),
            }
        }
    }

    fn count_step(&mut self) {
        #[cfg(feature = "dummy")]
        {
            self.steps += 1;
        }
    }

    /// Faults are counted over the whole run, and a process counts only its own steps.
    #[cfg(feature = "dummy")]
    fn remaining_faults(&self) -> crate::operation::Faults {
        let remaining = |at: Option<u32>| at.and_then(|at| at.checked_sub(self.steps));
        crate::operation::Faults {
            crash_at: remaining(self.faults.crash_at),
            fail_at: remaining(self.faults.fail_at),
            ..self.faults
        }
    }
}

fn unexpected(operation: &str, answer: &Answer) -> ChipError {
    ChipError::Died { operation: operation.to_owned(), how: format!("it answered {answer:?}") }
}

impl FlashChip for Helper {
    fn probe(&mut self) -> Result<Chip, ChipError> {
        match self.run(Operation::Probe, &[], &mut |_, _| ())? {
            (Answer::Probed(chip), _) => {
                self.chip = Some(chip.clone());
                Ok(chip)
            }
            (other, _) => Err(unexpected("probing", &other)),
        }
    }

    fn write_protection(&mut self) -> Result<WriteProtection, ChipError> {
        match self.run(Operation::WriteProtection, &[], &mut |_, _| ())? {
            (Answer::Protection(protection), _) => Ok(protection),
            (other, _) => Err(unexpected("asking for write protection", &other)),
        }
    }

    fn read(&mut self, regions: &[Region]) -> Result<Vec<u8>, ChipError> {
        let operation = Operation::Read { regions: regions.to_vec() };
        let (answer, mut file) = self.run(operation, &[], &mut |_, _| ())?;
        if answer != Answer::Read {
            return Err(unexpected("reading", &answer));
        }
        let mut content = Vec::with_capacity(self.size_bytes());
        file.rewind().and_then(|()| file.read_to_end(&mut content)).map_err(|error| {
            ChipError::Process { operation: "reading".to_owned(), why: error.to_string() }
        })?;
        if content.len() != self.size_bytes() {
            let how = format!("it read {} bytes", content.len());
            return Err(ChipError::Died { operation: "reading".to_owned(), how });
        }
        Ok(content)
    }

    fn erase_blocks(&mut self, content: &[u8]) -> Result<Vec<Region>, ChipError> {
        match self.run(Operation::EraseBlocks, &[content], &mut |_, _| ())? {
            (Answer::EraseBlocks(blocks), _) => Ok(blocks),
            (other, _) => Err(unexpected("asking for erase blocks", &other)),
        }
    }

    fn write(&mut self, write: &Write<'_>, progress: &mut dyn FnMut(u64)) -> Result<(), ChipError> {
        let operation = Operation::Write {
            regions: write.regions.to_vec(),
            may_erase: write.may_erase.to_vec(),
        };
        let mut done = 0;
        let mut on_block = |block: Region, step| {
            if step == BlockStep::Program {
                done += block.len() as u64;
                progress(done);
            }
        };
        match self.run(operation, &[write.image, write.current], &mut on_block)? {
            (Answer::Written, _) => Ok(()),
            (other, _) => Err(unexpected("writing", &other)),
        }
    }
}
