//! Arrays of tables: namespaces, named backends, keys. They come from a file only.

use std::collections::BTreeMap;

use super::document::Node;
use super::foreign::foreign_option;
use super::nearest::nearest_of;
use super::row::{Group, Row};
use super::settings::Config;
use super::sources::{ConfigError, Origin, refused};
use super::value::is_name;

/// An array of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tables {
    ChannelNamespaces,
    RpcNamespaces,
    Proxies,
    ApiKeys,
}

/// Keys and values of one table, each with its place.
pub(super) type TableEntries = Vec<(String, Node, Origin)>;

/// What was found while tables were read.
#[derive(Clone, Debug, Default)]
pub(super) struct TableNotes {
    /// Where values came from, by `channel.namespaces[chat].presence`.
    pub(super) origins: BTreeMap<String, Origin>,
    /// What was ignored, one line each.
    pub(super) ignored: Vec<String>,
}

impl Tables {
    const ALL: &[Tables] = &[
        Tables::ChannelNamespaces,
        Tables::RpcNamespaces,
        Tables::Proxies,
        Tables::ApiKeys,
    ];

    pub(super) const fn key(self) -> &'static str {
        match self {
            Tables::ChannelNamespaces => "channel.namespaces",
            Tables::RpcNamespaces => "rpc.namespaces",
            Tables::Proxies => "proxies",
            Tables::ApiKeys => "http_api.keys",
        }
    }

    pub(super) fn find(key: &str) -> Option<Tables> {
        Self::ALL.iter().copied().find(|tables| tables.key() == key)
    }

    /// Whether some array of tables has a key that begins with `section` and a dot.
    pub(super) fn any_in(section: &str) -> bool {
        let is_in = |tables: &Tables| {
            let rest = tables.key().strip_prefix(section);
            rest.is_some_and(|rest| rest.starts_with('.'))
        };
        Self::ALL.iter().any(is_in)
    }

    /// Puts the tables into the configuration.
    pub(super) fn apply(
        self,
        config: &mut Config,
        tables: &[(TableEntries, Origin)],
        notes: &mut TableNotes,
    ) -> Result<(), ConfigError> {
        match self {
            Tables::ChannelNamespaces => {
                let namespaces = read_named(self, tables, notes)?;
                config.channel.set_namespaces(namespaces);
            }
            Tables::RpcNamespaces => {
                let namespaces = read_named(self, tables, notes)?;
                config.rpc.set_namespaces(namespaces);
            }
            Tables::Proxies => config.proxies = read_named(self, tables, notes)?,
            Tables::ApiKeys => config.http_api_keys = read_numbered(self, tables, notes)?,
        }
        Ok(())
    }

    /// All tables of the configuration as TOML; secrets are `"***"`.
    pub(super) fn all_to_toml(config: &Config, notes: &TableNotes) -> String {
        let mut out = String::new();
        for (name, options) in &config.channel.namespaces {
            out += &table_to_toml(Self::ChannelNamespaces, Some(name), name, options, notes);
        }
        for (name, options) in &config.rpc.namespaces {
            out += &table_to_toml(Self::RpcNamespaces, Some(name), name, options, notes);
        }
        for (name, proxy) in &config.proxies {
            out += &table_to_toml(Self::Proxies, Some(name), name, proxy, notes);
        }
        for (index, key) in config.http_api_keys.iter().enumerate() {
            let label = (index + 1).to_string();
            out += &table_to_toml(Self::ApiKeys, None, &label, key, notes);
        }
        out
    }
}

fn table_to_toml<T: Group>(
    tables: Tables,
    name: Option<&str>,
    label: &str,
    group: &T,
    notes: &TableNotes,
) -> String {
    let mut out = format!("\n[[{}]]\n", tables.key());
    if let Some(name) = name {
        out += &format!("name = \"{name}\"\n");
    }
    for row in T::ROWS {
        let origin = notes
            .origins
            .get(&place(tables, label, row.key))
            .unwrap_or(&Origin::Default);
        let value = row.shown(&row.get(group));
        out += &format!("{} = {value}  # {origin}\n", row.key);
    }
    out
}

/// `channel.namespaces[chat].presence`.
pub(super) fn place(tables: Tables, label: &str, key: &str) -> String {
    format!("{}[{label}].{key}", tables.key())
}

/// Tables that are known by their names.
fn read_named<T: Group>(
    tables: Tables,
    given: &[(TableEntries, Origin)],
    notes: &mut TableNotes,
) -> Result<Vec<(String, T)>, ConfigError> {
    let mut groups: Vec<(String, T)> = Vec::new();
    for (entries, origin) in given {
        let name = name_of(tables, entries, origin)?;
        if groups.iter().any(|(known, _)| *known == name) {
            return Err(ConfigError::new(format!(
                "{origin}: {} has {name} twice; remove one of them",
                tables.key()
            )));
        }
        let rest = entries.iter().filter(|(key, ..)| key != "name");
        let group = read_group(tables, &name, rest, notes)?;
        groups.push((name, group));
    }
    Ok(groups)
}

fn read_numbered<T: Group>(
    tables: Tables,
    given: &[(TableEntries, Origin)],
    notes: &mut TableNotes,
) -> Result<Vec<T>, ConfigError> {
    let numbered = given.iter().enumerate();
    numbered
        .map(|(index, (entries, _))| {
            read_group(tables, &(index + 1).to_string(), entries.iter(), notes)
        })
        .collect()
}

fn name_of(tables: Tables, entries: &TableEntries, origin: &Origin) -> Result<String, ConfigError> {
    let key = tables.key();
    let mut names = entries.iter().filter(|(key, ..)| key == "name");
    match (names.next(), names.next()) {
        (Some((_, Node::Text(name), _)), None) if is_name(name) && name.len() >= 2 => {
            Ok(name.clone())
        }
        (Some((.., origin)), _) => Err(ConfigError::new(format!(
            "{origin}: {key}: name is not valid; takes a name of two or more letters, digits, _, - and ."
        ))),
        (None, _) => Err(ConfigError::new(format!(
            "{origin}: {key}: a table has no name; add name = \"...\""
        ))),
    }
}

fn read_group<'a, T: Group>(
    tables: Tables,
    label: &str,
    entries: impl Iterator<Item = &'a (String, Node, Origin)>,
    notes: &mut TableNotes,
) -> Result<T, ConfigError> {
    let mut group = T::default();
    for (key, node, origin) in entries {
        let place = place(tables, label, key);
        let Some(row) = T::ROWS.iter().find(|row| row.key == key) else {
            notes
                .ignored
                .push(ignored(&place, key, T::ROWS, node, origin)?);
            continue;
        };
        set(row, &place, &mut group, node, origin)?;
        if notes
            .origins
            .insert(place.clone(), origin.clone())
            .is_some()
        {
            return Err(ConfigError::new(format!(
                "{origin}: {place} is set twice; remove one of them"
            )));
        }
    }
    Ok(group)
}

/// What to say of a key that no row has, if it may be ignored.
fn ignored<T>(
    place: &str,
    key: &str,
    rows: &[Row<T>],
    node: &Node,
    origin: &Origin,
) -> Result<String, ConfigError> {
    if let Some(found) = foreign_option(place, node, origin) {
        return found;
    }
    let cure = match nearest_of(key, rows.iter().map(|row| row.key)) {
        Some(known) => format!("did you mean {known}?"),
        None => "longwire --help lists all settings".to_owned(),
    };
    Err(ConfigError::new(format!(
        "{origin}: unknown setting {place}; {cure}"
    )))
}

fn set<T: Group>(
    row: &Row<T>,
    place: &str,
    group: &mut T,
    node: &Node,
    origin: &Origin,
) -> Result<(), ConfigError> {
    let value = node
        .to_value(row)
        .map_err(|(shown, problem)| refused(origin, place, row.kind, &shown, problem))?;
    let Some(value) = value else { return Ok(()) };
    row.set(group, &value)
        .map_err(|problem| refused(origin, place, row.kind, &row.shown(&value), problem))
}
