//! Says what goes on, and keeps how long it took.

use std::time::Instant;

use agent_types::flash_report::{FlashEvent, FlashPhase, PhaseTime};

/// Who listens, and the times so far.
pub(super) struct Teller<'a> {
    events: &'a mut dyn FnMut(FlashEvent),
    pub(super) times: Vec<PhaseTime>,
}

impl<'a> Teller<'a> {
    pub(super) fn new(events: &'a mut dyn FnMut(FlashEvent)) -> Self {
        Self { events, times: Vec::new() }
    }

    /// Does a part of a phase; `work` is told how to say how many bytes of `total` are done.
    pub(super) fn phase<T>(
        &mut self,
        phase: FlashPhase,
        total: u64,
        work: impl FnOnce(&mut dyn FnMut(u64)) -> T,
    ) -> T {
        if self.times.last().is_none_or(|last| last.phase != phase) {
            (self.events)(FlashEvent::Phase { phase });
            self.times.push(PhaseTime { phase, millis: 0 });
        }
        let start = Instant::now();
        let events = &mut *self.events;
        let result = work(&mut |done| events(FlashEvent::Progress { phase, done, total }));
        let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(last) = self.times.last_mut() {
            last.millis = last.millis.saturating_add(millis);
        }
        result
    }

    pub(super) fn note(&mut self, message: String) {
        self.event(FlashEvent::Note { message });
    }

    pub(super) fn event(&mut self, event: FlashEvent) {
        (self.events)(event);
    }
}
