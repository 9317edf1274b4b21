//! What is left of a serial console's bytes when cursor movements and colours are taken out.

/// Removes escape sequences (ECMA-48) from a stream, piece by piece. A carriage return begins a new
/// line, as what is written over a line would otherwise run into it.
#[derive(Default)]
pub struct PlainText {
    state: State,
    /// A carriage return has come, and nothing after it.
    returned: bool,
    /// The beginning of a character whose rest is still to come.
    unfinished: Vec<u8>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// Within `ESC [ … final`.
    Control,
    /// Within `ESC ] … BEL`, as systemd and shells send it.
    SystemCommand,
}

impl PlainText {
    /// The text in the next piece of the stream.
    pub fn feed(&mut self, bytes: &[u8]) -> String {
        let mut plain = std::mem::take(&mut self.unfinished);
        for byte in bytes {
            let Some(byte) = self.step(*byte) else { continue };
            if std::mem::take(&mut self.returned) && byte != b'\n' && byte != b'\r' {
                plain.push(b'\n');
            }
            match byte {
                b'\r' => self.returned = true,
                byte => plain.push(byte),
            }
        }
        self.unfinished = plain.split_off(complete_bytes(&plain));
        String::from_utf8_lossy(&plain).into_owned()
    }

    fn step(&mut self, byte: u8) -> Option<u8> {
        match (self.state, byte) {
            (_, 0x1b) => self.state = State::Escape,
            (State::Text, b'\n' | b'\r' | b'\t' | b' '..=0x7e | 0x80..) => return Some(byte),
            (State::Text, _) => {}
            (State::Escape, b'[') => self.state = State::Control,
            (State::Escape, b']') => self.state = State::SystemCommand,
            // `ESC c` (reset) and its like end here; `ESC ( B` selects a character set.
            (State::Escape, b'(' | b')' | b' '..=b'/') => {}
            (State::Escape, _) => self.state = State::Text,
            (State::Control, 0x40..=0x7e) => self.state = State::Text,
            (State::Control, _) => {}
            (State::SystemCommand, 0x07) => self.state = State::Text,
            (State::SystemCommand, _) => {}
        }
        None
    }
}

/// How many bytes are there without the beginning of a character at the end.
fn complete_bytes(text: &[u8]) -> usize {
    match text.utf8_chunks().last() {
        Some(last) if last.invalid().len() < 4 && is_unfinished(last.invalid()) => {
            text.len() - last.invalid().len()
        }
        _ => text.len(),
    }
}

/// Whether more bytes could make a character of these.
fn is_unfinished(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_carriage_returns_go_and_text_stays() {
        let table: &[(&[u8], &str)] = &[
            (b"plain\r\n", "plain\n"),
            (b"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16)\r\n", "SeaBIOS (version 1.16)\n"),
            (b"\x1b[32mOK\x1b[0m \x1b]0;title\x07x", "OK x"),
            (b"\x1b(Bdone\x08\x00", "done"),
            ("caf\u{e9}".as_bytes(), "caf\u{e9}"),
            (
                b"Press a key\r           \rnet0: open\r\r\n",
                "Press a key\n           \nnet0: open\n",
            ),
            (b"not \xff text", "not \u{fffd} text"),
        ];
        for (bytes, text) in table {
            assert_eq!(PlainText::default().feed(bytes), *text);
        }
    }

    #[test]
    fn a_sequence_or_a_character_may_be_split_between_two_pieces() {
        let mut plain = PlainText::default();
        assert_eq!(plain.feed(b"a\x1b[3") + &plain.feed(b"1mb\r") + &plain.feed(b"\n"), "ab\n");
        let dots = "\u{2026}".as_bytes();
        assert_eq!(plain.feed(&dots[..2]) + &plain.feed(&dots[2..]), "\u{2026}");
    }
}
