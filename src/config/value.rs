//! Values of settings: their kinds and bounds, and their forms in text.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use regex::Regex;

use super::Network;
use super::duration::parse_ns;
use crate::proto::origin::{Origin, OriginPattern};

/// A value of a setting, whatever source it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `true` or `false`.
    Flag(bool),
    /// A whole number from 0 up.
    Number(u64),
    /// A string.
    Text(String),
    /// A list of strings.
    List(Vec<String>),
    /// Names and what each stands for.
    Map(Vec<(String, String)>),
}

/// What a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number within bounds, both included.
    Number {
        /// What is counted.
        unit: Unit,
        /// The least value.
        min: u64,
        /// The greatest value.
        max: u64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Name of a congestion control algorithm as the kernel knows it, or empty.
    Algorithm,
    /// A string of this form.
    Text(Form),
    /// A time as text, such as `300s`; both bounds included.
    Duration {
        /// What it is rounded up to and kept in.
        unit: TimeUnit,
        /// The least value.
        min: u64,
        /// The greatest value.
        max: u64,
    },
    /// Header fields by their names; in the environment and in flags a JSON object.
    Headers,
    /// A list; in the environment and in flags separated by commas.
    List(Item),
}

/// Unit of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Millis,
    /// Milliseconds, rounded up to whole seconds where they are used.
    MillisInSeconds,
}

/// What a string is. All but [`Form::Name`] may be empty, which means: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Anything.
    Any,
    /// Anything, never shown.
    Secret,
    /// A secret that is sent in a header, never shown.
    Key,
    /// A file or folder.
    Path,
    /// An address of an HTTP server.
    Url,
    /// A regular expression.
    Regex,
    /// A name of letters, digits, `_`, `-` and `.`.
    Name,
    /// A few ASCII characters that mark a part of a channel's name.
    Marker,
}

/// Unit of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Whole seconds.
    Seconds,
    /// Whole milliseconds.
    Millis,
}

/// What each item of a list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// An IP address and a port.
    Address,
    /// A channel name.
    Channel,
    /// A secret that is sent in a header.
    Secret,
    /// An origin as a browser sends it (RFC 6454 section 7), or all hosts below one.
    WebOrigin,
    /// A network in CIDR notation, or one address.
    Network,
    /// [`Item::WebOrigin`], or `*` for all.
    WebOriginOrAny,
    /// A way to send differences between publications.
    DeltaType,
    /// The name of a header field.
    Header,
    /// A method of the server API.
    ApiMethod,
}

impl Unit {
    /// The unit's name with a comma before it, or nothing for a plain count.
    fn suffix(self) -> &'static str {
        match self {
            Unit::Count => "",
            Unit::Bytes => " bytes",
            Unit::Millis => " milliseconds",
            Unit::MillisInSeconds => " milliseconds, rounded up to whole seconds",
        }
    }
}

impl Item {
    fn check(self, item: &str) -> bool {
        match self {
            Item::Address => item.parse::<SocketAddr>().is_ok(),
            Item::Channel => !item.is_empty(),
            Item::Secret => !item.is_empty() && item.bytes().all(|b| b.is_ascii_graphic()),
            Item::WebOrigin => OriginPattern::parse(item).is_some(),
            Item::Network => item.parse::<Network>().is_ok(),
            Item::WebOriginOrAny => AllowedOrigin::parse(item).is_some(),
            Item::DeltaType => item == "fossil",
            Item::Header => is_header_name(item),
            Item::ApiMethod => !item.is_empty() && item.bytes().all(is_method_byte),
        }
    }

    fn expects(self) -> &'static str {
        match self {
            Item::Address => "a list of addresses such as 127.0.0.1:8000 or [::]:8000",
            Item::Channel => "a list of channel names",
            Item::Secret => "a list of keys of printable ASCII characters without spaces",
            Item::WebOrigin => {
                "a list of origins such as https://example.com or https://*.example.com, lower case, without a path"
            }
            Item::Network => "a list of networks such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.1",
            Item::WebOriginOrAny => {
                "a list of origins such as https://example.com or https://*.example.com, or * for all"
            }
            Item::DeltaType => "a list that may have fossil",
            Item::Header => "a list of names of header fields",
            Item::ApiMethod => "a list of methods of the server API such as publish",
        }
    }
}

impl Form {
    fn check(self, text: &str) -> Result<(), String> {
        let is_valid = match self {
            Form::Any | Form::Secret => true,
            Form::Key => text.bytes().all(|b| b.is_ascii_graphic()),
            Form::Path => !text.contains('\0'),
            Form::Url => text.is_empty() || is_url(text),
            Form::Regex => return check_regex(text),
            Form::Name => is_name(text),
            Form::Marker => text.len() <= 8 && text.bytes().all(|b| b.is_ascii_graphic()),
        };
        match is_valid {
            true => Ok(()),
            false => Err("not valid".to_owned()),
        }
    }

    fn expects(self) -> &'static str {
        match self {
            Form::Any => "a text",
            Form::Secret => "a secret; or nothing",
            Form::Key => "a key of printable ASCII characters without spaces; or nothing",
            Form::Path => "a path; or nothing",
            Form::Url => "a URL such as http://127.0.0.1:3000/hook; or nothing",
            Form::Regex => "a regular expression; or nothing",
            Form::Name => "a name of letters, digits, _, - and .",
            Form::Marker => "up to 8 printable ASCII characters; or nothing",
        }
    }
}

impl TimeUnit {
    fn nanos(self) -> u128 {
        match self {
            TimeUnit::Seconds => 1_000_000_000,
            TimeUnit::Millis => 1_000_000,
        }
    }

    /// The time, rounded up to this unit.
    fn parse(self, text: &str) -> Option<u64> {
        let units = parse_ns(text)?.div_ceil(self.nanos());
        u64::try_from(units).ok()
    }

    fn write(self, number: u64) -> String {
        match self {
            TimeUnit::Millis if !number.is_multiple_of(1_000) => format!("{number}ms"),
            TimeUnit::Millis => format!("{}s", number / 1_000),
            TimeUnit::Seconds => format!("{number}s"),
        }
    }
}

fn check_regex(text: &str) -> Result<(), String> {
    match Regex::new(text) {
        Ok(_) => Ok(()),
        // The crate's own text has several lines.
        Err(regex::Error::CompiledTooBig(_)) => Err("too large".to_owned()),
        Err(_) => Err("not a regular expression".to_owned()),
    }
}

/// Letters, digits, `_`, `-` and `.`, at least one.
pub(super) fn is_name(text: &str) -> bool {
    let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !text.is_empty() && text.bytes().all(is_name_byte)
}

fn is_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        !rest.is_empty()
            && !rest.starts_with(['/', ':', '?', '#'])
            && rest.bytes().all(|b| b.is_ascii_graphic())
    })
}

/// A token (RFC 9110 section 5.6.2).
fn is_header_name(text: &str) -> bool {
    let is_token_byte = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_method_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte == b'_'
}

/// What the kernel allows in the name of a congestion control (TCP_CA_NAME_MAX is 16 with the final zero).
fn is_algorithm(text: &str) -> bool {
    text.len() < 16
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

impl Kind {
    /// What a value must be, for error texts and tables: `1 to 127`, `true or false`.
    pub fn expects(self) -> String {
        match self {
            Kind::Flag => "true or false".to_owned(),
            Kind::Number { unit, min, max } => format!("{min} to {max}{}", unit.suffix()),
            Kind::Choice(names) => match names {
                ["", names @ ..] => format!("{}; or nothing", names.join(", ")),
                names => names.join(", "),
            },
            Kind::Algorithm => "a name of up to 15 letters, digits, _ or -; or nothing".to_owned(),
            Kind::Text(form) => form.expects().to_owned(),
            Kind::Duration { unit, min, max } => {
                let (min, max) = (unit.write(min), unit.write(max));
                format!("a time from {min} to {max}, such as 1s, 5m or 1h")
            }
            Kind::Headers => "header fields and their values".to_owned(),
            Kind::List(item) => item.expects().to_owned(),
        }
    }

    /// The value as a field keeps it.
    pub(super) fn stored(self, value: &Value) -> Value {
        match (self, value) {
            (Kind::Duration { unit, .. }, Value::Text(text)) => {
                Value::Number(unit.parse(text).unwrap_or(0))
            }
            _ => value.clone(),
        }
    }

    /// The value as it is written in a file, from what a field keeps.
    pub(super) fn written(self, value: Value) -> Value {
        match (self, value) {
            (Kind::Duration { unit, .. }, Value::Number(number)) => Value::Text(unit.write(number)),
            (_, value) => value,
        }
    }

    /// Reads the form used in the environment and in flags. The error is what is wrong with `text`.
    pub(super) fn parse(self, text: &str) -> Result<Value, String> {
        match self {
            Kind::Flag => match text {
                "true" => Ok(Value::Flag(true)),
                "false" => Ok(Value::Flag(false)),
                _ => Err("neither true nor false".to_owned()),
            },
            Kind::Number { .. } => parse_number(text).map(Value::Number),
            Kind::Choice(_) | Kind::Algorithm | Kind::Text(_) | Kind::Duration { .. } => {
                Ok(Value::Text(text.to_owned()))
            }
            Kind::Headers => parse_headers(text).map(Value::Map),
            Kind::List(_) => parse_list(text).map(Value::List),
        }
    }

    /// Whether the value has this kind's type and lies within its bounds. The error is what is wrong with it.
    pub(super) fn check(self, value: &Value) -> Result<(), String> {
        let problem = match (self, value) {
            (Kind::Flag, Value::Flag(_)) => return Ok(()),
            (Kind::Number { min, max, .. }, Value::Number(number)) => {
                if (min..=max).contains(number) {
                    return Ok(());
                }
                "out of range".to_owned()
            }
            (Kind::Choice(names), Value::Text(text)) => {
                if names.contains(&text.as_str()) {
                    return Ok(());
                }
                "not one of its values".to_owned()
            }
            (Kind::Algorithm, Value::Text(text)) => {
                if is_algorithm(text) {
                    return Ok(());
                }
                "not a name".to_owned()
            }
            (Kind::Text(form), Value::Text(text)) => return form.check(text),
            (Kind::Duration { unit, min, max }, Value::Text(text)) => match unit.parse(text) {
                Some(number) if (min..=max).contains(&number) => return Ok(()),
                Some(_) => "out of range".to_owned(),
                None => "not a time".to_owned(),
            },
            (Kind::Headers, Value::Map(pairs)) => return check_headers(pairs),
            (Kind::List(item), Value::List(items)) => return check_items(item, items),
            _ => "wrong type".to_owned(),
        };
        Err(problem)
    }
}

fn check_items(item: Item, items: &[String]) -> Result<(), String> {
    match items.iter().position(|text| !item.check(text)) {
        None => Ok(()),
        Some(index) => Err(format!("item {} is not valid", index + 1)),
    }
}

fn parse_headers(text: &str) -> Result<Vec<(String, String)>, String> {
    let map: BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|_| "not a JSON object of strings".to_owned())?;
    Ok(map.into_iter().collect())
}

fn check_headers(pairs: &[(String, String)]) -> Result<(), String> {
    let is_value = |text: &str| text.bytes().all(|b| matches!(b, b' '..=b'~'));
    let is_valid = |(name, value): &(String, String)| is_header_name(name) && is_value(value);
    match pairs.iter().position(|pair| !is_valid(pair)) {
        None => Ok(()),
        Some(index) => Err(format!("header field {} is not valid", index + 1)),
    }
}

/// Digits, with the underscores TOML allows between them.
fn parse_number(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err("not a whole number".to_owned());
    }
    digits.parse().map_err(|_| "out of range".to_owned())
}

fn parse_list(text: &str) -> Result<Vec<String>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    // A list in the file's form would otherwise become one item with brackets and quotes in it. The address
    // [::]:8000 also begins with a bracket.
    if text.starts_with('[') && text.ends_with(']') {
        return Err("has brackets; here a list is written a,b".to_owned());
    }
    Ok(text.split(',').map(|item| item.trim().to_owned()).collect())
}

/// The value as TOML on one line.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Flag(flag) => write!(f, "{flag}"),
            Value::Number(number) => write!(f, "{number}"),
            Value::Text(text) => f.write_str(&quoted(text)),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Value::Map(pairs) => {
                let pair = |(name, value): &(String, String)| {
                    format!("{} = {}", quoted(name), quoted(value))
                };
                let pairs: Vec<String> = pairs.iter().map(pair).collect();
                write!(f, "{{{}}}", pairs.join(", "))
            }
        }
    }
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A type that a field of [`super::Config`] can have.
pub(super) trait Field: Sized {
    /// Takes a value that its [`Kind`] has admitted. The error is what is wrong with the value.
    fn read(value: &Value) -> Result<Self, String>;
    fn write(&self) -> Value;
}

pub(super) fn wrong_type<T>() -> Result<T, String> {
    Err("wrong type".to_owned())
}

impl Field for bool {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Flag(flag) => Ok(*flag),
            _ => wrong_type(),
        }
    }

    fn write(&self) -> Value {
        Value::Flag(*self)
    }
}

/// A number of any width; the bounds of its setting are within it.
macro_rules! number_fields {
    ($($number:ty)*) => {$(
        impl Field for $number {
            fn read(value: &Value) -> Result<Self, String> {
                match value {
                    Value::Number(number) => Self::try_from(*number).map_err(|e| e.to_string()),
                    _ => wrong_type(),
                }
            }

            fn write(&self) -> Value {
                Value::Number(*self as u64)
            }
        }
    )*};
}

number_fields! { u8 u32 usize }

impl Field for String {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) => Ok(text.clone()),
            _ => wrong_type(),
        }
    }

    fn write(&self) -> Value {
        Value::Text(self.clone())
    }
}

impl Field for Vec<String> {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::List(items) => Ok(items.clone()),
            _ => wrong_type(),
        }
    }

    fn write(&self) -> Value {
        Value::List(self.clone())
    }
}

/// Reads each item of a list.
fn read_list<T>(value: &Value, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    let parse = |text: &String| parse(text).ok_or_else(|| format!("{text} is not valid"));
    match value {
        Value::List(items) => items.iter().map(parse).collect(),
        _ => wrong_type(),
    }
}

impl Field for Vec<SocketAddr> {
    fn read(value: &Value) -> Result<Self, String> {
        read_list(value, |text| text.parse().ok())
    }

    fn write(&self) -> Value {
        Value::List(self.iter().map(SocketAddr::to_string).collect())
    }
}

impl Field for Vec<Network> {
    fn read(value: &Value) -> Result<Self, String> {
        read_list(value, |text| text.parse().ok())
    }

    fn write(&self) -> Value {
        Value::List(self.iter().map(Network::to_string).collect())
    }
}

impl Field for Vec<OriginPattern> {
    fn read(value: &Value) -> Result<Self, String> {
        read_list(value, OriginPattern::parse)
    }

    fn write(&self) -> Value {
        Value::List(self.iter().map(OriginPattern::to_string).collect())
    }
}

impl Field for Vec<AllowedOrigin> {
    fn read(value: &Value) -> Result<Self, String> {
        read_list(value, AllowedOrigin::parse)
    }

    fn write(&self) -> Value {
        Value::List(self.iter().map(AllowedOrigin::to_string).collect())
    }
}

impl Field for Vec<(String, String)> {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Map(pairs) => Ok(pairs.clone()),
            _ => wrong_type(),
        }
    }

    fn write(&self) -> Value {
        Value::Map(self.clone())
    }
}

/// Origins to allow: one pattern, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// `*`.
    Any,
    /// What the pattern matches.
    Pattern(OriginPattern),
}

impl AllowedOrigin {
    /// Reads `*` or a pattern; `None` if it could never match what a browser sends.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "*" => Some(Self::Any),
            _ => OriginPattern::parse(text).map(Self::Pattern),
        }
    }

    /// Whether `origin` is one of them.
    pub fn matches(&self, origin: &Origin<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Pattern(pattern) => pattern.matches(origin),
        }
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

/// A regular expression that need only match a part, or none at all.
#[derive(Clone, Debug, Default)]
pub struct Pattern(Option<Regex>);

impl Pattern {
    /// Compiles `text`; empty = none.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn new(text: &str) -> Result<Self, String> {
        check_regex(text)?;
        Ok(match text {
            "" => Self(None),
            _ => Self(Regex::new(text).ok()),
        })
    }

    /// The expression, if there is one.
    pub fn regex(&self) -> Option<&Regex> {
        self.0.as_ref()
    }

    /// The expression's text; empty if there is none.
    pub fn as_str(&self) -> &str {
        self.0.as_ref().map_or("", Regex::as_str)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Field for Pattern {
    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) => Self::new(text),
            _ => wrong_type(),
        }
    }

    fn write(&self) -> Value {
        Value::Text(self.as_str().to_owned())
    }
}

/// Declares an enum whose variants are words in the configuration.
macro_rules! choice {
    ($(#[doc = $doc:literal])* $Name:ident { $(#[doc = $vdoc:literal] $Variant:ident = $word:literal,)* }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Name { $(#[doc = $vdoc] $Variant,)* }

        impl $Name {
            /// The words, in the order of the variants.
            pub const NAMES: &[&str] = &[$($word),*];
        }

        impl Field for $Name {
            fn read(value: &Value) -> Result<Self, String> {
                match value {
                    Value::Text(text) => match text.as_str() {
                        $($word => Ok($Name::$Variant),)*
                        _ => Err("not one of its values".to_owned()),
                    },
                    _ => $crate::config::value::wrong_type(),
                }
            }

            fn write(&self) -> Value {
                Value::Text(match self { $($Name::$Variant => $word,)* }.to_owned())
            }
        }
    };
}

choice! {
    /// Least severe events that are logged.
    LogLevel {
        /// Something failed that the operator must look at.
        Error = "error",
        /// Something the operator may have to look at.
        Warn = "warn",
        /// Start, stop and the like.
        Info = "info",
        /// Single connections.
        Debug = "debug",
        /// Single messages.
        Trace = "trace",
    }
}

choice! {
    /// Form of a log line.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

pub(super) use choice;

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Kind = Kind::Number {
        unit: Unit::Count,
        min: 1,
        max: 100,
    };

    #[test]
    fn numbers_are_plain_digits() {
        assert_eq!(SMALL.parse("1_0"), Ok(Value::Number(10)));
        for text in ["", "-1", "+1", "1.5", "0x10", "10s", "99999999999999999999"] {
            assert!(SMALL.parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let list = Kind::List(Item::Channel);
        let items = |items: &[&str]| Ok(Value::List(items.iter().map(|&i| i.into()).collect()));
        assert_eq!(list.parse("a, b"), items(&["a", "b"]));
        assert_eq!(list.parse(""), items(&[]));
        assert!(list.parse(r#"["a"]"#).is_err());
        assert_eq!(list.parse("[::1]:80"), items(&["[::1]:80"]));
    }

    #[test]
    fn items_that_could_never_match_are_refused() {
        let refused = [
            (Item::Address, "localhost:8000"),
            (Item::Address, ":8000"),
            (Item::Channel, ""),
            (Item::Secret, ""),
            (Item::Secret, "a b"),
            (Item::Secret, "schl\u{fc}ssel"),
            (Item::WebOrigin, "example.com"),
            (Item::WebOrigin, "https://example.com/"),
            (Item::WebOrigin, "https://Example.com"),
            (Item::Network, "10.0.0.1/8"),
            (Item::Network, "localhost"),
            (Item::WebOrigin, "*"),
        ];
        for (item, text) in refused {
            assert!(!item.check(text), "{text}");
        }
        assert!(Item::WebOrigin.check("http://localhost:3000"));
        assert!(Item::WebOrigin.check("http://[::1]:3000"));
        assert!(Item::WebOrigin.check("https://*.example.com"));
        assert!(Item::Network.check("10.0.0.0/8"));
        assert!(Item::Address.check("[::]:8000"));
    }

    #[test]
    fn a_value_prints_as_toml_on_one_line() {
        let value = Value::List(vec!["a\"b\\".to_owned(), "\n\u{7f}".to_owned()]);
        let text = value.to_string();
        assert_eq!(text, r#"["a\"b\\", "\u000a\u007f"]"#);
        let parsed: toml::Table = format!("x = {text}").parse().unwrap();
        assert_eq!(parsed["x"][1].as_str(), Some("\n\u{7f}"));
    }

    #[test]
    fn times_are_rounded_up_and_written_as_they_are_read() {
        for (unit, text, number, written) in [
            (TimeUnit::Seconds, "1500ms", 2, "2s"),
            (TimeUnit::Seconds, "5m", 300, "300s"),
            (TimeUnit::Millis, "1500ms", 1_500, "1500ms"),
            (TimeUnit::Millis, "100us", 1, "1ms"),
            (TimeUnit::Millis, "2s", 2_000, "2s"),
        ] {
            assert_eq!(unit.parse(text), Some(number), "{text}");
            assert_eq!(unit.write(number), written);
            assert_eq!(unit.parse(written), Some(number), "{written}");
        }
    }

    #[test]
    fn forms_refuse_what_could_never_work() {
        for (form, good, bad) in [
            (Form::Url, "https://a.example/x?y", "ftp://a"),
            (Form::Url, "", "http://"),
            (Form::Url, "http://[::1]:80/", "http:///x"),
            (Form::Regex, "^a|b$", "(?=x)"),
            (Form::Name, "a.b-c_D1", "a b"),
            (Form::Name, "default", ""),
            (Form::Marker, "::", "\u{a7}"),
            (Form::Key, "k3y", "k y"),
            (Form::Path, "/a b", "\0"),
        ] {
            assert_eq!(form.check(good), Ok(()), "{good}");
            assert!(form.check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn header_fields_are_a_json_object() {
        let pairs = |name: &str, value: &str| Ok(Value::Map(vec![(name.into(), value.into())]));
        let parsed = Kind::Headers.parse(r#"{"X-A":"b, c"}"#);
        assert_eq!(parsed, pairs("X-A", "b, c"));
        assert!(Kind::Headers.parse("X-A: b").is_err());
        let check = |name, value| Kind::Headers.check(&pairs(name, value).unwrap());
        assert_eq!(check("X-A", "b"), Ok(()));
        assert!(check("X A", "b").is_err() && check("X-A", "b\r\nY: c").is_err());
    }

    #[test]
    fn all_origins_are_a_star() {
        let example = Origin::parse("https://example.com").unwrap();
        let matches = |text| AllowedOrigin::parse(text).map(|allowed| allowed.matches(&example));
        assert_eq!(matches("*"), Some(true));
        assert_eq!(matches("https://example.com"), Some(true));
        assert_eq!(matches("https://*.example.com"), Some(false));
        assert_eq!(matches("*.example.com"), None);
    }

    #[test]
    fn algorithm_names_fit_the_kernel() {
        assert!(is_algorithm("") && is_algorithm("bbr") && is_algorithm("abcdefghijklmno"));
        assert!(!is_algorithm("abcdefghijklmnop") && !is_algorithm("b b"));
    }
}
