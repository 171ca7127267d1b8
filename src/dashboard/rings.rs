//! How things went: numbers over 15 minutes, 24 hours and 7 days, in rings of fixed size.
//!
//! Owns: the rings, and how seconds become minutes. Does not know: a clock, or how they are drawn.
//!
//! A scheduler takes 3,348 points of 5 numbers for them, which is 67 KB.

use crate::stats::Pulse;

/// What a point has: of each second, or the mean of so many.
pub const SERIES: [&str; 5] = ["accepted", "settled", "failed", "due", "running"];

/// The numbers of one point: tasks a second, and tasks.
pub type Point = [f32; SERIES.len()];

/// Over how long a plot goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Minutes,
    Day,
    Week,
}

impl Reach {
    /// All of them, the shortest first.
    pub const ALL: [Self; 3] = [Self::Minutes, Self::Day, Self::Week];

    /// Returns how many points there are, how many seconds each stands for, and what it is called.
    pub const fn measures(self) -> (usize, u64, &'static str) {
        match self {
            Self::Minutes => (900, 1, "15 minutes"),
            Self::Day => (1440, 60, "24 hours"),
            Self::Week => (1008, 600, "7 days"),
        }
    }
}

/// The last points of one reach.
#[derive(Clone, Debug)]
struct Ring {
    points: Box<[Point]>,
    /// Where the next one goes.
    at: usize,
    len: usize,
    /// What is to become the next point.
    sum: Point,
    gathered: u64,
    each: u64,
}

impl Ring {
    fn of(reach: Reach) -> Self {
        let (points, each, _) = reach.measures();
        Self {
            points: vec![Point::default(); points].into(),
            at: 0,
            len: 0,
            sum: Point::default(),
            gathered: 0,
            each,
        }
    }

    fn add(&mut self, point: &Point) {
        for (sum, number) in self.sum.iter_mut().zip(point) {
            *sum += number;
        }
        self.gathered += 1;
        if self.gathered == self.each {
            let mean = self.sum.map(|sum| sum / self.each as f32);
            self.points[self.at] = mean;
            self.at = (self.at + 1) % self.points.len();
            self.len = (self.len + 1).min(self.points.len());
            self.sum = Point::default();
            self.gathered = 0;
        }
    }

    /// Returns the points, oldest first.
    fn all(&self) -> Vec<Point> {
        let (new, old) = self.points.split_at(self.at);
        let all = old.iter().chain(new);
        all.skip(self.points.len() - self.len).copied().collect()
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Rings {
    rings: [Ring; Reach::ALL.len()],
    last: Option<Pulse>,
}

impl Default for Rings {
    fn default() -> Self {
        Self {
            rings: Reach::ALL.map(Ring::of),
            last: None,
        }
    }
}

impl Rings {
    /// Takes in what is so now, so many whole seconds after the last time.
    pub fn add(&mut self, pulse: Pulse, seconds: u64) {
        let Some(last) = self.last.replace(pulse) else {
            return;
        };
        let seconds = seconds.max(1);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f32 / seconds as f32;
        let point = [
            rate(pulse.accepted, last.accepted),
            rate(pulse.settled, last.settled),
            rate(pulse.failed, last.failed),
            pulse.due as f32,
            pulse.running as f32,
        ];
        // A machine that slept has nothing to tell of that time, which is told in a bounded way.
        for _ in 0..seconds.min(900) {
            self.rings.iter_mut().for_each(|ring| ring.add(&point));
        }
    }

    /// Returns the points of a reach, oldest first.
    pub fn points(&self, reach: Reach) -> Vec<Point> {
        self.rings[reach as usize].all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_minutes_and_the_oldest_go() {
        let mut rings = Rings::default();
        let pulse = |seconds: u64| Pulse {
            accepted: 10 * seconds,
            due: seconds,
            ..Pulse::default()
        };
        for seconds in 0..=1000 {
            rings.add(pulse(seconds), 1);
        }
        let seconds = rings.points(Reach::Minutes);
        assert_eq!(seconds.len(), 900);
        assert_eq!((seconds[0][3], seconds[899][3]), (101.0, 1000.0));
        assert!(seconds.iter().all(|point| point[0] == 10.0));
        let minutes = rings.points(Reach::Day);
        assert_eq!(minutes.len(), 16);
        assert_eq!(minutes[0][3], 30.5);
        assert_eq!(rings.points(Reach::Week).len(), 1);
    }

    #[test]
    fn a_late_look_fills_the_seconds_that_it_missed() {
        let mut rings = Rings::default();
        rings.add(Pulse::default(), 1);
        let later = Pulse {
            settled: 40,
            ..Pulse::default()
        };
        rings.add(later, 4);
        let points = rings.points(Reach::Minutes);
        assert_eq!(points.len(), 4);
        assert!(points.iter().all(|point| point[1] == 10.0));
    }
}
