//! The rows and their table.

use super::Scale;

/// What a figure counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    PerSecond,
    Micros,
    Bytes,
    PercentOfCore,
}

impl Unit {
    pub fn show(self, figure: f64) -> String {
        match self {
            Self::PerSecond => format!("{figure:.0}/s"),
            Self::Micros => format!("{figure:.1} us"),
            Self::Bytes => format!("{:.0} MB/s", figure / 1e6),
            Self::PercentOfCore => format!("{figure:.2} % of a core"),
        }
    }
}

/// One thing that is measured.
pub struct Row {
    pub name: &'static str,
    pub unit: Unit,
    /// The row that its median is divided by.
    pub floor: &'static str,
    run: fn(&Scale) -> f64,
    figures: Vec<f64>,
}

impl Row {
    pub fn new(
        name: &'static str,
        unit: Unit,
        floor: &'static str,
        run: fn(&Scale) -> f64,
    ) -> Self {
        Self {
            name,
            unit,
            floor,
            run,
            figures: Vec::new(),
        }
    }

    pub fn measure(&mut self, scale: &Scale) -> f64 {
        let figure = (self.run)(scale);
        self.figures.push(figure);
        figure
    }

    fn sorted(&self) -> Vec<f64> {
        let mut figures = self.figures.clone();
        figures.sort_by(f64::total_cmp);
        figures
    }

    fn median(&self) -> f64 {
        let figures = self.sorted();
        figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

pub fn print(rows: &[Row]) {
    println!("| row | min | median | max | ratio of medians |");
    println!("|---|---|---|---|---|");
    for row in rows {
        let figures = row.sorted();
        let [Some(least), Some(most)] = [figures.first(), figures.last()] else {
            continue;
        };
        let ratio = rows
            .iter()
            .find(|floor| floor.name == row.floor)
            .map_or_else(String::new, |floor| {
                format!("{:.2} of {}", row.median() / floor.median(), floor.name)
            });
        println!(
            "| {} | {} | {} | {} | {ratio} |",
            row.name,
            row.unit.show(*least),
            row.unit.show(row.median()),
            row.unit.show(*most),
        );
    }
}
