//! The rows and their table.

use super::Scale;

/// What a figure counts.
#[derive(Clone, Copy)]
pub enum Unit {
    PerSecond,
    Micros,
    Bytes,
    PercentOfCore,
    Seconds,
    #[cfg_attr(not(feature = "store"), allow(dead_code, reason = "a store's file"))]
    MiB,
}

impl Unit {
    pub fn show(self, figure: f64) -> String {
        match self {
            Self::PerSecond => format!("{figure:.0}/s"),
            Self::Micros => format!("{figure:.1} us"),
            Self::Bytes => format!("{:.0} MB/s", figure / 1e6),
            Self::MiB => format!("{figure:.1} MiB"),
            Self::Seconds => format!("{figure:.2} s"),
            Self::PercentOfCore => format!("{figure:.2} % of a core"),
        }
    }
}

/// How a row is measured.
enum Run {
    One(fn(&Scale) -> f64),
    Latency(fn(&Scale) -> [f64; 3]),
}

/// What a row's medians are divided by.
enum Floor {
    Row(&'static str),
    Fixed(f64),
}

/// One thing that is measured, by one figure or several.
pub struct Row {
    pub name: &'static str,
    unit: Unit,
    run: Run,
    floors: Vec<Floor>,
    /// Those of each round.
    rounds: Vec<Vec<f64>>,
}

impl Row {
    pub fn new(name: &'static str, unit: Unit, run: fn(&Scale) -> f64) -> Self {
        Self::with(name, unit, Run::One(run))
    }

    pub fn rate(name: &'static str, run: fn(&Scale) -> f64) -> Self {
        Self::new(name, Unit::PerSecond, run)
    }

    pub fn bytes(name: &'static str, run: fn(&Scale) -> f64) -> Self {
        Self::new(name, Unit::Bytes, run)
    }

    /// Makes a row of p50, p99 and p999, in microseconds.
    pub fn latency(name: &'static str, run: fn(&Scale) -> [f64; 3]) -> Self {
        Self::with(name, Unit::Micros, Run::Latency(run))
    }

    fn with(name: &'static str, unit: Unit, run: Run) -> Self {
        Self {
            name,
            unit,
            run,
            floors: Vec::new(),
            rounds: Vec::new(),
        }
    }

    /// Compares it to another row.
    pub fn over(mut self, floor: &'static str) -> Self {
        self.floors.push(Floor::Row(floor));
        self
    }

    /// Compares it to what cannot be beaten.
    pub fn over_fixed(mut self, ideal: f64) -> Self {
        self.floors.push(Floor::Fixed(ideal));
        self
    }

    /// Names of the rows that it is compared to.
    pub fn floors(&self) -> impl Iterator<Item = &'static str> {
        self.floors.iter().filter_map(|floor| match floor {
            Floor::Row(name) => Some(*name),
            Floor::Fixed(_) => None,
        })
    }

    /// Measures it once more, and says what came out.
    pub fn measure(&mut self, scale: &Scale) -> String {
        let figures = match self.run {
            Run::One(run) => vec![run(scale)],
            Run::Latency(run) => run(scale).to_vec(),
        };
        let shown: Vec<_> = self
            .parts()
            .iter()
            .zip(&figures)
            .map(|(part, figure)| format!("{part}{}", self.unit.show(*figure)))
            .collect();
        self.rounds.push(figures);
        shown.join(", ")
    }

    fn parts(&self) -> &'static [&'static str] {
        match self.run {
            Run::One(_) => &[""],
            Run::Latency(_) => &["p50 ", "p99 ", "p999 "],
        }
    }

    /// Returns one figure of each round, the least first.
    fn sorted(&self, part: usize) -> Vec<f64> {
        let mut figures: Vec<_> = self.rounds.iter().map(|round| round[part]).collect();
        figures.sort_by(f64::total_cmp);
        figures
    }

    fn median(&self, part: usize) -> f64 {
        let figures = self.sorted(part);
        figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Returns the ratios of one figure's median to those of its floors that were measured.
    fn ratios(&self, part: usize, rows: &[Self]) -> String {
        let ratio = |floor: &Floor| match *floor {
            Floor::Fixed(ideal) => {
                let share = self.median(part) / ideal;
                Some(format!("{share:.2} of {}", self.unit.show(ideal)))
            }
            Floor::Row(name) => {
                let floor = rows.iter().find(|row| row.name == name)?;
                let share = self.median(part) / floor.median(part);
                Some(format!("{share:.2} of {name}"))
            }
        };
        let ratios: Vec<_> = self.floors.iter().filter_map(ratio).collect();
        ratios.join(", ")
    }
}

pub fn print(rows: &[Row]) {
    println!("| row | min | median | max | ratio of medians |");
    println!("|---|---|---|---|---|");
    for row in rows {
        for (index, part) in row.parts().iter().enumerate() {
            let figures = row.sorted(index);
            let [Some(least), Some(most)] = [figures.first(), figures.last()] else {
                continue;
            };
            println!(
                "| {} {part}| {} | {} | {} | {} |",
                row.name,
                row.unit.show(*least),
                row.unit.show(row.median(index)),
                row.unit.show(*most),
                row.ratios(index, rows),
            );
        }
    }
}
