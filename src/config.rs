//! The configuration: every setting declared once, read from a file in TOML or JSON, then the environment, then flags.
//!
//! - `settings`: the table. A row is a field of [`Config`], its default, its bounds and its documentation; loading,
//!   error texts, `--help`, the README's tables and `check` all come from it. To add a setting, add a row.
//! - `row`: what a row is, and groups of rows that stand in several places: `channel_options`, `proxy`, `client`
//!   (tokens), `api_keys`.
//! - `channel`: channels by their names, and the options each one has.
//! - `tables`: namespaces and other lists of tables.
//! - `value`, `duration`: what a setting can hold, and the text forms of it.
//! - `sources`, `file`, `document`: the file, the environment and the flags, each value with the place it came from.
//! - `foreign`: settings of Centrifugo that are not here, and what to do instead.
//! - `network`: ranges of addresses.
//! - `rules`, `client_rules`: relations between settings, the rule against open servers without keys, and warnings.
//! - `show`: the tables and the effective configuration, printed.

mod api_keys;
mod channel;
mod channel_options;
mod client;
mod client_rules;
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
pub use show::{
    channel_options_markdown, proxy_markdown, table_help, table_markdown, token_markdown,
};
pub use sources::{Assignment, ConfigError, Loaded, Origin, Sources, load};
pub use value::{
    AllowedOrigin, Form, Item, Kind, LogFormat, LogLevel, Pattern, TimeUnit, Unit, Value,
};
