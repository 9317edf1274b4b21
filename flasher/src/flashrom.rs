//! The safe side of libflashrom.
//!
//! libflashrom keeps its state in globals and runs in one thread: a process has one
//! [`Library`], with one [`OpenProgrammer`], with one [`OpenChip`] at a time. The C side may end
//! the process when memory runs out, and may never return; so nothing but a helper process calls
//! this module. API: `libflashrom.h`, 1.3.0 and later.
#![expect(unsafe_code, reason = "FFI to libflashrom")]

mod settings;

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use flashrom_sys as ffi;

use crate::chip::{ChipError, Region, WriteError, WriteProtection};
use crate::observer::Level;
use crate::programmer::Programmer;
use settings::{Layout, WriteProtectConfig};

/// What the one who watches the log wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    GoOn,
    /// Leave the chip as it is and end this process with the exit code, before the library does
    /// what it was about to do.
    EndProcess(u8),
}

type Watcher = Box<dyn FnMut(Level, &str) -> Verdict>;

thread_local! {
    static WATCHER: RefCell<Option<Watcher>> = const { RefCell::new(None) };
}

/// One library per process and for good: its globals do not survive a second start.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// libflashrom, started. Not `Send`: the library has one thread.
#[derive(Debug)]
pub struct Library(PhantomData<*const ()>);

impl Library {
    /// Starts the library. `watcher` hears every message up to [`Level::Debug`].
    ///
    /// # Errors
    /// It was started before in this process, or its self-check failed.
    pub fn start(watcher: impl FnMut(Level, &str) -> Verdict + 'static) -> Result<Self, ChipError> {
        let unusable = |said: &str| ChipError::Programmer {
            programmer: "libflashrom".to_owned(),
            said: said.to_owned(),
        };
        if TAKEN.swap(true, Ordering::SeqCst) {
            return Err(unusable("it was started before in this process"));
        }
        WATCHER.with(|slot| *slot.borrow_mut() = Some(Box::new(watcher)));
        // SAFETY: `on_message` has the type that the header asks for and never unwinds.
        unsafe { ffi::flashrom_set_log_callback(Some(on_message)) };
        // SAFETY: called once per process, before any other call, as `TAKEN` ensures.
        match unsafe { ffi::flashrom_init(1) } {
            0 => Ok(Self(PhantomData)),
            _ => Err(unusable("its self-check failed")),
        }
    }

    /// Opens a programmer.
    ///
    /// # Errors
    /// It has no device, or does not like its parameters.
    pub fn open(&self, programmer: &Programmer) -> Result<OpenProgrammer<'_>, i32> {
        let name = CString::new(programmer.name()).map_err(|_| -1)?;
        let parameters = CString::new(programmer.parameters()).map_err(|_| -1)?;
        let mut raw = ptr::null_mut();
        // SAFETY: both strings end with a zero and live through the call; `raw` is writable.
        // Release 1.3.0 returns 0 and leaves it null, which every other function accepts.
        let code =
            unsafe { ffi::flashrom_programmer_init(&mut raw, name.as_ptr(), parameters.as_ptr()) };
        if code == 0 { Ok(OpenProgrammer { raw, _library: PhantomData }) } else { Err(code) }
    }
}

/// The library's own name for its version; Debian's says "unknown".
#[must_use]
pub fn library_version() -> String {
    // SAFETY: returns a static string that ends with a zero, and may be called at any time.
    let version = unsafe { CStr::from_ptr(ffi::flashrom_version_info()) };
    version.to_string_lossy().into_owned()
}

/// A programmer that was opened; closed on drop.
#[derive(Debug)]
pub struct OpenProgrammer<'library> {
    raw: *mut ffi::flashrom_programmer,
    _library: PhantomData<&'library Library>,
}

impl OpenProgrammer<'_> {
    /// Looks for a chip: the one called `name`, or any.
    ///
    /// # Errors
    /// None or several fit.
    pub fn probe(&self, name: Option<&str>) -> Result<OpenChip<'_>, ProbeError> {
        let name = name.map(CString::new).transpose().map_err(|_| ProbeError::Other(-1))?;
        let name = name.as_ref().map_or(ptr::null(), |name| name.as_ptr());
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is writable; `self.raw` is what the library gave us, or null; `name` is
        // null or ends with a zero and lives through the call.
        let code = unsafe { ffi::flashrom_flash_probe(&mut raw, self.raw, name) };
        match (code, raw.is_null()) {
            (0, false) => Ok(OpenChip { raw, layout: None, _programmer: PhantomData }),
            (2, _) => Err(ProbeError::NoChip),
            (3, _) => Err(ProbeError::SeveralChips),
            (other, _) => Err(ProbeError::Other(other)),
        }
    }
}

impl Drop for OpenProgrammer<'_> {
    fn drop(&mut self) {
        // SAFETY: opened by us, closed once, and every chip of it is gone: chips borrow it.
        unsafe { ffi::flashrom_programmer_shutdown(self.raw) };
    }
}

/// Return codes of `flashrom_flash_probe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeError {
    /// No chip answers.
    NoChip,
    /// Several descriptions fit.
    SeveralChips,
    /// Any other code.
    Other(i32),
}

/// A chip that was found; forgotten on drop.
#[derive(Debug)]
pub struct OpenChip<'programmer> {
    raw: *mut ffi::flashrom_flashctx,
    layout: Option<Layout>,
    _programmer: PhantomData<&'programmer ()>,
}

impl OpenChip<'_> {
    /// Its size; 0 if the library does not know it.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        // SAFETY: `self.raw` came from a successful probe and lives until drop.
        unsafe { ffi::flashrom_flash_getsize(self.raw) }
    }

    /// Limits reading and writing to `regions`.
    ///
    /// # Errors
    /// The library does not take them.
    pub fn select(&mut self, regions: &[Region]) -> Result<(), ChipError> {
        let layout = Layout::of(regions).map_err(ChipError::Layout)?;
        // SAFETY: the library keeps the pointer, and `self.layout` keeps the layout as long as
        // the chip; the old one is released only after the new one is set.
        unsafe { ffi::flashrom_layout_set(self.raw, layout.0) };
        self.layout = Some(layout);
        Ok(())
    }

    /// Reads what is selected.
    ///
    /// # Errors
    /// The library's code.
    pub fn read(&mut self) -> Result<Vec<u8>, ChipError> {
        let mut content = vec![0; self.size_bytes()];
        // SAFETY: the buffer is as long as we say and as the chip, and is not kept.
        let code = unsafe {
            ffi::flashrom_image_read(self.raw, content.as_mut_ptr().cast(), content.len())
        };
        if code == 0 { Ok(content) } else { Err(ChipError::Read(code)) }
    }

    /// Writes what is selected from `image`, and verifies it. The chip is taken to hold `current`.
    ///
    /// # Errors
    /// The library's code, as an enum.
    pub fn write(&mut self, image: &mut [u8], current: &[u8]) -> Result<(), WriteError> {
        if image.len() != self.size_bytes() || current.len() != self.size_bytes() {
            return Err(WriteError::SizeMismatch);
        }
        // Both are off unless a caller says otherwise, and with them off a program that the chip
        // ignored is reported as a success. The whole chip is looked at by a fresh process.
        self.set_flag(ffi::flashrom_flag::FLASHROM_FLAG_VERIFY_AFTER_WRITE, true);
        self.set_flag(ffi::flashrom_flag::FLASHROM_FLAG_VERIFY_WHOLE_CHIP, false);
        // SAFETY: both buffers are as long as the chip, checked above, and are not kept; the
        // library may change `image`, which is ours alone.
        let code = unsafe {
            ffi::flashrom_image_write(
                self.raw,
                image.as_mut_ptr().cast::<c_void>(),
                image.len(),
                current.as_ptr().cast(),
            )
        };
        write_result(code)
    }

    fn set_flag(&mut self, flag: ffi::flashrom_flag, value: bool) {
        // SAFETY: `self.raw` came from a successful probe and lives until drop.
        unsafe { ffi::flashrom_flag_set(self.raw, flag, value) };
    }

    /// What of the chip is protected?
    ///
    /// # Errors
    /// The chip has a protection and it cannot be read.
    pub fn write_protection(&mut self) -> Result<WriteProtection, ChipError> {
        let config = WriteProtectConfig::new()?;
        // SAFETY: both pointers are ours and live.
        match unsafe { ffi::flashrom_wp_read_cfg(config.0, self.raw) } {
            ffi::flashrom_wp_result::FLASHROM_WP_OK => Ok(config.protection()),
            // The latter is what programmers that hide the chip say, the kernel's MTD among them.
            ffi::flashrom_wp_result::FLASHROM_WP_ERR_CHIP_UNSUPPORTED
            | ffi::flashrom_wp_result::FLASHROM_WP_ERR_OTHER => Ok(WriteProtection::Unknown),
            other => Err(ChipError::Protection(other.0)),
        }
    }
}

impl Drop for OpenChip<'_> {
    fn drop(&mut self) {
        // SAFETY: came from a successful probe and is released once; the layout goes after it.
        unsafe { ffi::flashrom_flash_release(self.raw) };
    }
}

/// Return codes of `flashrom_image_write`, as `libflashrom.h` lists them.
const fn write_result(code: i32) -> Result<(), WriteError> {
    match code {
        0 => Ok(()),
        1 | -3 => Err(WriteError::NotStarted),
        2 => Err(WriteError::Corrupted),
        3 => Err(WriteError::NotVerified),
        4 => Err(WriteError::SizeMismatch),
        other => Err(WriteError::Unknown(other)),
    }
}

/// Longer messages are cut; the library writes none.
const MOST_MESSAGE_BYTES: usize = 1024;

/// The log callback. The dummy programmer logs every byte at a level below debug: the level is
/// looked at before anything else.
///
/// # Safety
/// Called by libflashrom only, with a format and the arguments that belong to it.
unsafe extern "C" fn on_message(
    level: ffi::flashrom_log_level,
    format: *const c_char,
    arguments: *mut ffi::__va_list_tag,
) -> c_int {
    let level = match level {
        ffi::flashrom_log_level::FLASHROM_MSG_ERROR => Level::Error,
        ffi::flashrom_log_level::FLASHROM_MSG_WARN => Level::Warning,
        ffi::flashrom_log_level::FLASHROM_MSG_INFO => Level::Info,
        ffi::flashrom_log_level::FLASHROM_MSG_DEBUG => Level::Debug,
        _ => return 0,
    };
    let mut text = [0_u8; MOST_MESSAGE_BYTES];
    // SAFETY: the buffer is as long as we say; format and arguments are the caller's duty.
    let length =
        unsafe { ffi::vsnprintf(text.as_mut_ptr().cast(), text.len() as _, format, arguments) };
    let length = usize::try_from(length).unwrap_or_default().min(MOST_MESSAGE_BYTES - 1);
    let text = String::from_utf8_lossy(&text[..length]);
    if let Verdict::EndProcess(code) = watch(level, &text) {
        end_process(code);
    }
    length as c_int
}

/// A message that the library logs while the watcher is at work (on its way out) is not for it.
fn watch(level: Level, text: &str) -> Verdict {
    WATCHER.with(|slot| match slot.try_borrow_mut() {
        Ok(mut watcher) => watcher.as_mut().map_or(Verdict::GoOn, |watch| watch(level, text)),
        Err(_) => Verdict::GoOn,
    })
}

/// Ends the process from inside of the library. Returning would let it go on, and unwinding
/// through C is undefined.
fn end_process(code: u8) -> ! {
    WATCHER.with(|slot| drop(slot.take()));
    // SAFETY: null is what 1.3.0 itself hands out. The programmer's own state is consistent
    // between two chip commands, which is when the library logs.
    unsafe { ffi::flashrom_programmer_shutdown(ptr::null_mut()) };
    // SAFETY: ends the process without running anything of ours; nothing is buffered.
    unsafe { nix::libc::_exit(code.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_return_code_of_a_write_has_its_name() {
        let named = [-3, 0, 1, 2, 3, 4, 5].map(write_result);
        assert_eq!(
            named,
            [
                Err(WriteError::NotStarted),
                Ok(()),
                Err(WriteError::NotStarted),
                Err(WriteError::Corrupted),
                Err(WriteError::NotVerified),
                Err(WriteError::SizeMismatch),
                Err(WriteError::Unknown(5)),
            ]
        );
    }
}
