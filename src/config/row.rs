//! A row of a table of settings, and the macros that declare a group of rows once and use it in several places.

use super::settings::{Config, SETTINGS};
use super::value::{Form, Item, Kind, Value};

/// One value of a `T`: where it stands, what it takes, what it does.
pub struct Row<T: 'static> {
    /// Dotted name as in the file and in `--set`: `heartbeat.ping_interval_ms`.
    pub key: &'static str,
    /// What it takes, with its bounds.
    pub kind: Kind,
    pub(super) doc: &'static str,
    pub(super) get: fn(&T) -> Value,
    pub(super) set: fn(&mut T, &Value) -> Result<(), String>,
}

/// One setting: a row of [`SETTINGS`].
pub type Setting = Row<Config>;

impl<T> Clone for Row<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Row<T> {}

/// Settings that occur in several places, such as the options of a channel namespace.
pub(super) trait Group: Clone + Default + 'static {
    const ROWS: &'static [Row<Self>];
}

impl<T> Row<T> {
    /// One line on what the setting does.
    pub fn doc(&self) -> &'static str {
        self.doc.trim()
    }

    /// The value in `holder`.
    pub fn get(&self, holder: &T) -> Value {
        self.kind.written((self.get)(holder))
    }

    /// Sets the value in `holder`, or says what is wrong with it: its type, its range, or one of its items.
    pub fn set(&self, holder: &mut T, value: &Value) -> Result<(), String> {
        self.kind.check(value)?;
        (self.set)(holder, &self.kind.stored(value))
    }

    /// The value as TOML; a secret is `"***"`.
    pub(super) fn shown(&self, value: &Value) -> String {
        let stars = || "***".to_owned();
        match (value, self.kind) {
            _ if !self.is_secret() => value.to_string(),
            (Value::List(items), _) => Value::List(vec![stars(); items.len()]).to_string(),
            (Value::Map(pairs), _) => {
                let hidden = |(name, _): &(String, String)| (name.clone(), stars());
                Value::Map(pairs.iter().map(hidden).collect()).to_string()
            }
            (Value::Text(text), Kind::Text(_)) if text.is_empty() => value.to_string(),
            (Value::Text(_), Kind::Text(_)) => Value::Text(stars()).to_string(),
            _ => stars(),
        }
    }

    pub(super) fn is_secret(&self) -> bool {
        matches!(
            self.kind,
            Kind::List(Item::Secret) | Kind::Text(Form::Secret | Form::Key) | Kind::Headers
        )
    }
}

impl Setting {
    /// The environment variable: `LONGWIRE_HEARTBEAT__PING_INTERVAL_MS`.
    pub fn env_name(&self) -> String {
        format!(
            "{}{}",
            super::sources::ENV_PREFIX,
            self.key.replace('.', "__").to_uppercase()
        )
    }

    /// The default value where a configuration names `client` or `channel`; see [`Config::default`].
    pub fn default_value(&self) -> Value {
        self.get(&Config::declared())
    }

    /// `("heartbeat", "ping_interval_ms")`; the section is empty for a top-level key.
    pub(super) fn section_and_name(&self) -> (&'static str, &'static str) {
        self.key.rsplit_once('.').unwrap_or(("", self.key))
    }

    /// The setting called `key`.
    pub(super) fn find(key: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }
}

/// The name of a field in the configuration, which may differ from the field's: `history_ttl` for `history_ttl_s`.
macro_rules! key_of {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

/// Declares a struct with a field per row, its defaults, and its rows.
///
/// A row: `/// one line of documentation` and `field "key": Type = default, kind and bounds;`, the key only where it
/// is not the field's name.
macro_rules! group {
    (
        [$(#[doc = $group_doc:literal])* $Group:ident]
        $(#[doc = $doc:literal] $field:ident $($key:literal)?: $type:ty = $default:expr, $kind:expr;)*
    ) => {
        $(#[doc = $group_doc])*
        #[derive(Clone, PartialEq)]
        pub struct $Group {
            $(
                #[doc = $doc]
                #[doc = concat!("\n\nDefault: `", stringify!($default), "`; takes `", stringify!($kind), "`.")]
                pub $field: $type,
            )*
        }

        impl Default for $Group {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::config::row::Group for $Group {
            const ROWS: &'static [$crate::config::row::Row<Self>] = &[
                $($crate::config::row::Row {
                    key: key_of!($field $($key)?),
                    kind: $kind,
                    doc: $doc,
                    get: |group| group.$field.write(),
                    set: |group, value| {
                        group.$field = Field::read(value)?;
                        Ok(())
                    },
                },)*
            ];
        }

        /// Prints keys and values; secrets as `***`.
        impl std::fmt::Debug for $Group {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $crate::config::row::debug_rows(self, f)
            }
        }
    };
}

/// The settings for a group that stands at a place of [`Config`]: `["client.token" (client.token)]`.
macro_rules! settings_at {
    (
        [$place:literal $path:tt]
        $(#[doc = $doc:literal] $field:ident $($key:literal)?: $type:ty = $default:expr, $kind:expr;)*
    ) => {
        &[$($crate::config::row::Row {
            key: concat!($place, ".", key_of!($field $($key)?)),
            kind: $kind,
            doc: $doc,
            get: |config| field_of!(config $path).$field.write(),
            set: |config, value| {
                field_of!(config $path).$field = Field::read(value)?;
                Ok(())
            },
        },)*]
    };
}

/// A field within fields.
macro_rules! field_of {
    ($holder:ident ($($path:ident).+)) => {
        $holder.$($path).+
    };
}

pub(super) use {field_of, group, key_of, settings_at};

pub(super) fn debug_rows<T: Group>(group: &T, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    let mut map = f.debug_map();
    for row in T::ROWS {
        let shown = row.shown(&row.get(group));
        map.entry(&format_args!("{}", row.key), &format_args!("{shown}"));
    }
    map.finish()
}
