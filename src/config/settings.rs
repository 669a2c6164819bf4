//! The table of settings.

use std::fmt;
use std::net::SocketAddr;

use super::Network;
use super::api_keys::{self, HttpApi, ScopedKey};
use super::channel::{self, ChannelConfig};
use super::channel_options::{self, ChannelOptions};
use super::client::{self, ClientConfig};
use super::proxy::{self, Proxy, RpcConfig};
use super::row::{Row, Setting};
use super::value::{Field, Form, Item, Kind, LogFormat, LogLevel, Unit};
use crate::proto::origin::OriginPattern;

/// Declares [`Config`], its sections, their defaults and [`SETTINGS`] from one list, so that none can lack a part.
///
/// A row: `/// one line of documentation` and `field: Type = default, kind and bounds;`.
macro_rules! settings {
    (
        top { $(#[doc = $doc:literal] $field:ident: $type:ty = $default:expr, $kind:expr;)* }
        $(#[doc = $section_doc:literal] $section:ident: $Section:ident {
            $(#[doc = $sdoc:literal] $sfield:ident: $stype:ty = $sdefault:expr, $skind:expr;)*
        })*
        further { $($(#[doc = $fdoc:literal])* $ffield:ident: $ftype:ty,)* }
    ) => {
        /// The whole configuration, one plain field per setting. Fields are named as their keys.
        #[derive(Clone, PartialEq)]
        pub struct Config {
            $(
                #[doc = $doc]
                #[doc = concat!("\n\nDefault: `", stringify!($default), "`; takes `", stringify!($kind), "`.")]
                pub $field: $type,
            )*
            $(#[doc = $section_doc] pub $section: $Section,)*
            $($(#[doc = $fdoc])* pub $ffield: $ftype,)*
        }

        impl Config {
            /// Every setting as its row declares it, nothing opened for development.
            pub fn declared() -> Self {
                Self {
                    $($field: $default,)*
                    $($section: $Section::default(),)*
                    $($ffield: <$ftype>::default(),)*
                }
            }
        }

        $(
            #[doc = $section_doc]
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Section {
                $(
                    #[doc = $sdoc]
                    #[doc = concat!("\n\nDefault: `", stringify!($sdefault), "`; takes `", stringify!($skind), "`.")]
                    pub $sfield: $stype,
                )*
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $($sfield: $sdefault,)* }
                }
            }
        )*

        const OWN: &[Setting] = &[
            $(Row {
                key: stringify!($field),
                kind: $kind,
                doc: $doc,
                get: |config| config.$field.write(),
                set: |config, value| {
                    config.$field = Field::read(value)?;
                    Ok(())
                },
            },)*
            $($(Row {
                key: concat!(stringify!($section), ".", stringify!($sfield)),
                kind: $skind,
                doc: $sdoc,
                get: |config| config.$section.$sfield.write(),
                set: |config, value| {
                    config.$section.$sfield = Field::read(value)?;
                    Ok(())
                },
            },)*)*
        ];
    };
}

settings! {
    top {
        /// Addresses to listen on; any that is not loopback needs `api_keys` or `insecure = true`.
        listen: Vec<SocketAddr> = vec![SocketAddr::from(([127, 0, 0, 1], 8000))], Kind::List(Item::Address);
        /// Number of shards, each one thread with its own ring and file table; 0 = one per core, more where the file limit asks for it.
        shards: usize = 0, count(0, MAX_SHARDS as u64);
        /// Connections the server is to hold; 0 = as many as the file limits allow.
        max_connections: usize = 0, count(0, 100_000_000);
        /// Keys that may publish (`X-API-Key: KEY` or `Authorization: apikey KEY`); without any, only local programs may.
        api_keys: Vec<String> = Vec::new(), Kind::List(Item::Secret);
        /// Allows other than loopback addresses without any API key.
        insecure: bool = false, Kind::Flag;
        /// Web origins allowed besides the server's own, such as `https://example.com` or `https://*.example.com`; `null` allows pages without one.
        origins: Vec<OriginPattern> = Vec::new(), Kind::List(Item::WebOrigin);
        /// Networks of proxies whose X-Forwarded-For and PROXY protocol headers are believed.
        trusted_proxies: Vec<Network> = Vec::new(), Kind::List(Item::Network);
        /// Further addresses to listen on, for `trusted_proxies` only; every connection there must begin with a PROXY protocol header, version 1 or 2.
        proxy_protocol_listen: Vec<SocketAddr> = Vec::new(), Kind::List(Item::Address);
        /// Serves `/echo`, which returns each WebSocket message; for conformance suites and benchmarks.
        echo: bool = false, Kind::Flag;
        /// Least severe events that are logged.
        log_level: LogLevel = LogLevel::Info, Kind::Choice(LogLevel::NAMES);
        /// Form of a log line on stderr.
        log_format: LogFormat = LogFormat::Text, Kind::Choice(LogFormat::NAMES);
        /// Folder for what is kept over restarts; nothing = nothing is kept.
        state_dir: String = String::new(), Kind::Text(Form::Path);
        /// Age at which a connection is closed with a code that makes it come back, so that load spreads over new servers; 0 = none.
        max_connection_age_ms: u32 = 0, timer(0, 720 * HOUR_MS);
        /// Percent of that age by which each connection's own may be shorter, at random.
        max_connection_age_jitter_percent: u32 = 10, count(0, 100);
    }
    /// Which connections are let in; others are answered 503 and told when to try again.
    admission: Admission {
        /// Connections one client address may hold (IPv6: one /64 network), over all shards; loopback addresses and `trusted_proxies` are exempt; 0 = no limit.
        connections_per_address: u32 = 1_024, count(0, 1_000_000_000);
        /// WebSocket handshakes per second and shard, with a burst of one second; 0 = no limit.
        handshakes_per_s: u32 = 0, count(0, 1_000_000);
        /// Memory the server may use; 0 = the limit of its control group (cgroup v2), else all of the machine's.
        memory_bytes: usize = 0, bytes(0, MIB * MIB);
        /// Percent of that memory from which on new connections are refused; from 95 on (or this, if higher), the slowest readers are closed.
        memory_refuse_percent: u32 = 85, count(1, 100);
    }
    /// Limits of HTTP/1.1 connections and requests.
    http: Http {
        /// Longest request head, request line included.
        head_bytes: usize = 8_192, bytes(256, 65_536);
        /// Most header fields in a request.
        headers: usize = 100, count(1, 100);
        /// Longest request line.
        request_line_bytes: usize = 4_096, bytes(64, 65_536);
        /// Longest request body, so also the longest publication over HTTP.
        body_bytes: usize = 1_048_576, bytes(1, 64 * MIB);
        /// Time from accept to the end of the first request head, whatever arrives meanwhile.
        ready_timeout_ms: u32 = 10_000, timer(1, HOUR_MS);
        /// Time from the end of a head to the end of its body.
        body_timeout_ms: u32 = 30_000, timer(1, HOUR_MS);
        /// Slower bodies are given up after a few seconds, whatever time is left; 0 = none is too slow.
        body_min_bytes_per_s: u32 = 1_024, bytes(0, 1_024 * MIB);
        /// Time a connection may stay open between two requests.
        keepalive_timeout_ms: u32 = 75_000, timer(1, HOUR_MS);
        /// Requests served on one connection before it is closed.
        keepalive_requests: u32 = 10_000, count(1, u32::MAX as u64);
    }
    /// Limits of what a WebSocket client sends (RFC 6455).
    websocket: WebSocket {
        /// Longest message, over all its frames; a longer one is answered with Close 1009.
        message_bytes: usize = 65_536, bytes(125, 16 * MIB);
        /// Most frames of one message.
        frames_per_message: u32 = 128, count(1, 1_048_576);
        /// Time from the first byte of a message to its last.
        message_timeout_ms: u32 = 30_000, timer(1, HOUR_MS);
        /// Most Ping and Pong frames per second from one client.
        control_frames_per_s: u32 = 50, count(1, 254);
        /// Accepts compression (permessage-deflate, RFC 7692) from clients that offer it.
        compression: bool = false, Kind::Flag;
        /// Shorter messages go uncompressed.
        compression_min_bytes: usize = 256, bytes(0, 16 * MIB);
        /// Largest window of compression, in bits; a smaller one takes less memory per shard and compresses less.
        compression_window_bits: u8 = 15, count(9, 15);
        /// Lets the server's messages refer to earlier ones: up to 2^window_bits bytes per connection, and each message compressed for each.
        server_context_takeover: bool = false, Kind::Flag;
        /// Lets clients' messages refer to earlier ones: up to 2^window_bits bytes per connection.
        client_context_takeover: bool = false, Kind::Flag;
        /// Time for the closing handshake; after it the connection is reset.
        close_timeout_ms: u32 = 5_000, timer(1, HOUR_MS);
    }
    /// Detection of dead peers by WebSocket Ping and Pong.
    heartbeat: Heartbeat {
        /// A connection without traffic both ways for this long is pinged; keep it below the idle time-out of any proxy.
        ping_interval_ms: u32 = 30_000, timer(1, HOUR_MS);
        /// Time to wait for a byte after each ping.
        pong_timeout_ms: u32 = 15_000, timer(1, HOUR_MS);
        /// Unanswered pings in a row after which the connection is closed with 4005.
        max_missed: u32 = 2, count(1, 100);
    }
    /// Bytes a connection has been sent but has not taken.
    outbox: Outbox {
        /// A consumer with more than this waiting is slow, and has `outbox.soft_timeout_ms` to catch up.
        soft_bytes: usize = 65_536, bytes(1_024, 1_024 * MIB);
        /// Time a slow consumer may stay slow before it is closed with 4004.
        soft_timeout_ms: u32 = 5_000, timer(1, HOUR_MS);
        /// A consumer that would have more than this waiting is closed with 4004 at once.
        hard_bytes: usize = 262_144, bytes(1_024, 1_024 * MIB);
        /// Time a connection with bytes waiting may take none of them.
        stall_timeout_ms: u32 = 10_000, timer(1, HOUR_MS);
    }
    /// Socket options of the listeners, inherited by their connections.
    tcp: Tcp {
        /// Connections the kernel queues for accept, per listener; the kernel caps it at `net.core.somaxconn`.
        backlog: u32 = 4_096, count(1, 65_535);
        /// Time sent bytes may stay unacknowledged (TCP_USER_TIMEOUT); 0 = off.
        user_timeout_ms: u32 = 30_000, millis(0, 24 * HOUR_MS);
        /// Silence before the first keepalive probe.
        keepalive_idle_ms: u32 = 60_000, timer(1_000, 9 * HOUR_MS);
        /// Time between keepalive probes.
        keepalive_interval_ms: u32 = 10_000, timer(1_000, 9 * HOUR_MS);
        /// Unanswered probes that end a connection; with `tcp.user_timeout_ms` on, the kernel goes by that time instead.
        keepalive_count: u32 = 3, count(1, 127);
        /// Unsent bytes the kernel takes per connection (TCP_NOTSENT_LOWAT); 0 = the system's default.
        notsent_lowat_bytes: u32 = 16_384, bytes(0, 16 * MIB);
        /// Congestion control, such as `cubic` or `bbr`; empty = the system's default.
        congestion_control: String = String::new(), Kind::Algorithm;
    }
    /// Channels and who may use them.
    channels: Channels {
        /// Longest channel name.
        name_bytes: usize = 255, bytes(1, 4_096);
        /// Publications a channel holds back while a fan-out pass runs; beyond it, publishing is answered 503.
        batch_bytes: usize = 262_144, bytes(1_024, 1_024 * MIB);
        /// A channel without subscribers for this long is forgotten, and comes back with a new epoch.
        idle_timeout_ms: u32 = 60_000, timer(1, 24 * HOUR_MS);
        /// Channels in which plain WebSocket clients may publish.
        client_publish: Vec<String> = vec!["chat".to_owned()], Kind::List(Item::Channel);
        /// Most channels in the server at a time.
        limit: usize = 1_000_000, count(1, 100_000_000);
    }
    /// Delivery of a publication to its subscribers.
    fanout: Fanout {
        /// Sends all that a subscriber lacks in one go; off only for measurement.
        coalesce: bool = true, Kind::Flag;
        /// Where shards share cores, one of a core at a time makes a long pass; off only for measurement.
        take_turns: bool = true, Kind::Flag;
        /// Time a publication may wait for more to share its send; 0 = none.
        window_ms: u32 = 0, millis(0, 50);
        /// Sends in a row before the ring is served again.
        slice_sends: usize = 128, count(1, 65_536);
    }
    /// Publications kept for those who come back.
    history: History {
        /// Memory of all channels' histories, over all shards; beyond it, the oldest publications go first.
        bytes: usize = 268_435_456, bytes(0, MIB * MIB);
    }
    /// Requests to backends, those of `proxies` and `*.proxy`.
    hooks: Hooks {
        /// Connections to one backend.
        connections_per_host: u32 = 64, count(1, 1_024);
        /// Idle connections to one backend that stay open.
        idle_connections: u32 = 64, count(0, 1_024);
        /// Time an idle connection stays open; keep it below the backend's own (Node.js: 5 seconds).
        idle_timeout_ms: u32 = 4_000, millis(1, HOUR_MS);
        /// Requests that may wait for a connection to a backend; those beyond it fail at once.
        waiters: u32 = 1_024, count(0, 1_000_000);
        /// Time to connect to a backend, TLS included.
        connect_timeout_ms: u32 = 1_000, millis(1, 60_000);
        /// Failures in a row after which a backend is left alone for `hooks.breaker_open_ms`.
        breaker_failures: u32 = 10, count(1, 10_000);
        /// Time a failing backend is left alone; then one request tries it. It doubles, up to 30 seconds, while that fails too.
        breaker_open_ms: u32 = 2_000, millis(1, 600_000);
        /// Longest answer of a backend.
        answer_bytes: usize = 1_048_576, bytes(1_024, 64 * MIB);
    }
    /// The bidirectional carrier of Centrifuge clients over HTTP streaming, `/connection/http_stream`.
    http_stream: HttpStream {
        /// Serves it, and `/emulation`; on if neither `client` nor `channel` is configured.
        enabled: bool = false, Kind::Flag;
    }
    /// The bidirectional carrier of Centrifuge clients over server-sent events, `/connection/sse`.
    sse: Sse {
        /// Serves it, and `/emulation`; on if neither `client` nor `channel` is configured.
        enabled: bool = false, Kind::Flag;
    }
    /// The unidirectional carrier over WebSocket, `/connection/uni_websocket`.
    uni_websocket: UniWebSocket {
        /// Serves it; on if neither `client` nor `channel` is configured.
        enabled: bool = false, Kind::Flag;
    }
    /// The unidirectional carrier over server-sent events, `/connection/uni_sse`.
    uni_sse: UniSse {
        /// Serves it; on if neither `client` nor `channel` is configured.
        enabled: bool = false, Kind::Flag;
    }
    /// The unidirectional carrier over HTTP streaming, `/connection/uni_http_stream`.
    uni_http_stream: UniHttpStream {
        /// Serves it; on if neither `client` nor `channel` is configured.
        enabled: bool = false, Kind::Flag;
    }
    /// The carrier of Centrifuge clients over SockJS, `/connection/sockjs`.
    sockjs: SockJs {
        /// Serves it; on if neither `client` nor `channel` is configured.
        enabled: bool = false, Kind::Flag;
    }
    /// Messages between shards.
    inbox: Inbox {
        /// Messages a shard's inbox holds; beyond it, publishing is answered 503.
        messages: usize = 4_096, count(16, 1_048_576);
    }
    /// The orderly stop after SIGTERM or SIGINT.
    drain: Drain {
        /// Time over which connections are closed, so that clients do not all return at once.
        window_ms: u32 = 30_000, timer(0, HOUR_MS);
    }
    further {
        /// The server API besides `api_keys`.
        http_api: HttpApi,
        /// Keys of the server API that are good for some methods and channels only: `http_api.keys`.
        http_api_keys: Vec<ScopedKey>,
        /// Centrifuge clients.
        client: ClientConfig,
        /// Options of channels.
        channel: ChannelConfig,
        /// Calls of clients to the backend.
        rpc: RpcConfig,
        /// Backends by their names, which are unique.
        proxies: Vec<(String, Proxy)>,
    }
}

/// All tables of rows, in the order of the README.
const PARTS: &[&[&[Setting]]] = &[
    &[OWN, api_keys::HTTP_API],
    client::CLIENT,
    proxy::CLIENT_PROXIES,
    &[channel::NAMING],
    proxy::CHANNEL_PROXIES,
    &[channel_options::WITHOUT_NAMESPACE],
    proxy::RPC,
];

/// Every setting.
pub const SETTINGS: &[Setting] = &joined::<{ count_rows(PARTS) }>(PARTS);

const fn count_rows(parts: &[&[&[Setting]]]) -> usize {
    let (mut count, mut part) = (0, 0);
    while part < parts.len() {
        let mut table = 0;
        while table < parts[part].len() {
            count += parts[part][table].len();
            table += 1;
        }
        part += 1;
    }
    count
}

/// The rows of all tables as one, which cannot be written by hand as each is declared next to what it is about.
const fn joined<const N: usize>(parts: &[&[&[Setting]]]) -> [Setting; N] {
    let mut rows = [parts[0][0][0]; N];
    let (mut next, mut part) = (0, 0);
    while part < parts.len() {
        let mut table = 0;
        while table < parts[part].len() {
            let mut row = 0;
            while row < parts[part][table].len() {
                rows[next] = parts[part][table][row];
                next += 1;
                row += 1;
            }
            table += 1;
        }
        part += 1;
    }
    rows
}

impl Default for Config {
    /// What holds where nothing is configured: channels are open, and so is the server to Centrifuge clients without a
    /// token, as it listens on a loopback address only.
    fn default() -> Self {
        let mut config = Self::declared();
        config.open_for_development(true);
        config.open_carriers(|_| false);
        config
    }
}

impl Config {
    /// Opens what a configuration that names neither `client` nor `channel` leaves open. `is_listened_on` says that the
    /// configured addresses are those the server will have.
    pub(super) fn open_for_development(&mut self, is_listened_on: bool) {
        self.channel.without_namespace = ChannelOptions::development();
        let mut addresses = self.listen.iter().chain(&self.proxy_protocol_listen);
        let is_local =
            is_listened_on && addresses.all(|address| address.ip().to_canonical().is_loopback());
        self.client.limits.allow_anonymous_connect_without_token = is_local || self.insecure;
    }

    /// Whether anybody may listen to any channel of the plain dialect: nothing is configured of channels and clients.
    pub fn is_open_to_listeners(&self) -> bool {
        self.channel.namespaces.is_empty()
            && self.channel.without_namespace == ChannelOptions::development()
    }

    /// Opens every carrier of Centrifuge clients, but those of which `is_given` says that a source has its word on them.
    pub(super) fn open_carriers(&mut self, is_given: impl Fn(&str) -> bool) {
        let carriers = [
            ("http_stream.enabled", &mut self.http_stream.enabled),
            ("sse.enabled", &mut self.sse.enabled),
            ("uni_websocket.enabled", &mut self.uni_websocket.enabled),
            ("uni_sse.enabled", &mut self.uni_sse.enabled),
            ("uni_http_stream.enabled", &mut self.uni_http_stream.enabled),
            ("sockjs.enabled", &mut self.sockjs.enabled),
        ];
        for (key, is_enabled) in carriers {
            *is_enabled |= !is_given(key);
        }
    }

    /// The backend called `name`, where `default` is `own`.
    pub fn proxy<'a>(&'a self, name: &str, own: &'a Proxy) -> Option<&'a Proxy> {
        if name == channel_options::DEFAULT_PROXY {
            return Some(own);
        }
        let mut named = self.proxies.iter();
        named
            .find(|(known, _)| known == name)
            .map(|(_, proxy)| proxy)
    }

    /// Keys that are good for all of the server API.
    pub fn full_api_keys(&self) -> impl Iterator<Item = &str> {
        let own = Some(self.http_api.key.as_str()).filter(|key| !key.is_empty());
        self.api_keys.iter().map(String::as_str).chain(own)
    }

    /// Whether there is a key for the server API, or part of it.
    pub fn has_api_key(&self) -> bool {
        !self.http_api_keys.is_empty() || self.full_api_keys().next().is_some()
    }

    /// Whether whoever reaches the server may publish, by the operator's word.
    pub fn is_api_open(&self) -> bool {
        self.insecure || self.http_api.insecure
    }

    /// Whether pages of `origin` may connect and publish, besides the server's own.
    pub fn allows_origin(&self, origin: &crate::proto::origin::Origin<'_>) -> bool {
        let clients = &self.client.limits.allowed_origins;
        self.origins.iter().any(|pattern| pattern.matches(origin))
            || clients.iter().any(|allowed| allowed.matches(origin))
    }
}

/// Most shards a server may have.
pub(crate) const MAX_SHARDS: usize = 1_024;
const MIB: u64 = 1_048_576;
const HOUR_MS: u64 = 3_600_000;

const fn count(min: u64, max: u64) -> Kind {
    number(Unit::Count, min, max)
}

const fn bytes(min: u64, max: u64) -> Kind {
    number(Unit::Bytes, min, max)
}

const fn millis(min: u64, max: u64) -> Kind {
    number(Unit::Millis, min, max)
}

/// A time kept by the timer wheel (one-second slots) or by a kernel option in seconds.
const fn timer(min: u64, max: u64) -> Kind {
    number(Unit::MillisInSeconds, min, max)
}

const fn number(unit: Unit, min: u64, max: u64) -> Kind {
    Kind::Number { unit, min, max }
}

/// Prints keys and values as in the file; secrets as `***`, so that a logged configuration leaks none.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for setting in SETTINGS {
            let shown = setting.shown(&setting.get(self));
            map.entry(&format_args!("{}", setting.key), &format_args!("{shown}"));
        }
        map.entry(&"channel.namespaces", &self.channel.namespaces);
        map.entry(&"rpc.namespaces", &self.rpc.namespaces);
        map.entry(&"proxies", &self.proxies);
        map.entry(&"http_api.keys", &self.http_api_keys);
        map.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Value;

    #[test]
    fn every_default_is_within_its_own_bounds() {
        for setting in SETTINGS {
            let mut config = Config::declared();
            assert_eq!(setting.set(&mut config, &setting.default_value()), Ok(()));
            assert_eq!(config, Config::declared(), "{}", setting.key);
        }
    }

    #[test]
    fn both_bounds_of_every_number_fit_its_field() {
        for setting in SETTINGS {
            let Kind::Number { min, max, .. } = setting.kind else {
                continue;
            };
            for bound in [min, max] {
                let mut config = Config::default();
                assert_eq!(setting.set(&mut config, &Value::Number(bound)), Ok(()));
                assert_eq!(setting.get(&config), Value::Number(bound));
            }
            assert!(
                setting
                    .set(&mut Config::default(), &Value::Number(max + 1))
                    .is_err()
            );
        }
    }

    #[test]
    fn keys_are_unique_and_documented_in_one_line() {
        for (index, setting) in SETTINGS.iter().enumerate() {
            assert!(SETTINGS[..index].iter().all(|s| s.key != setting.key));
            assert!(
                setting.doc().ends_with('.') && !setting.doc().contains(['|', '\n']),
                "{}",
                setting.key
            );
        }
    }

    #[test]
    fn environment_names_mark_the_section_with_two_underscores() {
        let name = |key| Setting::find(key).map(Setting::env_name);
        assert_eq!(name("listen").as_deref(), Some("LONGWIRE_LISTEN"));
        assert_eq!(
            name("heartbeat.ping_interval_ms").as_deref(),
            Some("LONGWIRE_HEARTBEAT__PING_INTERVAL_MS")
        );
    }

    #[test]
    fn debug_output_has_no_keys() {
        let config = Config {
            api_keys: vec!["hunter2".to_owned()],
            ..Config::default()
        };
        let text = format!("{config:?}");
        assert!(!text.contains("hunter2"));
        assert!(text.contains("***") && text.contains("heartbeat.max_missed: 2"));
    }
}
