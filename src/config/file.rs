//! The TOML file: keys with the line each stands on.

use std::ffi::OsStr;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::settings::{SETTINGS, Setting};
use super::sources::{ConfigError, Given, Origin, one_line, refused, unknown_key};
use super::value::{Kind, Value};

/// Reads every key of the TOML file at `path`, in the order of its lines.
pub(super) fn read_file(path: &Path) -> Result<Vec<Given>, ConfigError> {
    let bytes = std::fs::read(path).map_err(|error| {
        ConfigError::new(format!(
            "cannot read the configuration file {}: {error}; give --config a readable file",
            one_line(path.as_os_str())
        ))
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let place = place(path, error.as_bytes(), error.utf8_error().valid_up_to());
        ConfigError::new(format!("{place}: not UTF-8; save the file as UTF-8"))
    })?;
    parse_toml(path, &text)
}

fn place(path: &Path, text: &[u8], offset: usize) -> Origin {
    let before = text.get(..offset).unwrap_or(text);
    Origin::File {
        path: path.to_owned(),
        line: 1 + before.iter().filter(|&&byte| byte == b'\n').count(),
    }
}

fn parse_toml(path: &Path, text: &str) -> Result<Vec<Given>, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let place = place(path, text.as_bytes(), offset);
        let message = one_line(OsStr::new(error.message()));
        ConfigError::new(format!("{place}: not valid TOML: {message}"))
    })?;
    let mut entries = Vec::new();
    flatten("", table.get_ref(), &mut entries);
    // The parser sorts keys by name; the first error should be the first in the file.
    entries.sort_by_key(|entry| entry.offset);
    let given = |entry: &Entry| entry.give(place(path, text.as_bytes(), entry.offset));
    entries.iter().map(given).collect()
}

/// A key of the file with its full dotted name.
struct Entry<'a> {
    key: String,
    value: &'a DeValue<'a>,
    offset: usize,
}

/// Lists the keys of all tables with their dotted names. An empty table that is no section counts as a key: it is
/// reported as unknown.
fn flatten<'a>(prefix: &str, table: &'a DeTable<'a>, entries: &mut Vec<Entry<'a>>) {
    for (name, value) in table {
        let key = format!("{prefix}{}", one_line(OsStr::new(name.get_ref().as_ref())));
        match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() && Setting::find(&key).is_none() => {
                flatten(&format!("{key}."), inner, entries);
            }
            DeValue::Table(_) if is_section(&key) => {}
            other => entries.push(Entry {
                key,
                value: other,
                offset: name.span().start,
            }),
        }
    }
}

fn is_section(name: &str) -> bool {
    let in_section = |setting: &Setting| setting.section_and_name().0 == name;
    !name.is_empty() && SETTINGS.iter().any(in_section)
}

impl Entry<'_> {
    fn give(&self, origin: Origin) -> Result<Given, ConfigError> {
        let key = &self.key;
        if is_section(key) {
            return Err(ConfigError::new(format!(
                "{origin}: {key} is a section; write [{key}] and its settings on the lines below"
            )));
        }
        let Some(setting) = Setting::find(key) else {
            return Err(unknown_key(&origin, key));
        };
        match value_of(self.value) {
            Ok(value) => Ok(Given {
                setting,
                value,
                origin,
            }),
            Err(shown) => {
                let shown = if setting.is_secret() { "***" } else { &shown };
                let problem = match (self.value, setting.kind) {
                    (DeValue::Integer(_), Kind::Number { .. }) => "out of range",
                    _ => "wrong type",
                };
                Err(refused(&origin, setting, shown, problem.to_owned()))
            }
        }
    }
}

/// The value, or how to show one that no setting takes.
fn value_of(value: &DeValue<'_>) -> Result<Value, String> {
    match value {
        DeValue::Boolean(flag) => Ok(Value::Flag(*flag)),
        DeValue::String(text) => Ok(Value::Text(text.to_string())),
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix())
            .map(Value::Number)
            .map_err(|_| number.to_string()),
        DeValue::Array(items) => {
            let text = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                _ => Err("a list of other things than strings".to_owned()),
            };
            let items: Result<Vec<String>, String> = items.iter().map(text).collect();
            items.map(Value::List)
        }
        DeValue::Float(number) => Err(number.to_string()),
        DeValue::Datetime(time) => Err(time.to_string()),
        DeValue::Table(_) => Err("a table".to_owned()),
    }
}
