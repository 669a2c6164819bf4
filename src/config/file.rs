//! The configuration file: keys with the line each stands on.

use std::ffi::OsStr;
use std::path::Path;

use super::document::{Entry, Node, parse_json, parse_toml};
use super::foreign::foreign;
use super::row::Setting;
use super::settings::SETTINGS;
use super::sources::{ConfigError, Given, Origin, one_line, refused};
use super::tables::{TableEntries, Tables};

/// Reads every key of the file at `path`, in the order of its lines.
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
    parse(path, &text)
}

fn place(path: &Path, text: &[u8], offset: usize) -> Origin {
    let before = text.get(..offset).unwrap_or(text);
    Origin::File {
        path: path.to_owned(),
        line: 1 + before.iter().filter(|&&byte| byte == b'\n').count(),
    }
}

/// The file's language goes by the end of its name.
fn parse(path: &Path, text: &str) -> Result<Vec<Given>, ConfigError> {
    let (language, entries) = match path.extension().and_then(OsStr::to_str) {
        Some("json") => ("JSON", parse_json(text)),
        Some("yaml" | "yml") => {
            let path = one_line(path.as_os_str());
            return Err(ConfigError::new(format!(
                "{path}: YAML is not read; convert the file to JSON or TOML, as with yq -o json"
            )));
        }
        _ => ("TOML", parse_toml(text)),
    };
    let entries = entries.map_err(|error| {
        let place = place(path, text.as_bytes(), error.offset);
        let message = one_line(OsStr::new(&error.message));
        ConfigError::new(format!("{place}: not valid {language}: {message}"))
    })?;
    let mut layer = Vec::new();
    if entries.iter().any(is_about_clients) {
        layer.push(Given::NamesClients);
    }
    let mut flat = Vec::new();
    flatten("", entries, &mut flat);
    // The first error should be the first in the file.
    flat.sort_by_key(|entry| entry.offset);
    if let Some(listen) = take_listen(&mut flat) {
        flat.push(listen);
    }
    for entry in flat {
        layer.extend(give(entry, path, text)?);
    }
    Ok(layer)
}

fn is_about_clients(entry: &Entry) -> bool {
    matches!(entry.name.as_str(), "client" | "channel")
}

/// Takes Centrifugo's address and port out and makes them one `listen`. Without an address it listens on all.
fn take_listen(flat: &mut Vec<Entry>) -> Option<Entry> {
    const KEYS: [&str; 2] = ["http_server.address", "http_server.port"];
    let parts: Vec<Entry> = flat
        .extract_if(.., |entry| KEYS.contains(&entry.name.as_str()))
        .collect();
    let offset = parts.first()?.offset;
    let text = |key: &str| {
        let part = parts.iter().rfind(|entry| entry.name == key)?;
        match &part.node {
            Node::Text(text) if text.is_empty() => None,
            Node::Text(text) | Node::OtherInteger(text) | Node::Other(text) => Some(text.clone()),
            Node::Number(number) => Some(number.to_string()),
            Node::Flag(_) | Node::List(_) | Node::Table(_) => Some("?".to_owned()),
        }
    };
    let [address, port] = KEYS.map(text);
    let address = address.unwrap_or_else(|| "0.0.0.0".to_owned());
    let port = port.unwrap_or_else(|| "8000".to_owned());
    let listen = match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    };
    Some(Entry {
        name: "listen".to_owned(),
        offset,
        node: Node::List(vec![Node::Text(listen)]),
    })
}

/// Lists the keys of all tables with their dotted names. An empty table that is no section counts as a key: it is
/// reported as unknown.
fn flatten(prefix: &str, table: Vec<Entry>, flat: &mut Vec<Entry>) {
    for entry in table {
        let key = format!("{prefix}{}", one_line(OsStr::new(&entry.name)));
        match entry.node {
            Node::Table(inner) if inner.is_empty() && is_section(&key) => {}
            Node::Table(inner) if !inner.is_empty() && is_above_settings(&key) => {
                flatten(&format!("{key}."), inner, flat);
            }
            node => flat.push(Entry {
                name: key,
                node,
                ..entry
            }),
        }
    }
}

/// Whether the table `key` is neither a value nor in the place of a list of tables.
fn is_above_settings(key: &str) -> bool {
    Setting::find(key).is_none() && Tables::find(key).is_none()
}

fn is_section(name: &str) -> bool {
    let is_in = |setting: &Setting| {
        let rest = setting.key.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    SETTINGS.iter().any(is_in) || Tables::any_in(name)
}

fn give(entry: Entry, path: &Path, text: &str) -> Result<Option<Given>, ConfigError> {
    let key = &entry.name;
    let origin = place(path, text.as_bytes(), entry.offset);
    if let Some(tables) = Tables::find(key) {
        return give_tables(tables, entry, path, text).map(Some);
    }
    if is_section(key) {
        return Err(ConfigError::new(format!(
            "{origin}: {key} is a section; write [{key}] and its settings on the lines below"
        )));
    }
    let Some(setting) = Setting::find(key) else {
        return foreign(key, Some(&entry.node), origin).map(Some);
    };
    match entry.node.to_value(setting) {
        Ok(None) => Ok(None),
        Ok(Some(value)) => Ok(Some(Given::Value {
            setting,
            value,
            origin,
        })),
        Err((shown, problem)) => Err(refused(&origin, setting.key, setting.kind, &shown, problem)),
    }
}

fn give_tables(
    tables: Tables,
    entry: Entry,
    path: &Path,
    text: &str,
) -> Result<Given, ConfigError> {
    let origin = place(path, text.as_bytes(), entry.offset);
    let Node::List(items) = entry.node else {
        return Err(not_tables(tables, &origin));
    };
    let mut given = Vec::new();
    for item in items {
        let Node::Table(inner) = item else {
            return Err(not_tables(tables, &origin));
        };
        given.push(table_entries(inner, &origin, path, text));
    }
    Ok(Given::Tables {
        tables,
        given,
        origin,
    })
}

fn not_tables(tables: Tables, origin: &Origin) -> ConfigError {
    let key = tables.key();
    ConfigError::new(format!(
        "{origin}: {key} is a list of tables; write [[{key}]] and the settings of each on the lines below"
    ))
}

/// The keys of one table, and the place of its first.
fn table_entries(
    table: Vec<Entry>,
    list: &Origin,
    path: &Path,
    text: &str,
) -> (TableEntries, Origin) {
    let mut flat = Vec::new();
    flatten_table("", table, &mut flat);
    let located = |entry: Entry| {
        let origin = place(path, text.as_bytes(), entry.offset);
        (entry.name, entry.node, origin)
    };
    let entries: TableEntries = flat.into_iter().map(located).collect();
    let first = entries.first().map_or(list, |(.., origin)| origin).clone();
    (entries, first)
}

/// As [`flatten`], for tables in lists; one of header fields stays whole.
fn flatten_table(prefix: &str, table: Vec<Entry>, flat: &mut Vec<Entry>) {
    for entry in table {
        let key = format!("{prefix}{}", one_line(OsStr::new(&entry.name)));
        match entry.node {
            Node::Table(inner) if !key.ends_with("headers") => {
                flatten_table(&format!("{key}."), inner, flat);
            }
            node => flat.push(Entry {
                name: key,
                node,
                ..entry
            }),
        }
    }
}
