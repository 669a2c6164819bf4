//! The configuration: every setting declared once, read from a TOML file, then the environment, then flags.
//!
//! - `settings`: the one table. A row is a field of [`Config`], its default, its bounds and its documentation;
//!   loading, error texts, `--help`, the README's table and `check` all come from it. To add a setting, add a row.
//! - `value`: what a setting can hold, and the text forms of it.
//! - `sources`, `file`: the file, the environment and the flags, each value with the place it came from.
//! - `network`: ranges of addresses.
//! - `rules`: relations between settings, the rule against open servers without keys, and warnings.
//! - `show`: the table and the effective configuration, printed.

mod file;
mod nearest;
mod network;
mod rules;
mod settings;
mod show;
mod sources;
mod value;

pub use network::Network;
pub use rules::check_addresses;
pub(crate) use settings::MAX_SHARDS;
pub use settings::{
    Admission, Channels, Config, Drain, Fanout, Heartbeat, Http, Inbox, Outbox, SETTINGS, Setting,
    Tcp, WebSocket,
};
pub use show::{table_help, table_markdown};
pub use sources::{Assignment, ConfigError, Loaded, Origin, Sources, load};
pub use value::{Item, Kind, LogFormat, LogLevel, Unit, Value};
