//! The configuration: every setting declared once, read from a TOML file, then the environment, then flags.
//!
//! - `settings`: the one table. A row is a field of [`Config`], its default, its bounds and its documentation;
//!   loading, error texts, `--help`, the README's table and `check` all come from it. To add a setting, add a row.
//! - `value`: what a setting can hold, and the text forms of it.
//! - `sources`, `file`: the file, the environment and the flags, each value with the place it came from.
//! - `network`: ranges of addresses.
//! - `rules`: relations between settings, the rule against open servers without keys, and warnings.
//! - `show`: the table and the effective configuration, printed.

mod api_keys;
mod channel;
mod channel_options;
mod client;
mod document;
mod duration;
mod file;
mod foreign;
mod nearest;
mod network;
mod proxy;
mod row;
mod rules;
mod settings;
mod show;
mod sources;
mod tables;
mod value;

pub use api_keys::{HttpApi, ScopedKey};
pub use channel::{ChannelConfig, ChannelNaming, ChannelProxies, NameProblem, UnknownNamespace};
pub use channel_options::{
    ChannelOptions, DEFAULT_PROXY, DataFormat, DeltaType, RecoveryMode, SlowReader,
};
pub use client::{
    ClientConfig, ClientLimits, ClientProxies, PersonalChannel, SubscriptionTokenConfig,
    TokenConfig,
};
pub use network::Network;
pub use proxy::{OptionalProxy, Proxy, RpcConfig, RpcNaming, RpcOptions};
pub use row::{Row, Setting};
pub use rules::check_addresses;
pub(crate) use settings::MAX_SHARDS;
pub use settings::{
    Admission, Channels, Config, Drain, Fanout, Heartbeat, History, Hooks, Http, HttpStream, Inbox,
    Outbox, SETTINGS, Sse, Tcp, UniHttpStream, UniSse, UniWebSocket, WebSocket,
};
pub use show::{table_help, table_markdown};
pub use sources::{Assignment, ConfigError, Loaded, Origin, Sources, load};
pub use value::{
    AllowedOrigin, Form, Item, Kind, LogFormat, LogLevel, Pattern, TimeUnit, Unit, Value,
};
