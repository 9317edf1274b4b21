//! What libflashrom is told and tells about parts of a chip: layouts, and protected ranges.

use std::ffi::CString;
use std::ptr;

use flashrom_sys as ffi;

use crate::chip::{ChipError, Region, WriteProtection};

/// Regions, as the library keeps them.
#[derive(Debug)]
pub(super) struct Layout(pub(super) *mut ffi::flashrom_layout);

impl Layout {
    pub(super) fn of(regions: &[Region]) -> Result<Self, i32> {
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is writable.
        match unsafe { ffi::flashrom_layout_new(&mut raw) } {
            0 => {}
            code => return Err(code),
        }
        let layout = Self(raw);
        // The library puts each region before the others, and works from the first to the last.
        for (number, region) in regions.iter().enumerate().rev() {
            layout.add(number, *region)?;
        }
        Ok(layout)
    }

    fn add(&self, number: usize, region: Region) -> Result<(), i32> {
        let last = region.end.checked_sub(1).ok_or(-1)?;
        let name = CString::new(format!("r{number}")).map_err(|_| -1)?;
        // SAFETY: the layout is ours; the name lives through the call and is copied.
        let added =
            unsafe { ffi::flashrom_layout_add_region(self.0, region.start, last, name.as_ptr()) };
        // SAFETY: as above.
        let included = unsafe { ffi::flashrom_layout_include_region(self.0, name.as_ptr()) };
        match (added, included) {
            (0, 0) => Ok(()),
            (0, code) | (code, _) => Err(code),
        }
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: made by us, released once, and no chip uses it any more.
        unsafe { ffi::flashrom_layout_release(self.0) };
    }
}

#[derive(Debug)]
pub(super) struct WriteProtectConfig(pub(super) *mut ffi::flashrom_wp_cfg);

impl WriteProtectConfig {
    pub(super) fn new() -> Result<Self, ChipError> {
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is writable.
        match unsafe { ffi::flashrom_wp_cfg_new(&mut raw) } {
            ffi::flashrom_wp_result::FLASHROM_WP_OK => Ok(Self(raw)),
            other => Err(ChipError::Protection(other.0)),
        }
    }

    pub(super) fn protection(&self) -> WriteProtection {
        let (mut start, mut length) = (0, 0);
        // SAFETY: all three pointers are ours and live.
        unsafe { ffi::flashrom_wp_get_range(&mut start, &mut length, self.0) };
        // SAFETY: the configuration is ours and was filled.
        let mode = unsafe { ffi::flashrom_wp_get_mode(self.0) };
        if length == 0 {
            return WriteProtection::Off;
        }
        let region = Region { start, end: start.saturating_add(length) };
        WriteProtection::On { region, mode: mode_name(mode).to_owned() }
    }
}

impl Drop for WriteProtectConfig {
    fn drop(&mut self) {
        // SAFETY: made by us and released once.
        unsafe { ffi::flashrom_wp_cfg_release(self.0) };
    }
}

const fn mode_name(mode: ffi::flashrom_wp_mode) -> &'static str {
    match mode {
        ffi::flashrom_wp_mode::FLASHROM_WP_MODE_DISABLED => "software",
        ffi::flashrom_wp_mode::FLASHROM_WP_MODE_HARDWARE => "hardware",
        ffi::flashrom_wp_mode::FLASHROM_WP_MODE_POWER_CYCLE => "until power cycle",
        ffi::flashrom_wp_mode::FLASHROM_WP_MODE_PERMANENT => "permanent",
        _ => "unknown mode",
    }
}
