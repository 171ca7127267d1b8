//! When a node is dialled or probed again.
//!
//! Owns: which dial and which probe is under way, when the next may begin, and the intervals
//! between them. Does not know: whether a node is to be dialled or probed, or what an answer means.

use std::time::Duration;

use crate::engine::{Incarnation, Timestamp};

/// How soon a dial or a probe is tried again.
pub(super) const INTERVAL: Duration = Duration::from_millis(500);
/// The first interval after a link has broken; later ones double. The system closes the sockets of
/// a killed process one by one, and may close the link before the port, which then still answers.
const FIRST_INTERVAL: Duration = Duration::from_millis(10);

/// How far one way of asking is.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// May begin at once.
    Ready,
    /// May begin then.
    Waits(Timestamp),
    /// Was begun then, while this incarnation was known, and is not answered.
    Out(Timestamp, Option<Incarnation>),
    /// Was begun for an earlier node of the name and is not answered. The answer says nothing of
    /// this one, which waits for it: at most one is under way.
    Stale,
}

impl Way {
    /// Returns when it may begin; `None` while it is under way.
    fn due(self) -> Option<Timestamp> {
        match self {
            Self::Ready => Some(Timestamp::default()),
            Self::Waits(at) => Some(at),
            Self::Out(..) | Self::Stale => None,
        }
    }

    fn is_out(self) -> bool {
        matches!(self, Self::Out(..) | Self::Stale)
    }

    /// Takes note that what was asked of an earlier node is answered. Returns whether it was.
    fn stale_answered(&mut self) -> bool {
        let stale = matches!(self, Self::Stale);
        if stale {
            *self = Self::Ready;
        }
        stale
    }

    /// Sets what comes next, unless a dial or probe is under way: its answer says when the next may
    /// begin.
    fn set(&mut self, next: Self) {
        if !self.is_out() {
            *self = next;
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Redial {
    dial: Way,
    probe: Way,
    /// How long to wait after the next dial or probe that tells nothing.
    interval: Duration,
    /// The address that was asked last, of those that are dialled and of those that are probed. The
    /// first in turn is the one that a link was broken to.
    dialled_last: Option<String>,
    probed_last: Option<String>,
}

impl Default for Redial {
    fn default() -> Self {
        Self {
            dial: Way::Ready,
            probe: Way::Ready,
            interval: INTERVAL,
            dialled_last: None,
            probed_last: None,
        }
    }
}

impl Redial {
    /// Returns when the next dial may begin; `None` while one is under way.
    pub fn dial_due(&self) -> Option<Timestamp> {
        self.dial.due()
    }

    /// Returns when the next probe may begin; `None` while one is under way.
    pub fn probe_due(&self) -> Option<Timestamp> {
        self.probe.due()
    }

    /// Returns whether a dial may still lead to a link.
    pub fn is_dialling(&self) -> bool {
        self.dial.is_out()
    }

    /// Returns what there is to know for another node of the name.
    pub fn of_another(&self) -> Self {
        let ask = |way: Way| if way.is_out() { Way::Stale } else { Way::Ready };
        Self {
            dial: ask(self.dial),
            probe: ask(self.probe),
            ..Self::default()
        }
    }

    /// Takes note of the answer to a dial, if it was asked of an earlier node of the name. Returns
    /// whether it was.
    pub fn stale_dial_answered(&mut self) -> bool {
        self.dial.stale_answered()
    }

    /// Takes note of the answer to a probe, if it was asked of an earlier node of the name. Returns
    /// whether it was.
    pub fn stale_probe_answered(&mut self) -> bool {
        self.probe.stale_answered()
    }

    pub fn dialled_last(&self) -> Option<&str> {
        self.dialled_last.as_deref()
    }

    pub fn probed_last(&self) -> Option<&str> {
        self.probed_last.as_deref()
    }

    /// Begins a dial, which asks an address of a process if one is known. A refusal will speak of
    /// no later incarnation than `known`.
    pub fn begin_dial(&mut self, now: Timestamp, known: Option<Incarnation>, at: Option<String>) {
        self.dial = Way::Out(now, known);
        self.dialled_last = at;
    }

    pub fn begin_probe(&mut self, now: Timestamp, known: Incarnation, at: String) {
        self.probe = Way::Out(now, Some(known));
        self.probed_last = Some(at);
    }

    /// Takes in that a dial has led to a link.
    pub fn dial_reached(&mut self) {
        if self.dial.is_out() {
            self.dial = Way::Ready;
        }
    }

    /// Takes in that a dial has led to nothing. Returns the incarnation that was known when it
    /// began. `usual` is the longest interval. The interval counts from the beginning: what hangs
    /// is followed by another at once.
    pub fn dial_failed(&mut self, usual: Duration) -> Option<Incarnation> {
        let Way::Out(since, known) = self.dial else {
            return None;
        };
        self.dial = Way::Waits(since + self.take_interval(usual));
        known
    }

    /// Takes in that a probe was answered, or refused.
    pub fn probed(&mut self, usual: Duration) {
        if let Way::Out(since, _) = self.probe {
            self.probe = Way::Waits(since + self.take_interval(usual));
        }
    }

    /// Takes in that a link was closed before it was up.
    pub fn setup_failed(&mut self, now: Timestamp, usual: Duration) {
        let next = now + self.take_interval(usual);
        self.dial.set(Way::Waits(next));
    }

    /// Takes in that the link that counts is gone: whether the process is, too, is asked at once.
    pub fn link_broke(&mut self) {
        self.dial.set(Way::Ready);
        self.probe.set(Way::Ready);
        self.interval = FIRST_INTERVAL;
        self.dialled_last = None;
        self.probed_last = None;
    }

    /// Takes in that a link is up.
    pub fn link_up(&mut self, usual: Duration) {
        self.dial.set(Way::Ready);
        self.probe.set(Way::Ready);
        self.interval = usual;
    }

    /// Takes in that the process has ended: what is probed next is another.
    pub fn process_ended(&mut self) {
        self.probe.set(Way::Ready);
    }

    /// Takes in that the process has said goodbye: there is no hurry to see whether another
    /// follows.
    pub fn left(&mut self, now: Timestamp, usual: Duration) {
        self.dial.set(Way::Waits(now + usual));
        self.interval = usual;
    }

    fn take_interval(&mut self, usual: Duration) -> Duration {
        let interval = self.interval.min(usual);
        self.interval = interval * 2;
        interval
    }
}

#[cfg(test)]
mod tests {
    use super::{FIRST_INTERVAL, INTERVAL, Redial};
    use crate::engine::{Incarnation, Timestamp};

    const START: Timestamp = Timestamp(1_700_000_000_000_000_000);

    #[test]
    fn after_a_broken_link_the_intervals_double_up_to_the_usual_one() {
        let mut redial = Redial::default();
        redial.link_broke();
        for interval in [1, 2, 4, 8, 16, 32, 50, 50] {
            redial.begin_dial(START, None, None);
            redial.dial_failed(INTERVAL);
            assert_eq!(redial.dial_due(), Some(START + FIRST_INTERVAL * interval));
        }
    }

    #[test]
    fn what_is_under_way_is_not_begun_again_before_its_answer() {
        let mut redial = Redial::default();
        redial.begin_dial(START, Some(Incarnation(1)), None);
        redial.begin_probe(START, Incarnation(1), String::new());
        redial.link_broke();
        redial.setup_failed(START, INTERVAL);
        redial.process_ended();
        redial.left(START, INTERVAL);
        assert_eq!((redial.dial_due(), redial.probe_due()), (None, None));
        assert_eq!(redial.dial_failed(INTERVAL), Some(Incarnation(1)));
        assert_eq!(redial.probe_due(), None);
        redial.probed(INTERVAL);
        assert!(redial.probe_due().is_some() && !redial.is_dialling());
    }

    #[test]
    fn an_answer_that_nobody_waits_for_changes_nothing() {
        let mut redial = Redial::default();
        assert_eq!(redial.dial_failed(INTERVAL), None);
        redial.probed(INTERVAL);
        redial.dial_reached();
        let now = Some(Timestamp::default());
        assert_eq!((redial.dial_due(), redial.probe_due()), (now, now));
    }
}
