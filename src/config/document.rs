//! A configuration file as a tree, whatever language it is written in: TOML or JSON.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use toml::de::{DeTable, DeValue};

use super::row::Row;
use super::value::{Kind, Value};

/// Deepest nesting of a file; no setting is nearly as deep.
const MAX_DEPTH: usize = 16;

/// A value of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Flag(bool),
    Number(u64),
    /// A negative or very large whole number, as written.
    OtherInteger(String),
    Text(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
    /// What no setting takes, as written.
    Other(String),
}

/// A key with its value, and where the key stands: bytes from the start of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) offset: usize,
    pub(super) node: Node,
}

/// Where a file is not what it should be, and why.
pub(super) struct Malformed {
    pub(super) offset: usize,
    pub(super) message: String,
}

impl Node {
    /// The value for `row`; `None` where there is none: `null`, or an empty text for one of several words. The error is
    /// how to show what no such setting takes, and what is wrong with it.
    pub(super) fn to_value<T>(&self, row: &Row<T>) -> Result<Option<Value>, (String, String)> {
        let wrong = |shown: &str, problem: &str| {
            let shown = if row.is_secret() { "***" } else { shown };
            Err((shown.to_owned(), problem.to_owned()))
        };
        match self {
            Node::Flag(flag) => Ok(Some(Value::Flag(*flag))),
            Node::Number(number) => Ok(Some(Value::Number(*number))),
            Node::Text(text) if text.is_empty() && is_optional_word(row.kind) => Ok(None),
            Node::Text(text) => Ok(Some(Value::Text(text.clone()))),
            Node::List(items) => match texts(items) {
                Some(items) => Ok(Some(Value::List(items))),
                None => wrong("a list of other things than strings", "wrong type"),
            },
            Node::Table(entries) if row.kind == Kind::Headers => match pairs(entries) {
                Some(pairs) => Ok(Some(Value::Map(pairs))),
                None => wrong("a table of other things than strings", "wrong type"),
            },
            Node::Table(_) => wrong("a table", "wrong type"),
            Node::OtherInteger(text) => match row.kind {
                Kind::Number { .. } => wrong(text, "out of range"),
                _ => wrong(text, "wrong type"),
            },
            Node::Other(text) if text == "null" => Ok(None),
            Node::Other(text) => wrong(text, "wrong type"),
        }
    }

    /// Whether the value turns nothing on: `false`, 0, empty, `null`, or a table of such.
    pub(super) fn is_off(&self) -> bool {
        match self {
            Node::Flag(flag) => !flag,
            Node::Number(number) => *number == 0,
            Node::Text(text) => text.is_empty(),
            Node::List(items) => items.is_empty(),
            Node::Table(entries) => entries.iter().all(|entry| entry.node.is_off()),
            Node::Other(text) => text == "null",
            Node::OtherInteger(_) => false,
        }
    }
}

fn is_optional_word(kind: Kind) -> bool {
    matches!(kind, Kind::Choice(names) if !names.contains(&""))
}

fn texts(items: &[Node]) -> Option<Vec<String>> {
    let text = |item: &Node| match item {
        Node::Text(text) => Some(text.clone()),
        _ => None,
    };
    items.iter().map(text).collect()
}

fn pairs(entries: &[Entry]) -> Option<Vec<(String, String)>> {
    let pair = |entry: &Entry| match &entry.node {
        Node::Text(text) => Some((entry.name.clone(), text.clone())),
        _ => None,
    };
    entries.iter().map(pair).collect()
}

/// Reads TOML; the entries of each table are in the order of the file.
pub(super) fn parse_toml(text: &str) -> Result<Vec<Entry>, Malformed> {
    let table = DeTable::parse(text).map_err(|error| Malformed {
        offset: error.span().map_or(0, |span| span.start),
        message: error.message().to_owned(),
    })?;
    Ok(toml_entries(table.get_ref()))
}

fn toml_entries(table: &DeTable<'_>) -> Vec<Entry> {
    let entry = |(name, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| Entry {
        name: AsRef::<str>::as_ref(name.get_ref()).to_owned(),
        offset: name.span().start,
        node: toml_node(value.get_ref()),
    };
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(name, value): (&toml::Spanned<std::borrow::Cow<'_, str>>, _)| entry((name, value)))
        .collect();
    // The parser sorts keys by name.
    entries.sort_by_key(|entry| entry.offset);
    entries
}

fn toml_node(value: &DeValue<'_>) -> Node {
    match value {
        DeValue::Boolean(flag) => Node::Flag(*flag),
        DeValue::String(text) => Node::Text(text.to_string()),
        DeValue::Integer(number) => match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Node::Number(number),
            Err(_) => Node::OtherInteger(number.to_string()),
        },
        DeValue::Array(items) => {
            Node::List(items.iter().map(|item| toml_node(item.get_ref())).collect())
        }
        DeValue::Table(table) => Node::Table(toml_entries(table)),
        DeValue::Float(number) => Node::Other(number.to_string()),
        DeValue::Datetime(time) => Node::Other(time.to_string()),
    }
}

/// Reads JSON, which must be an object.
pub(super) fn parse_json(text: &str) -> Result<Vec<Entry>, Malformed> {
    let is_object = text.trim_start().starts_with('{');
    let root: &RawValue = serde_json::from_str(text).map_err(|error| Malformed {
        offset: offset_of_error(text, &error),
        message: error.to_string(),
    })?;
    if !is_object {
        return Err(Malformed {
            offset: 0,
            message: "not an object".to_owned(),
        });
    }
    json_entries(text, root, MAX_DEPTH)
}

/// An object's members as they stand, so that their places are known and none is lost where a name occurs twice.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

fn json_entries(text: &str, raw: &RawValue, depth: usize) -> Result<Vec<Entry>, Malformed> {
    let Members(members) = read_raw(text, raw)?;
    let entry = |(name, value): (String, &RawValue)| {
        Ok(Entry {
            name,
            offset: offset_of(text, value),
            node: json_node(text, value, depth)?,
        })
    };
    members.into_iter().map(entry).collect()
}

fn json_node(text: &str, raw: &RawValue, depth: usize) -> Result<Node, Malformed> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Malformed {
            offset: offset_of(text, raw),
            message: "nested too deeply".to_owned(),
        });
    };
    let shown = raw.get();
    Ok(match shown.as_bytes().first() {
        Some(b'{') => Node::Table(json_entries(text, raw, depth)?),
        Some(b'[') => {
            let items: Vec<&RawValue> = read_raw(text, raw)?;
            let items = items.into_iter().map(|item| json_node(text, item, depth));
            Node::List(items.collect::<Result<_, _>>()?)
        }
        Some(b'"') => Node::Text(read_raw(text, raw)?),
        Some(b't') => Node::Flag(true),
        Some(b'f') => Node::Flag(false),
        _ => match (shown.parse(), shown.contains(['.', 'e', 'E', 'n'])) {
            (Ok(number), _) => Node::Number(number),
            (Err(_), false) => Node::OtherInteger(shown.to_owned()),
            (Err(_), true) => Node::Other(shown.to_owned()),
        },
    })
}

fn read_raw<'a, T: Deserialize<'a>>(text: &str, raw: &'a RawValue) -> Result<T, Malformed> {
    serde_json::from_str(raw.get()).map_err(|error| Malformed {
        offset: offset_of(text, raw),
        message: error.to_string(),
    })
}

/// Where a part of `text` begins.
fn offset_of(text: &str, part: &RawValue) -> usize {
    let start = part.get().as_ptr().addr();
    start.saturating_sub(text.as_ptr().addr())
}

/// Where the line of a syntax error begins. One in column 0 was found at the end of the line before.
fn offset_of_error(text: &str, error: &serde_json::Error) -> usize {
    let line = match error.column() {
        0 => error.line().saturating_sub(1),
        _ => error.line(),
    };
    let lines = text.split_inclusive('\n');
    lines.take(line.saturating_sub(1)).map(str::len).sum()
}
