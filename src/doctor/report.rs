//! The findings, printed for a person.

use std::fmt;

use super::finding::{Finding, Level, plural};

/// What came of an examination.
#[derive(Clone, Debug)]
pub struct Report {
    /// Connections that were asked about.
    pub connections: u64,
    /// One for each property of the host.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing stands in the way.
    pub fn is_ready(&self) -> bool {
        self.count(Level::Change) == 0
    }

    fn count(&self, level: Level) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    }

    fn verdict(&self) -> String {
        let notes = match self.count(Level::Note) {
            0 => String::new(),
            count => format!(", {}", plural(count, "note")),
        };
        match self.count(Level::Change) {
            0 => format!("ready{notes}"),
            count => format!("{} to change{notes}", plural(count, "thing")),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |cell: fn(&Finding) -> &str| {
            let widths = self
                .findings
                .iter()
                .map(|finding| cell(finding).chars().count());
            widths.max().unwrap_or(0)
        };
        let names = width(|finding| finding.name);
        let found = width(|finding| &finding.found);
        for finding in &self.findings {
            let label = finding.level.label();
            writeln!(
                f,
                "{label:<6}  {:<names$}  {:<found$}  wanted {}",
                finding.name, finding.found, finding.wanted
            )?;
            writeln!(f, "        {}", finding.why)?;
            if let Some(cure) = &finding.cure {
                writeln!(f, "        -> {cure}")?;
            }
        }
        if self.findings.iter().any(|finding| {
            finding
                .cure
                .as_ref()
                .is_some_and(|cure| cure.starts_with("sysctl"))
        }) {
            writeln!(
                f,
                "\nsysctl -w lasts until the next boot, a line in /etc/sysctl.d longer: tuning/host/90-longwire-sysctl.conf"
            )?;
        }
        writeln!(f, "\n{} connections: {}", self.connections, self.verdict())
    }
}
