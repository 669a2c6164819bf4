//! The server's own figures, from its /metrics page (Prometheus text format 0.0.4).

/// One reading of the page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: String,
    value: f64,
}

impl Snapshot {
    /// Reads the page's text. Lines it cannot read are left out.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self {
            samples: lines.filter_map(parse_line).collect(),
        }
    }

    /// A reading that was not taken from a page.
    pub fn of<const N: usize>(values: [(&str, f64); N]) -> Self {
        let sample = |(name, value): (&str, f64)| Sample {
            name: name.to_owned(),
            labels: String::new(),
            value,
        };
        Self {
            samples: values.map(sample).into(),
        }
    }

    /// A metric's value, summed over its labels; `None` if the page has no such metric.
    pub fn total(&self, name: &str) -> Option<f64> {
        self.total_where(name, "")
    }

    /// The same over the samples that have this label, as in `reason="client"`.
    pub fn total_where(&self, name: &str, label: &str) -> Option<f64> {
        let mut values = self
            .samples
            .iter()
            .filter(|sample| sample.name == name && sample.labels.contains(label))
            .peekable();
        values.peek()?;
        Some(values.map(|sample| sample.value).sum())
    }

    /// A metric's values by shard.
    pub fn per_shard(&self, name: &str) -> Vec<f64> {
        let of_shards = self
            .samples
            .iter()
            .filter(|sample| sample.labels.contains("shard=\"") && sample.name == name);
        of_shards.map(|sample| sample.value).collect()
    }
}

/// `name{labels} value [timestamp]`
fn parse_line(line: &str) -> Option<Sample> {
    let (series, value) = match line.rfind('}') {
        Some(brace) => line.split_at(brace + 1),
        None => line.split_once(' ')?,
    };
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let value = value.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample {
        name: name.trim().to_owned(),
        labels: labels.to_owned(),
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# HELP longwire_connections Open connections.
# TYPE longwire_connections gauge
longwire_connections{shard=\"0\"} 5
longwire_connections{shard=\"1\"} 7
longwire_closes_total{shard=\"0\",reason=\"a } b\"} 2 1700000000000
longwire_closes_total{shard=\"1\",reason=\"client\"} 3
process_resident_memory_bytes 1.5e6
longwire_info{version=\"0.1.0\"} 1
broken
";

    #[test]
    fn the_page_is_read() {
        let snapshot = Snapshot::parse(PAGE);
        assert_eq!(snapshot.per_shard("longwire_connections"), [5.0, 7.0]);
        assert_eq!(snapshot.total("longwire_connections"), Some(12.0));
        assert_eq!(snapshot.total("longwire_closes_total"), Some(5.0));
        let client = "reason=\"client\"";
        assert_eq!(
            snapshot.total_where("longwire_closes_total", client),
            Some(3.0)
        );
        assert_eq!(
            snapshot.total_where("longwire_closes_total", "reason=\"x\""),
            None
        );
        assert_eq!(snapshot.total("process_resident_memory_bytes"), Some(1.5e6));
        assert!(snapshot.per_shard("longwire_info").is_empty());
        assert_eq!(snapshot.total("broken"), None);
        assert_eq!(snapshot.total("longwire"), None);
    }
}
