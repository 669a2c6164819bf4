//! Settings of Centrifugo that this server does not have: what they do there, and what to do here.

use super::document::Node;
use super::row::Setting;
use super::sources::{ConfigError, Given, Origin, refused, unknown_key};

/// What becomes of a setting that is not this server's.
#[derive(Clone, Copy)]
enum Fate {
    /// It is this setting, by another name.
    Is(&'static str),
    /// Nothing that was asked for is lost by leaving it out: said and ignored.
    Ignored,
    /// Without it the server would be less safe, or do something else than was asked for: refused, unless it turns
    /// nothing on.
    Refused,
}

use Fate::{Ignored, Is, Refused};

/// A setting of Centrifugo: its key, which stands for all keys below it too, or `*` and how the key ends; what becomes
/// of it; what it does there; what to do here.
type Foreign = (&'static str, Fate, &'static str, &'static str);

// A row a line.
#[rustfmt::skip]
const FOREIGN: &[Foreign] = &[
    // Under another name.
    ("log.level", Is("log_level"), "least severe events logged", ""),
    ("websocket.message_size_limit", Is("websocket.message_bytes"), "longest message", ""),
    ("websocket.compression_min_size", Is("websocket.compression_min_bytes"), "shortest message compressed", ""),
    // Of version 5, which version 6 renamed.
    ("channel.private_channel_prefix", Is("channel.private_prefix"), "prefix of private channels", ""),
    ("channel.channel_namespace_boundary", Is("channel.namespace_boundary"), "end of the namespace", ""),
    ("channel.user_channel_boundary", Is("channel.user_boundary"), "begin of the list of users", ""),
    ("channel.user_channel_separator", Is("channel.user_separator"), "separator of users", ""),
    // Where and how to listen.
    ("http_server.address", Refused, "address to listen on", "set listen = [\"0.0.0.0:8000\"] with the address and the port"),
    ("http_server.port", Refused, "port to listen on", "set listen = [\"0.0.0.0:8000\"] with the address and the port"),
    ("http_server.internal_address", Refused, "address for the server API, metrics and the like only", "let a proxy in front keep /api, /metrics and / from strangers"),
    ("http_server.internal_port", Refused, "port for the server API, metrics and the like only", "let a proxy in front keep /api, /metrics and / from strangers"),
    ("http_server.tls.enabled", Refused, "TLS", "let a proxy in front speak TLS, and name it in trusted_proxies"),
    ("http_server.tls", Ignored, "TLS", "let a proxy in front speak TLS, and name it in trusted_proxies"),
    ("http_server.tls_autocert.enabled", Refused, "TLS with certificates from ACME", "let a proxy in front speak TLS, and name it in trusted_proxies"),
    ("http_server.tls_autocert", Ignored, "TLS with certificates from ACME", "let a proxy in front speak TLS, and name it in trusted_proxies"),
    ("http_server.tls_external", Refused, "TLS for external endpoints", "let a proxy in front speak TLS, and name it in trusted_proxies"),
    ("http_server.internal_tls.enabled", Refused, "TLS for internal endpoints", "let a proxy in front speak TLS, and name it in trusted_proxies"),
    ("http_server.internal_tls", Ignored, "TLS for internal endpoints", "let a proxy in front speak TLS, and name it in trusted_proxies"),
    ("http_server.http3", Ignored, "HTTP/3", "clients use HTTP/1.1"),
    ("http_server.h2c_external", Ignored, "HTTP/2 without TLS", "clients use HTTP/1.1"),
    ("http_server.enable_xff", Ignored, "believes X-Forwarded-For", "set trusted_proxies to the proxies' networks"),
    ("*.handler_prefix", Refused, "path of an endpoint", "paths are fixed; let a proxy in front rewrite them"),
    ("http_api.disabled", Refused, "turns the server API off", "set a key that nobody is told; without the right key nothing can be done"),
    ("http_api.error_mode", Refused, "errors of the server API as HTTP statuses", "send the header X-Centrifugo-Error-Mode: transport with each request"),
    ("grpc_api.enabled", Refused, "server API over gRPC", "use the server API over HTTP, which has the same methods"),
    ("grpc_api", Ignored, "server API over gRPC", "use the server API over HTTP, which has the same methods"),
    // Carriers.
    ("websocket.disabled", Refused, "turns WebSocket off", "let a proxy in front refuse /connection/websocket"),
    ("websocket.compression_level", Ignored, "effort of compression", "the level is fixed"),
    ("*.compression_prepared_message_cache_size", Ignored, "cache of compressed messages", "a message is compressed once for all who take it alike"),
    ("*.read_buffer_size", Ignored, "buffer of a connection", "connections have no buffers of their own"),
    ("*.write_buffer_size", Ignored, "buffer of a connection", "connections have no buffers of their own"),
    ("*.use_write_buffer_pool", Ignored, "shares buffers", "connections have no buffers of their own"),
    ("*.write_timeout", Ignored, "time for one write", "outbox.stall_timeout_ms is the time a reader may take nothing"),
    ("*.max_request_body_size", Ignored, "longest request of a client", "http.body_bytes and websocket.message_bytes are the limits"),
    ("emulation", Ignored, "requests of clients on http_stream and sse", "/emulation is served with either of them"),
    ("uni_websocket", Ignored, "options of uni_websocket", "those of websocket hold"),
    ("uni_sse.connect_code_to_http_response", Refused, "errors of connect as HTTP statuses", "clients get them as pushes"),
    ("uni_http_stream.connect_code_to_http_response", Refused, "errors of connect as HTTP statuses", "clients get them as pushes"),
    ("uni_grpc.enabled", Refused, "clients over gRPC", "use uni_http_stream"),
    ("uni_grpc", Ignored, "clients over gRPC", "use uni_http_stream"),
    ("webtransport.enabled", Refused, "clients over WebTransport", "use WebSocket; SDKs fall back to it"),
    ("webtransport", Ignored, "clients over WebTransport", "use WebSocket; SDKs fall back to it"),
    // Clients.
    ("client.insecure_skip_token_signature_verify", Refused, "believes any token", "set a key in client.token; client.insecure = true needs no tokens at all"),
    ("client.user_id_http_header", Refused, "believes a header that says who the user is", "use tokens, or client.proxy.connect with http_headers"),
    ("client.allowed_delta_types", Refused, "ways to send differences, for all channels", "set allowed_delta_types in the options of the channels"),
    ("client.connection_limit", Refused, "most connections of a server", "set max_connections"),
    ("client.connection_rate_limit", Refused, "most connections per second", "set admission.handshakes_per_s, which is for each shard"),
    ("client.presence_update_interval", Ignored, "time between notes that a client is there", "presence needs no such notes: it is exact on one server"),
    ("client.concurrency", Ignored, "commands of a client handled at a time", "commands wait for backends only, and not for one another"),
    ("client.channel_position_check_delay", Ignored, "time between checks that nothing was missed", "every publication is checked when it is delivered"),
    ("client.channel_position_max_time_lag", Ignored, "age of publications that are too late", "there is no broker to be late"),
    ("client.connect_code_to_unidirectional_disconnect", Refused, "errors of connect as other disconnects", "clients get the codes of the protocol"),
    ("client.connect_proxy_name", Refused, "which backend to ask, in version 5", "set client.proxy.connect"),
    ("client.refresh_proxy_name", Refused, "which backend to ask, in version 5", "set client.proxy.refresh"),
    // Backends.
    ("*.grpc_metadata", Refused, "metadata of gRPC clients", "name header fields in http_headers"),
    ("*.grpc.tls.enabled", Refused, "TLS to a backend over gRPC", "backends are asked over HTTP"),
    ("*.grpc.tls", Ignored, "TLS to a backend over gRPC", "backends are asked over HTTP"),
    ("*.grpc.credentials_key", Refused, "credentials for a backend over gRPC", "set http.static_headers"),
    ("*.grpc.credentials_value", Refused, "credentials for a backend over gRPC", "set http.static_headers"),
    ("*.grpc.compression", Ignored, "compression of requests over gRPC", "backends are asked over HTTP"),
    ("*.http.status_to_code_transforms", Refused, "HTTP statuses of a backend as errors", "let the backend answer 200 with an error or a disconnect"),
    ("channel.proxy.subscribe_stream", Refused, "streams of publications from a backend", "let the backend publish by the server API"),
    ("channel.proxy.cache_empty", Refused, "asks a backend for what history lacks", "publish to the channel by the server API"),
    ("channel.proxy.map_publish", Refused, "map subscriptions", "keep the state in the backend and publish its changes"),
    ("channel.proxy.map_remove", Refused, "map subscriptions", "keep the state in the backend and publish its changes"),
    ("channel.proxy.shared_poll_refresh", Refused, "shared polling", "let the backend publish by the server API"),
    ("unified_proxy", Refused, "one backend for everything, in version 5", "set client.proxy, channel.proxy and rpc.proxy"),
    // Channels: the same in channel.without_namespace and each of channel.namespaces.
    ("*.subscription_type", Refused, "map and shared poll subscriptions", "leave it out; streams are what there is"),
    ("*.map", Refused, "map subscriptions", "keep the state in the backend and publish its changes"),
    ("*.shared_poll", Refused, "shared polling", "let the backend publish by the server API"),
    ("*.map_clients_presence_channel_prefix", Refused, "presence by map subscriptions", "set presence"),
    ("*.map_users_presence_channel_prefix", Refused, "presence by map subscriptions", "set presence"),
    ("*.client_publish_debounce_interval", Refused, "asks clients to publish less often", "let the clients do so"),
    ("*.subscribe_stream_proxy_enabled", Refused, "streams of publications from a backend", "let the backend publish by the server API"),
    ("*.subscribe_stream_proxy_name", Ignored, "backend of such streams", "let the backend publish by the server API"),
    ("*.subscribe_stream_proxy_bidirectional", Refused, "streams of publications from a backend and to it", "let the backend publish by the server API"),
    ("*.keep_latest_publication", Ignored, "keeps a publication to make differences from", "it is kept wherever delta_publish is on"),
    ("*.batch_max_size", Ignored, "publications sent together", "they are sent together whenever a channel is busy"),
    ("*.batch_max_delay", Ignored, "time to wait for publications to send together", "set fanout.window_ms"),
    ("*.cache_empty_proxy_enabled", Refused, "asks a backend for what history lacks", "publish to the channel by the server API"),
    ("*.cache_empty_proxy_name", Ignored, "backend asked for what history lacks", "publish to the channel by the server API"),
    ("rpc.ping", Ignored, "a method that answers nothing, to measure", "pings of the protocol are always answered"),
    ("shared_poll", Ignored, "shared polling", "let the backend publish by the server API"),
    ("map_broker", Ignored, "where map subscriptions are kept", "there are none"),
    // More than one server.
    ("engine.type", Refused, "a broker between several servers", "this is one server; several do not know of each other"),
    ("engine", Ignored, "a broker between several servers", "this is one server; several do not know of each other"),
    ("broker.enabled", Refused, "a broker between several servers", "this is one server; several do not know of each other"),
    ("broker", Ignored, "a broker between several servers", "this is one server; several do not know of each other"),
    ("presence_manager.enabled", Refused, "presence over several servers", "this is one server; several do not know of each other"),
    ("presence_manager", Ignored, "presence over several servers", "this is one server; several do not know of each other"),
    ("node", Ignored, "name of a server among several", "this is one server"),
    ("consumers", Refused, "publications from Kafka, PostgreSQL and the like", "let a program of yours read them and publish by the server API"),
    // Operation.
    ("admin", Ignored, "web interface for administrators", "the console is at /"),
    ("prometheus", Ignored, "metrics", "they are always at /metrics"),
    ("health", Ignored, "whether the server runs", "it is always at /health and /ready"),
    ("swagger", Ignored, "pages on the server API", "the README describes it"),
    ("debug", Ignored, "profiles of a Go program", "use perf"),
    ("dev", Ignored, "page to try a client", "the console is at /"),
    ("init.enabled", Refused, "endpoint that prepares connections", "clients connect without it"),
    ("init", Ignored, "endpoint that prepares connections", "clients connect without it"),
    ("opentelemetry", Ignored, "traces", "metrics are at /metrics"),
    ("graphite", Ignored, "sends metrics to Graphite", "let a collector read /metrics"),
    ("usage_stats", Ignored, "tells the makers how the server is used", "this server tells nobody"),
    ("log.file", Ignored, "file for the log", "the log goes to stderr"),
    ("shutdown", Ignored, "time for the orderly stop", "set drain.window_ms"),
    ("pid_file", Ignored, "file with the number of the process", "a supervisor knows it"),
    ("enable_unreleased_features", Ignored, "unfinished features", "there are none"),
];

/// Paths that Centrifugo's endpoints have unless told otherwise, and this server's too.
const USUAL_PATHS: &[&str] = &[
    "/api",
    "/connection/http_stream",
    "/connection/sse",
    "/connection/uni_http_stream",
    "/connection/uni_sse",
    "/connection/uni_websocket",
    "/connection/websocket",
    "/emulation",
    "/health",
    "/metrics",
];

/// What to do with `key`, which is no setting; `node` is its value, where the source has one.
///
/// # Errors
/// Nobody knows the key, or leaving it out would not be what was asked for.
pub(super) fn foreign(
    key: &str,
    node: Option<&Node>,
    origin: Origin,
) -> Result<Given, ConfigError> {
    let Some(known) = find(key) else {
        return Err(unknown_key(&origin, key));
    };
    match (known.1, node) {
        (Is(name), Some(node)) => renamed(name, node, origin),
        _ => decide(known, key, node, &origin).map(Given::Ignored),
    }
}

/// What to say of `place`, an option of a table in a list that is no setting; `None` if nobody knows it.
pub(super) fn foreign_option(
    place: &str,
    node: &Node,
    origin: &Origin,
) -> Option<Result<String, ConfigError>> {
    find(place).map(|known| decide(known, place, Some(node), origin))
}

fn decide(
    &(_, fate, what, instead): &Foreign,
    key: &str,
    node: Option<&Node>,
    origin: &Origin,
) -> Result<String, ConfigError> {
    match fate {
        Ignored => {}
        Refused if node.is_some_and(turns_nothing_on) => {}
        Refused => {
            return Err(ConfigError::new(format!(
                "{origin}: {key} ({what}) is not supported; {instead}"
            )));
        }
        Is(name) => {
            return Err(ConfigError::new(format!(
                "{origin}: {key} ({what}) is called {name} here"
            )));
        }
    }
    Ok(format!("{origin}: ignored: {key} ({what}): {instead}"))
}

fn find(key: &str) -> Option<&'static Foreign> {
    FOREIGN.iter().find(|(known, ..)| covers(known, key))
}

fn covers(known: &str, key: &str) -> bool {
    let is_or_is_above = |rest: &str| rest.is_empty() || rest.starts_with('.');
    match known.strip_prefix('*') {
        Some(name) => key
            .match_indices(name)
            .any(|(start, name)| key.get(start + name.len()..).is_some_and(is_or_is_above)),
        None => key.strip_prefix(known).is_some_and(is_or_is_above),
    }
}

/// Off, or what Centrifugo does by itself.
fn turns_nothing_on(node: &Node) -> bool {
    let is_usual =
        |text: &str| matches!(text, "memory" | "stream" | "default") || USUAL_PATHS.contains(&text);
    node.is_off() || matches!(node, Node::Text(text) if is_usual(text))
}

fn renamed(name: &str, node: &Node, origin: Origin) -> Result<Given, ConfigError> {
    let Some(setting) = Setting::find(name) else {
        return Err(unknown_key(&origin, name));
    };
    match node.to_value(setting) {
        Ok(Some(value)) => Ok(Given::Value {
            setting,
            value,
            origin,
        }),
        Ok(None) => Ok(Given::Ignored(format!(
            "{origin}: ignored: {name} is empty"
        ))),
        Err((shown, problem)) => Err(refused(&origin, name, setting.kind, &shown, problem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SETTINGS;

    #[test]
    fn other_names_are_of_settings() {
        for (key, fate, ..) in FOREIGN {
            if let Is(name) = fate {
                assert!(Setting::find(name).is_some(), "{key} is {name}");
            }
        }
    }

    #[test]
    fn no_setting_is_foreign_but_in_part() {
        for (key, ..) in FOREIGN {
            assert!(SETTINGS.iter().all(|setting| setting.key != *key), "{key}");
        }
    }

    #[test]
    fn every_row_can_be_found_and_says_what_to_do() {
        for row @ (key, fate, what, instead) in FOREIGN {
            let key = key.replace('*', "any");
            let found = find(&key).map(|found| found.0);
            assert_eq!(found, Some(row.0), "an earlier row covers it");
            assert!(!what.is_empty() && !what.ends_with('.'), "{key}");
            assert_eq!(instead.is_empty(), matches!(fate, Is(_)), "{key}");
        }
    }

    #[test]
    fn a_key_covers_what_is_below_it() {
        for (known, key, expected) in [
            ("admin", "admin", true),
            ("admin", "admin.password", true),
            ("admin", "administration", false),
            ("*.map", "channel.namespaces[a].map.mode", true),
            ("*.map", "channel.namespaces[a].mapped", false),
            ("*.handler_prefix", "sse.handler_prefix", true),
            ("*.handler_prefix", "handler_prefix", false),
        ] {
            assert_eq!(covers(known, key), expected, "{known} {key}");
        }
    }
}
