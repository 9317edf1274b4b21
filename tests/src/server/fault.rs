//! What can be made to go wrong with the answer for one path.

/// A fault, and what a client then sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status with a short text as body.
    Status(u16),
    /// A redirect to this URL or path.
    Redirect(u16, String),
    /// Status 200 with this body in place of the right one.
    Body(Vec<u8>),
    /// The right body, chunked and without its length.
    Chunked,
    /// The connection stays open and nothing is ever answered.
    Silence,
    /// The right head and so many bytes of body; then nothing, with the connection open.
    StallAfter(u64),
    /// The right head and so many bytes of body; then the connection is closed.
    TruncateAfter(u64),
    /// The right head and so many bytes of body; then the connection is reset.
    ResetAfter(u64),
}

/// How often a fault happens before the path is well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// For ever.
    Always,
    /// For the first so many requests.
    First(u32),
}

/// The faults that wait for a request.
#[derive(Default)]
pub(super) struct Faults(Vec<Armed>);

struct Armed {
    path: String,
    fault: Fault,
    times: Times,
}

impl Faults {
    pub(super) fn arm(&mut self, path: &str, fault: Fault, times: Times) {
        self.0.push(Armed { path: path.to_owned(), fault, times });
    }

    pub(super) fn clear(&mut self, path: &str) {
        self.0.retain(|armed| armed.path != path);
    }

    /// The fault for this request; counts it down.
    pub(super) fn take(&mut self, path: &str) -> Option<Fault> {
        let armed =
            self.0.iter_mut().find(|armed| armed.path == path && armed.times != Times::First(0))?;
        if let Times::First(left) = &mut armed.times {
            *left -= 1;
        }
        Some(armed.fault.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_one_path_follow_one_another_and_then_end() {
        let mut faults = Faults::default();
        faults.arm("/a", Fault::Status(500), Times::First(2));
        faults.arm("/a", Fault::Silence, Times::First(1));
        let taken: Vec<_> = (0..4).map(|_| faults.take("/a")).collect();
        assert_eq!(
            taken,
            [Some(Fault::Status(500)), Some(Fault::Status(500)), Some(Fault::Silence), None]
        );
        assert_eq!(faults.take("/b"), None);
    }
}
