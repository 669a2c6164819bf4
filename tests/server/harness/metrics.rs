//! One scrape of `/metrics`, parsed.

/// One line of the exposition: a name, its labels and the value.
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// All samples of one scrape, in the order of the text.
pub struct Metrics(Vec<Sample>);

impl Metrics {
    /// Parses Prometheus text format 0.0.4; fails the test at a line that is not.
    pub fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| parse_sample(line).unwrap_or_else(|| panic!("not a sample: {line:?}")))
            .collect();
        Self(samples)
    }

    /// Whether any sample has this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|sample| sample.name == name)
    }

    /// The sum over all shards and labels.
    pub fn sum(&self, name: &str) -> f64 {
        let named = self.0.iter().filter(|sample| sample.name == name);
        named.map(|sample| sample.value).sum()
    }

    /// The sum over the samples in which `label` has this value.
    pub fn sum_where(&self, name: &str, label: &str, value: &str) -> f64 {
        let named = self.0.iter().filter(|sample| sample.name == name);
        named
            .filter(|sample| sample.labels.iter().any(|(l, v)| l == label && v == value))
            .map(|sample| sample.value)
            .sum()
    }

    /// How many connections were closed for this reason.
    pub fn closes(&self, reason: &str) -> f64 {
        self.sum_where("longwire_closes_total", "reason", reason)
    }

    /// How many connections were refused for this reason.
    pub fn refusals(&self, reason: &str) -> f64 {
        self.sum_where("longwire_refused_total", "reason", reason)
    }

    /// How many different values `label` has in the samples of this name whose value is not zero.
    pub fn label_values_in_use(&self, name: &str, label: &str) -> usize {
        let used = self.0.iter().filter(|s| s.name == name && s.value != 0.0);
        let mut values: Vec<_> = used
            .flat_map(|sample| sample.labels.iter())
            .filter(|(l, _)| l == label)
            .map(|(_, v)| v)
            .collect();
        values.sort();
        values.dedup();
        values.len()
    }

    /// The names of all samples.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|sample| sample.name.as_str())
    }
}

fn parse_sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        None => (series, Vec::new()),
        Some((name, rest)) => (name, parse_labels(rest.strip_suffix('}')?)?),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if name.is_empty() || !name.chars().all(legal) {
        return None;
    }
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().ok()?,
    })
}

/// `a="b",c="d"`; no label value of this server holds a comma or a quote.
fn parse_labels(text: &str) -> Option<Vec<(String, String)>> {
    let parse = |pair: &str| {
        let (label, value) = pair.split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        Some((label.to_owned(), value.to_owned()))
    };
    text.split(',').map(parse).collect()
}
