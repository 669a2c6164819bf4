//! The settings, printed: the README's table, the table in `--help`, and the effective configuration.

use super::channel_options::ChannelOptions;
use super::client::TokenConfig;
use super::proxy::Proxy;
use super::row::{Group, Row};
use super::settings::SETTINGS;
use super::sources::Loaded;
use super::tables::Tables;
use super::value::Value;

const HEADER: &str = "| Setting | Default | Takes | Meaning |\n|---|---|---|---|\n";

/// Places of the groups of settings that have a table of their own.
const CHANNEL_OPTIONS: &[&str] = &["channel.without_namespace"];
const TOKENS: &[&str] = &["client.token", "client.subscription_token"];
const PROXIES: &[&str] = &[
    "client.proxy.connect",
    "client.proxy.refresh",
    "channel.proxy.subscribe",
    "channel.proxy.publish",
    "channel.proxy.sub_refresh",
    "rpc.proxy",
];

/// All settings as a Markdown table, as the README has it, but for those of the tables below.
pub fn table_markdown() -> String {
    let own = SETTINGS.iter().filter(|setting| {
        !is_of::<ChannelOptions>(CHANNEL_OPTIONS, setting.key)
            && !is_of::<TokenConfig>(TOKENS, setting.key)
            && !is_of::<Proxy>(PROXIES, setting.key)
    });
    let mut out = String::from(HEADER);
    for setting in own {
        out += &markdown_row(setting, &setting.default_value());
    }
    out
}

/// The options of channels as a Markdown table.
pub fn channel_options_markdown() -> String {
    group_markdown::<ChannelOptions>()
}

/// The settings of a backend as a Markdown table.
pub fn proxy_markdown() -> String {
    group_markdown::<Proxy>()
}

/// The settings of tokens as a Markdown table.
pub fn token_markdown() -> String {
    group_markdown::<TokenConfig>()
}

/// Whether `key` is that of a row of `T` at one of its places.
fn is_of<T: Group>(places: &[&str], key: &str) -> bool {
    let name_at = |place: &&str| key.strip_prefix(*place)?.strip_prefix('.');
    let mut names = places.iter().filter_map(name_at);
    names.any(|name| T::ROWS.iter().any(|row| row.key == name))
}

fn group_markdown<T: Group>() -> String {
    let defaults = T::default();
    let mut out = String::from(HEADER);
    for row in T::ROWS {
        out += &markdown_row(row, &row.get(&defaults));
    }
    out
}

fn markdown_row<T>(row: &Row<T>, default: &Value) -> String {
    format!(
        "| `{}` | `{default}` | {} | {} |\n",
        row.key,
        row.kind.expects(),
        row.doc(),
    )
}

/// All settings as plain text for `--help`, two lines each.
pub fn table_help() -> String {
    let mut out = String::new();
    for setting in SETTINGS {
        out += &format!(
            "  {} = {}  [{}]\n      {}\n",
            setting.key,
            setting.default_value(),
            setting.kind.expects(),
            setting.doc(),
        );
    }
    out
}

impl Loaded {
    /// The effective configuration as TOML, with the place each value came from; secrets are `"***"`.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for setting in SETTINGS {
            let (current, name) = setting.section_and_name();
            if current != section {
                section = current;
                out += &format!("\n[{section}]\n");
            }
            let value = setting.shown(&setting.get(&self.config));
            out += &format!("{name} = {value}  # {}\n", self.origin(setting.key));
        }
        out + &Tables::all_to_toml(&self.config, &self.table_notes)
    }
}
