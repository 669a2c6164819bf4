//! Backends the server asks over HTTP what a client may do, and how many requests they get at a time.

use super::channel_options::DEFAULT_PROXY;
use super::row::{Setting, field_of, group, key_of, settings_at};
use super::value::{Field, Form, Item, Kind, TimeUnit};

macro_rules! proxy_rows {
    ($callback:ident $($args:tt)*) => { $callback! { [$($args)*]
        /// Address the requests are posted to.
        endpoint: String = String::new(), Kind::Text(Form::Url);
        /// Time for the whole answer.
        timeout_ms "timeout": u32 = 1_000, Kind::Duration { unit: TimeUnit::Millis, min: 1, max: 60_000 };
        /// Header fields of the client's request to hand on.
        http_headers: Vec<String> = Vec::new(), Kind::List(Item::Header);
        /// Sends data as base64, for payloads that are not JSON.
        binary_encoding: bool = false, Kind::Flag;
        /// Sends the `meta` of the connection along.
        include_connection_meta: bool = false, Kind::Flag;
        /// Header fields to add to every request.
        static_headers "http.static_headers": Vec<(String, String)> = Vec::new(), Kind::Headers;
    } };
}

proxy_rows!(group
    /// A backend to ask, and how.
    Proxy
);

macro_rules! enabled_row {
    ($callback:ident $($args:tt)*) => { $callback! { [$($args)*]
        /// Asks the backend; without it the rest of the section has no effect.
        enabled: bool = false, Kind::Flag;
    } };
}

/// A backend that is asked about all clients if it is enabled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OptionalProxy {
    /// Whether it is asked.
    pub enabled: bool,
    /// The backend.
    pub proxy: Proxy,
}

macro_rules! rpc_option_rows {
    ($callback:ident $($args:tt)*) => { $callback! { [$($args)*]
        /// Hands the calls on to the backend; without it they are answered 108.
        proxy_enabled: bool = false, Kind::Flag;
        /// Which of `proxies` to ask; `default` = `rpc.proxy`.
        proxy_name: String = DEFAULT_PROXY.to_owned(), Kind::Text(Form::Name);
    } };
}

rpc_option_rows!(group
    /// Where calls of clients go.
    RpcOptions
);

macro_rules! rpc_rows {
    ($callback:ident $($args:tt)*) => { $callback! { [$($args)*]
        /// Ends the namespace in a method's name; nothing = no namespaces.
        namespace_boundary: String = ":".to_owned(), Kind::Text(Form::Marker);
    } };
}

rpc_rows!(group
    /// How names of methods are read.
    RpcNaming
);

/// The `rpc` section.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RpcConfig {
    /// How names of methods are read.
    pub naming: RpcNaming,
    /// The backend where options name none of `proxies`.
    pub proxy: Proxy,
    /// Options of methods without a namespace.
    pub without_namespace: RpcOptions,
    /// Namespaces by their names, which are unique and in ascending order.
    pub namespaces: Vec<(String, RpcOptions)>,
}

impl RpcConfig {
    /// The options of `method`; `None` if its namespace is not configured.
    pub fn resolve(&self, method: &str) -> Option<&RpcOptions> {
        let boundary = self.naming.namespace_boundary.as_str();
        match method.split_once(boundary) {
            Some((name, _)) if !boundary.is_empty() && !name.is_empty() => {
                let place = self
                    .namespaces
                    .binary_search_by(|(known, _)| known.as_str().cmp(name));
                place
                    .ok()
                    .and_then(|index| self.namespaces.get(index))
                    .map(|(_, options)| options)
            }
            _ => Some(&self.without_namespace),
        }
    }

    /// Makes `namespaces` those of the configuration.
    pub(super) fn set_namespaces(&mut self, mut namespaces: Vec<(String, RpcOptions)>) {
        namespaces.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.namespaces = namespaces;
    }
}

/// `rpc.*` and its parts.
pub(super) const RPC: &[&[Setting]] = &[
    rpc_rows!(settings_at "rpc" (rpc.naming)),
    proxy_rows!(settings_at "rpc.proxy" (rpc.proxy)),
    rpc_option_rows!(settings_at "rpc.without_namespace" (rpc.without_namespace)),
];

/// `client.proxy.*`.
pub(super) const CLIENT_PROXIES: &[&[Setting]] = &[
    enabled_row!(settings_at "client.proxy.connect" (client.proxy.connect)),
    proxy_rows!(settings_at "client.proxy.connect" (client.proxy.connect.proxy)),
    enabled_row!(settings_at "client.proxy.refresh" (client.proxy.refresh)),
    proxy_rows!(settings_at "client.proxy.refresh" (client.proxy.refresh.proxy)),
];

/// `channel.proxy.*`.
pub(super) const CHANNEL_PROXIES: &[&[Setting]] = &[
    proxy_rows!(settings_at "channel.proxy.subscribe" (channel.proxy.subscribe)),
    proxy_rows!(settings_at "channel.proxy.publish" (channel.proxy.publish)),
    proxy_rows!(settings_at "channel.proxy.sub_refresh" (channel.proxy.sub_refresh)),
];
