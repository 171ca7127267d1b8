//! How things went: numbers over 15 minutes, 24 hours and 7 days, in rings of fixed size.
//!
//! Owns: the rings, and how seconds become minutes. Does not know: a clock, or how they are drawn.
//!
//! A scheduler takes 3,348 points of 10 numbers for them, which is 134 KB.

use std::time::Duration;

use crate::engine::meter::{Histogram, Pulse};

/// What a point has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Series {
    /// Tasks a second.
    Accepted,
    Started,
    Settled,
    Failed,
    /// Tasks: the mean of so many seconds.
    Due,
    Running,
    /// Times in seconds, as bounds of their buckets: of all tasks and attempts of which the end was
    /// told then. Zero if there was none.
    WaitHalf,
    WaitMost,
    RunHalf,
    RunMost,
}

/// How many of these are means; the others are times.
const MEANS: usize = 6;

/// What stands for a time that is above every bound.
pub const BEYOND: f32 = 7200.0;

/// The numbers of one point, by [`Series`].
pub type Point = [f32; 10];

impl Series {
    /// Returns what it is called.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Started => "started",
            Self::Settled => "settled",
            Self::Failed => "failed",
            Self::Due => "due",
            Self::Running => "running",
            Self::WaitHalf | Self::RunHalf => "p50",
            Self::WaitMost | Self::RunMost => "p99",
        }
    }
}

/// The times of which a point tells.
#[derive(Clone, Debug, Default)]
struct Times {
    wait: Histogram,
    runs: Histogram,
}

impl Times {
    fn absorb(&mut self, other: &Self) {
        self.wait.absorb(&other.wait);
        self.runs.absorb(&other.runs);
    }

    /// Returns these as the last numbers of a point.
    fn percentiles(&self) -> [f32; 4] {
        let of = |times: &Histogram, percent| match times.percentile(percent) {
            None => 0.0,
            Some(u64::MAX) => BEYOND,
            Some(bound) => Duration::from_nanos(bound).as_secs_f32(),
        };
        [
            of(&self.wait, 50),
            of(&self.wait, 99),
            of(&self.runs, 50),
            of(&self.runs, 99),
        ]
    }
}

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

    /// Returns for how many points a plot may have room, the least first, and all of them last.
    pub const fn rooms(self) -> &'static [usize] {
        match self {
            Self::Minutes => &[60, 180, 300, 900],
            Self::Day => &[60, 180, 480, 1440],
            Self::Week => &[36, 144, 432, 1008],
        }
    }

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
    sum: [f32; MEANS],
    times: Times,
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
            sum: Default::default(),
            times: Times::default(),
            gathered: 0,
            each,
        }
    }

    fn add(&mut self, means: &[f32; MEANS], times: &Times) {
        for (sum, number) in self.sum.iter_mut().zip(means) {
            *sum += number;
        }
        self.times.absorb(times);
        self.gathered += 1;
        if self.gathered == self.each {
            let point = &mut self.points[self.at];
            let (all, last) = point.split_at_mut(MEANS);
            all.copy_from_slice(&self.sum.map(|sum| sum / self.each as f32));
            last.copy_from_slice(&self.times.percentiles());
            self.at = (self.at + 1) % self.points.len();
            self.len = (self.len + 1).min(self.points.len());
            self.sum = Default::default();
            self.times = Times::default();
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
        let Some(pulse) = &self.last else {
            return;
        };
        let seconds = seconds.max(1);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f32 / seconds as f32;
        let means = [
            rate(pulse.accepted, last.accepted),
            rate(pulse.started, last.started),
            rate(pulse.settled, last.settled),
            rate(pulse.failed, last.failed),
            pulse.due as f32,
            pulse.running as f32,
        ];
        let times = Times {
            wait: pulse.wait.since(&last.wait),
            runs: pulse.runs.since(&last.runs),
        };
        // A machine that slept has nothing to tell of that time, which is told in a bounded way:
        // as if each of these seconds had been like all of them.
        for _ in 0..seconds.min(900) {
            self.rings
                .iter_mut()
                .for_each(|ring| ring.add(&means, &times));
        }
    }

    /// Takes in that another scheduler has begun: what it counts does not follow from what was
    /// counted.
    pub fn begin_again(&mut self) {
        self.last = None;
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
        let (accepted, due) = (Series::Accepted as usize, Series::Due as usize);
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
        assert_eq!((seconds[0][due], seconds[899][due]), (101.0, 1000.0));
        assert!(seconds.iter().all(|point| point[accepted] == 10.0));
        let minutes = rings.points(Reach::Day);
        assert_eq!(minutes.len(), 16);
        assert_eq!(minutes[0][due], 30.5);
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
        assert!(
            points
                .iter()
                .all(|point| point[Series::Settled as usize] == 10.0)
        );
    }

    #[test]
    fn a_minute_has_the_percentiles_of_all_its_times_and_not_a_mean_of_percentiles() {
        let mut rings = Rings::default();
        let mut pulse = Pulse::default();
        rings.add(pulse.clone(), 1);
        // One slow attempt in the first second, and then 59 quick ones a second.
        pulse.runs.add(Duration::from_secs(20));
        pulse.started = 1;
        rings.add(pulse.clone(), 1);
        for _ in 1..60 {
            (0..59).for_each(|_| pulse.runs.add(Duration::from_millis(3)));
            pulse.started += 59;
            rings.add(pulse.clone(), 1);
        }
        let of = |point: &Point, series: Series| point[series as usize];
        let seconds = rings.points(Reach::Minutes);
        assert_eq!(of(&seconds[0], Series::RunHalf), 30.0);
        assert_eq!(of(&seconds[0], Series::WaitHalf), 0.0, "there was none");
        assert_eq!(of(&seconds[1], Series::RunMost), 0.005);
        assert_eq!(of(&seconds[59], Series::Started), 59.0);
        let minutes = rings.points(Reach::Day);
        assert_eq!(of(&minutes[0], Series::RunHalf), 0.005);
        assert_eq!(of(&minutes[0], Series::RunMost), 0.005);
        pulse.wait.add(Duration::from_secs(4000));
        rings.add(pulse, 1);
        let last = rings.points(Reach::Minutes)[60];
        assert_eq!(of(&last, Series::WaitMost), BEYOND);
    }
}
