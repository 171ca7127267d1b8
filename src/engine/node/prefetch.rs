//! The assignments that wait at a node for a worker.
//!
//! Owns: their order (priority, then first come) and their bounds. Does not know: workers, links.
//!
//! Most were prefetched: sent beyond the free workers, so that none of these waits for a round
//! trip. This serves the bench rows `local` (7.5 times as many tasks a second as without),
//! `remote-1` (11 times) and `pending-1M` (9 times), measured with and without in one run. The
//! scheduler's setting `max_prefetch` = 0 turns it off.

use std::collections::VecDeque;

use crate::config::SchedulerConfig;
use crate::engine::message::Assignment;

/// The most assignments that wait: sixteen times what a scheduler prefetches by default. Beyond it
/// the node refuses, so that no scheduler can fill its memory.
pub(super) const MAX_PREFETCH: usize = SchedulerConfig::MAX_PREFETCH as usize;
/// The most bytes of args that wait, for the same reason: sixteen of the largest frames.
pub(super) const MAX_AHEAD_BYTES: u64 = 256 << 20;

/// The lane before all priorities: assignments that had been started already.
const FRONT: i16 = i8::MAX as i16 + 1;
/// Removed entries that a lane may hold beside as many as it has others, so that small lanes are
/// left alone.
const SLACK: usize = 64;

/// An assignment that waits.
#[derive(Debug)]
pub(super) struct WaitingAssignment {
    pub(super) assignment: Assignment,
    /// Whether its scheduler believes that it runs: a stalled thread gave it back.
    pub(super) start_reported: bool,
}

/// Where an assignment waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    lane: i16,
    index: u64,
}

/// One priority, first come first. A removed entry leaves a gap until it reaches the front, or
/// until gaps outnumber the rest.
#[derive(Debug, Default)]
struct Lane {
    entries: VecDeque<(u64, Option<WaitingAssignment>)>,
    live: usize,
}

impl Lane {
    #[inline]
    fn tidy(&mut self) {
        // Most often there is no gap.
        if self.entries.len() > self.live {
            self.close_gaps();
        }
    }

    fn close_gaps(&mut self) {
        while let Some((_, None)) = self.entries.front() {
            self.entries.pop_front();
        }
        if self.entries.len() > 2 * self.live + SLACK {
            self.entries.retain(|(_, waiting)| waiting.is_some());
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Prefetched {
    /// The lanes, in order of their numbers, of which there are 257. Only the lane of the normal
    /// priority stays when it is empty: it is refilled all the time.
    lanes: Vec<(i16, Lane)>,
    next: u64,
    len: usize,
    bytes: u64,
}

impl Prefetched {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether one more may wait, if so many with so many bytes wait elsewhere, and the
    /// bounds are for so many.
    #[inline]
    pub(super) fn has_room(
        &self,
        assignment: &Assignment,
        elsewhere: (usize, u64),
        sharers: usize,
    ) -> bool {
        let (len, bytes) = elsewhere;
        self.len + len < MAX_PREFETCH / sharers
            && self.bytes + bytes + assignment.args.len() as u64 <= MAX_AHEAD_BYTES / sharers as u64
    }

    /// Returns the one that [`Prefetched::pop`] would take.
    #[inline]
    pub(super) fn first(&self) -> Option<&WaitingAssignment> {
        let mut lanes = self.lanes.iter().rev();
        let (_, lane) = lanes.find(|(_, lane)| lane.live > 0)?;
        lane.entries.front()?.1.as_ref()
    }

    /// Adds an assignment behind all of its priority.
    #[inline]
    pub(super) fn push(&mut self, assignment: Assignment) -> Spot {
        let lane = assignment
            .terms
            .as_ref()
            .map_or(0, |terms| i16::from(terms.priority));
        self.push_to(
            lane,
            WaitingAssignment {
                assignment,
                start_reported: false,
            },
        )
    }

    /// Adds an assignment before all that were not yet started.
    pub(super) fn push_front(&mut self, waiting: WaitingAssignment) -> Spot {
        self.push_to(FRONT, waiting)
    }

    /// Adds an assignment where it has waited before.
    pub(super) fn put_back(&mut self, spot: Spot, waiting: WaitingAssignment) {
        let lane = self.lane(spot.lane);
        let bytes = waiting.assignment.args.len() as u64;
        let place = lane
            .entries
            .binary_search_by_key(&spot.index, |(index, _)| *index);
        match place {
            // Nobody else has had its place; what it left there is a gap.
            Ok(place) => lane.entries[place].1 = Some(waiting),
            Err(place) => lane.entries.insert(place, (spot.index, Some(waiting))),
        }
        lane.live += 1;
        self.len += 1;
        self.bytes += bytes;
    }

    #[inline]
    fn push_to(&mut self, lane: i16, waiting: WaitingAssignment) -> Spot {
        let index = self.next;
        self.next += 1;
        self.len += 1;
        self.bytes += waiting.assignment.args.len() as u64;
        let entry = self.lane(lane);
        entry.entries.push_back((index, Some(waiting)));
        entry.live += 1;
        Spot { lane, index }
    }

    #[inline]
    fn lane_at(&self, number: i16) -> Result<usize, usize> {
        match self.lanes[..] {
            // Most often all that waits is of one priority.
            [(only, _)] if only == number => Ok(0),
            _ => self
                .lanes
                .binary_search_by_key(&number, |(number, _)| *number),
        }
    }

    #[inline]
    fn lane(&mut self, number: i16) -> &mut Lane {
        let at = self.lane_at(number).unwrap_or_else(|at| {
            self.lanes.insert(at, (number, Lane::default()));
            at
        });
        &mut self.lanes[at].1
    }

    /// Takes the first.
    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<(Spot, WaitingAssignment)> {
        if self.len == 0 {
            return None;
        }
        let at = self.lanes.iter().rposition(|(_, lane)| lane.live > 0)?;
        let (number, ref mut lane) = self.lanes[at];
        // The front of a lane is never a gap: `tidy` follows every removal.
        let (index, waiting) = lane.entries.pop_front()?;
        lane.live -= 1;
        lane.tidy();
        if lane.live == 0 && number != 0 {
            self.lanes.remove(at);
        }
        let waiting = waiting?;
        self.len -= 1;
        self.bytes -= waiting.assignment.args.len() as u64;
        Some((
            Spot {
                lane: number,
                index,
            },
            waiting,
        ))
    }

    /// Takes the one at this spot.
    pub(super) fn take(&mut self, spot: Spot) -> Option<WaitingAssignment> {
        let at = self.lane_at(spot.lane).ok()?;
        let (_, lane) = &mut self.lanes[at];
        let place = lane
            .entries
            .binary_search_by_key(&spot.index, |(index, _)| *index)
            .ok()?;
        let waiting = lane.entries[place].1.take()?;
        lane.live -= 1;
        lane.tidy();
        if lane.live == 0 && spot.lane != 0 {
            self.lanes.remove(at);
        }
        self.len -= 1;
        self.bytes -= waiting.assignment.args.len() as u64;
        Some(waiting)
    }

    /// Returns all that wait, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Spot, &WaitingAssignment)> {
        self.lanes.iter().rev().flat_map(|(lane, entries)| {
            let lane = *lane;
            entries.entries.iter().filter_map(move |(index, waiting)| {
                let index = *index;
                Some((Spot { lane, index }, waiting.as_ref()?))
            })
        })
    }

    /// Notes that the scheduler has been told of every one that it waits.
    pub(super) fn forget_reports(&mut self) {
        if let Ok(at) = self.lane_at(FRONT) {
            let (_, lane) = &mut self.lanes[at];
            for (_, waiting) in &mut lane.entries {
                if let Some(waiting) = waiting {
                    waiting.start_reported = false;
                }
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.lanes.clear();
        self.len = 0;
        self.bytes = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let bytes: u64 = self
            .iter()
            .map(|(_, waiting)| waiting.assignment.args.len() as u64)
            .sum();
        if self.iter().count() != self.len || bytes != self.bytes {
            return Err(format!(
                "{} assignments with {} bytes are counted waiting, wrongly",
                self.len, self.bytes
            ));
        }
        for (number, lane) in &self.lanes {
            if lane.entries.len() > 2 * lane.live + SLACK {
                return Err(format!("the lane {number} is full of gaps"));
            }
            if matches!(lane.entries.front(), Some((_, None))) {
                return Err(format!("the lane {number} begins with a gap"));
            }
        }
        Ok(())
    }
}
