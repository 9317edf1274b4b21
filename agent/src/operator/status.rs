//! `stage2 status`: once, or again whenever something changes.

use std::io::{self, Write};
use std::path::Path;

use super::arguments::{Form, Times};
use super::{Error, WIDTH};
use crate::notice::Notice;
use crate::screen::screen;
use crate::state;
use crate::status::Status;
use crate::wishes::WISHES;

pub(super) fn show(form: Form, times: Times, out: &mut impl Write) -> Result<(), Error> {
    let places = [Path::new(state::DIRECTORY), Path::new(WISHES)];
    // Begun before the first look, so that nothing is missed after it.
    let notice = match times {
        Times::Once => None,
        Times::Follow => Some(Notice::of(&places).map_err(Error::Watch)?),
    };
    write_once(form, &Status::now(), out)?;
    let Some(notice) = notice else { return Ok(()) };
    loop {
        notice.wait(None);
        write_once(form, &Status::now(), out)?;
    }
}

fn write_once(form: Form, status: &Status, out: &mut impl Write) -> io::Result<()> {
    match form {
        Form::Json => writeln!(out, "{}", serde_json::to_string(status)?)?,
        Form::Text => {
            for line in screen(status, WIDTH) {
                writeln!(out, "{line}")?;
            }
        }
    }
    out.flush()
}
