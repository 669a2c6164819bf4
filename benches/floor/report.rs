//! Figures of all rounds: as tables for people, as JSON for programs.

use std::fmt;

use serde::Serialize;

/// What a scenario found.
#[derive(Debug, Serialize)]
pub struct Table {
    pub scenario: &'static str,
    /// Under what load.
    pub load: String,
    pub rows: Vec<Row>,
    /// Why goals are not judged: what a goal presumes was not so.
    pub doubts: Vec<String>,
}

/// One figure, once per round.
#[derive(Debug, Serialize)]
pub struct Row {
    pub label: &'static str,
    pub unit: &'static str,
    pub values: Vec<f64>,
    pub median: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
    /// Whether the median meets the goal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_met: Option<bool>,
}

/// A bound on a median.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Table {
    pub fn new(scenario: &'static str, load: String) -> Self {
        Self {
            scenario,
            load,
            rows: Vec::new(),
            doubts: Vec::new(),
        }
    }

    /// Takes the verdicts from this table unless `holds`, and says why.
    pub fn presume(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.doubts.push(otherwise());
            self.rows.iter_mut().for_each(|row| row.is_met = None);
        }
    }

    /// Adds a round's value of a figure.
    pub fn add(&mut self, label: &'static str, unit: &'static str, value: f64) {
        self.enter(label, unit, value, None);
    }

    /// The same for a figure with a goal.
    pub fn judge(&mut self, label: &'static str, unit: &'static str, value: f64, goal: Goal) {
        self.enter(label, unit, value, Some(goal));
    }

    fn enter(&mut self, label: &'static str, unit: &'static str, value: f64, goal: Option<Goal>) {
        let place = self.rows.iter().position(|row| row.label == label);
        let place = place.unwrap_or_else(|| {
            self.rows.push(Row {
                label,
                unit,
                values: Vec::new(),
                median: 0.0,
                goal,
                is_met: None,
            });
            self.rows.len() - 1
        });
        let row = &mut self.rows[place];
        row.values.push(value);
        row.median = median(&row.values);
        let goal = row.goal.filter(|_| self.doubts.is_empty());
        row.is_met = goal.map(|goal| goal.is_met_by(row.median));
    }
}

impl Goal {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }
}

/// The value in the middle; of an even number of values the mean of the two there.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len => (sorted[(len - 1) / 2] + sorted[len / 2]) / 2.0,
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}: {}", self.scenario, self.load)?;
        let columns = ["", "median", "min", "max", "", "goal", ""];
        write_line(f, columns.map(str::to_owned))?;
        self.rows.iter().try_for_each(|row| row.write(f))?;
        let mut doubts = self.doubts.iter();
        doubts.try_for_each(|doubt| writeln!(f, "  not judged: {doubt}"))
    }
}

impl Row {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = |pick: fn(f64, f64) -> f64| self.values.iter().copied().reduce(pick);
        let shown = |value: Option<f64>| value.map(figure).unwrap_or_default();
        let goal = match self.goal {
            None => String::new(),
            Some(Goal::AtMost(bound)) => format!("<= {}", figure(bound)),
            Some(Goal::AtLeast(bound)) => format!(">= {}", figure(bound)),
        };
        let verdict = match self.is_met {
            None => "",
            Some(true) => "met",
            Some(false) => "MISSED",
        };
        let cells = [
            self.label.to_owned(),
            figure(self.median),
            shown(bound(f64::min)),
            shown(bound(f64::max)),
            self.unit.to_owned(),
            goal,
            verdict.to_owned(),
        ];
        write_line(f, cells)?;
        let each: Vec<String> = self.values.iter().copied().map(figure).collect();
        writeln!(f, "    each: {}", each.join("  "))
    }
}

fn write_line(f: &mut fmt::Formatter<'_>, cells: [String; 7]) -> fmt::Result {
    let [label, median, min, max, unit, goal, verdict] = cells;
    let line =
        format!("  {label:<34}{median:>11}{min:>11}{max:>11}  {unit:<6}{goal:>13}  {verdict}");
    writeln!(f, "{}", line.trim_end())
}

/// Four digits, and all of a whole number.
fn figure(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 1000.0 => format!("{value:.0}"),
        magnitude if magnitude >= 100.0 => format!("{value:.1}"),
        magnitude if magnitude >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
