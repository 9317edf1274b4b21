//! Files that no person would write.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::{AuthorizedKey, LineError, parse, parse_revoked};

/// Repeats a run: the number that a failed one has shown.
const SEED: &str = "STAGE2_FUZZ_SEED";
/// Goes on for so long instead of [`FILES`].
const SECONDS: &str = "STAGE2_FUZZ_SECONDS";
/// Takes a second or two.
const FILES: u64 = 20_000;

const LINES: &[&str] = &[
    "# comment",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJoVtVBZ4BPHDYIGRGq6pxU1D1gPnGEyCkDf4UyLIFiY a@b",
    "restrict,pty,command=\"echo \\\"a, b\\\" c\" ssh-ed25519 \
     AAAAC3NzaC1lZDI1NTE5AAAAIJoVtVBZ4BPHDYIGRGq6pxU1D1gPnGEyCkDf4UyLIFiY",
    "from=\"10.0.0.0/8,!10.1.?.*,2001:db8::/32\",expiry-time=\"20260101235960Z\" ssh-ed25519 \
     AAAAC3NzaC1lZDI1NTE5AAAAIJoVtVBZ4BPHDYIGRGq6pxU1D1gPnGEyCkDf4UyLIFiY",
    "cert-authority,principals=\"ops,root\",no-touch-required,permitopen=\"[2001:db8::1]:*\" \
     ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJoVtVBZ4BPHDYIGRGq6pxU1D1gPnGEyCkDf4UyLIFiY",
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBA==",
];

const PIECES: &[&str] = &[
    "\"",
    "\\",
    ",",
    " ",
    "\t",
    "\r",
    "\n",
    "=",
    "!",
    "*",
    "/",
    ":",
    "[",
    "\0",
    "é",
    "from=",
    "command=",
    "restrict",
    "ssh-ed25519 ",
    "ssh-rsa AAAAB3NzaC1yc2E",
    "99999999999999999999",
];

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn line(&mut self) -> String {
        let mut line = self.one(LINES).to_owned();
        for _ in 0..self.below(6) {
            let at = self.place(&line);
            let end = self.place(&line);
            match self.below(3) {
                0 => line.insert_str(at, self.one(PIECES)),
                1 => line.replace_range(at.min(end)..at.max(end), ""),
                _ => {
                    let copy = line[at.min(end)..at.max(end)].to_owned();
                    line.insert_str(at, &copy);
                }
            }
            line.truncate(line.floor_char_boundary(2000));
        }
        line
    }

    fn place(&mut self, text: &str) -> usize {
        text.floor_char_boundary(self.below(text.len() + 1))
    }
}

/// What holds for every file, whatever is in it.
fn check(first: &str, second: &str) {
    let one = parse(first);
    let both = parse(&format!("{first}\n{second}"));
    let counted = |(keys, errors): &(Vec<AuthorizedKey>, Vec<LineError>)| keys.len() + errors.len();
    let lines = |text: &str| {
        text.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with('#')).count()
    };
    assert_eq!(counted(&one), lines(first), "every line is a key or an error");
    assert_eq!(counted(&both), lines(first) + lines(second), "no line swallows another");
    assert_eq!(both.0[..one.0.len()], one.0, "a line means the same whatever follows it");
    assert_eq!(parse_revoked(first).is_ok(), one.1.is_empty());
}

#[test]
fn every_line_is_a_key_or_an_error_and_concerns_no_other_line() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number(SEED).unwrap_or_else(|| RandomState::new().hash_one(Instant::now())).max(1);
    eprintln!("{SEED}={seed}");
    let mut random = Random(seed);
    let deadline = number(SECONDS).map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut files = 0;
    while deadline.map_or(files < FILES, |deadline| Instant::now() < deadline) {
        check(&random.line(), &random.line());
        files += 1;
    }
    eprintln!("{files} files");
}
