//! What there is to say about one property of the host.

/// Whether it stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but.
    Note,
    /// The connections cannot be held, or the server does not start.
    Change,
}

impl Level {
    /// As it is printed.
    pub fn label(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Change => "change",
        }
    }
}

/// One property of the host: what it is, what it should be, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it stands in the way.
    pub level: Level,
    /// The limit or setting, as the kernel calls it.
    pub name: &'static str,
    /// Its value.
    pub found: String,
    /// The value it should have.
    pub wanted: String,
    /// Why, in one line.
    pub why: String,
    /// What changes it; a command where there is one.
    pub cure: Option<String>,
}

impl Finding {
    /// A finding without a cure, for whatever is as it should be or cannot be changed.
    pub fn new(
        level: Level,
        name: &'static str,
        found: impl ToString,
        wanted: impl ToString,
        why: impl Into<String>,
    ) -> Self {
        Self {
            level,
            name,
            found: found.to_string(),
            wanted: wanted.to_string(),
            why: why.into(),
            cure: None,
        }
    }

    /// The same with a cure, unless there is nothing to cure.
    pub fn cured_by(mut self, cure: impl Into<String>) -> Self {
        if self.level != Level::Ok {
            self.cure = Some(cure.into());
        }
        self
    }

    /// A setting this host does not show.
    pub fn hidden(name: &'static str, wanted: impl ToString) -> Self {
        let why = "not shown here, as in a container; look at the host itself";
        Self::new(Level::Note, name, "?", wanted, why)
    }
}

/// Bytes for people.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// `at least 7`.
pub fn at_least(value: impl std::fmt::Display) -> String {
    format!("at least {value}")
}

/// `1 core`, `2 cores`.
pub fn plural(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
