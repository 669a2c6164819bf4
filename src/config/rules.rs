//! What settings must be to one another, and which valid ones deserve a warning.

use std::net::SocketAddr;

use super::client_rules;
use super::row::Setting;
use super::settings::Config;
use super::sources::{ConfigError, Loaded, Origin};
use super::value::Value;

/// Pairs of numbers of which the first must not exceed the second.
const AT_MOST: &[(&str, &str)] = &[
    ("http.request_line_bytes", "http.head_bytes"),
    ("outbox.soft_bytes", "outbox.hard_bytes"),
    ("heartbeat.pong_timeout_ms", "heartbeat.ping_interval_ms"),
];

/// Proxies commonly cut a connection that has been silent for this long.
const PROXY_IDLE_TIMEOUT_MS: u32 = 60_000;

/// Checks every relation.
pub(super) fn check(loaded: &Loaded) -> Result<(), ConfigError> {
    for (low, high) in AT_MOST {
        at_most(loaded, low, high)?;
    }
    check_client_publish(loaded)?;
    client_rules::check(loaded)?;
    check_listen(loaded)?;
    check_proxy_protocol(loaded)?;
    check_exposure(loaded)
}

/// Valid settings that are probably a mistake, one line each.
pub(super) fn warnings(loaded: &Loaded) -> Vec<String> {
    let mut warnings = client_rules::warnings(loaded);
    let interval_ms = loaded.config.heartbeat.ping_interval_ms;
    if interval_ms >= PROXY_IDLE_TIMEOUT_MS {
        let origin = loaded.origin("heartbeat.ping_interval_ms");
        warnings.push(format!(
            "{origin}: heartbeat.ping_interval_ms = {interval_ms}: many proxies cut a connection after 60 seconds of \
             silence; stay below {PROXY_IDLE_TIMEOUT_MS}"
        ));
    }
    warnings
}

fn at_most(loaded: &Loaded, low: &str, high: &str) -> Result<(), ConfigError> {
    let number = |key| match Setting::find(key).map(|setting| setting.get(&loaded.config)) {
        Some(Value::Number(number)) => number,
        _ => 0,
    };
    let (low_value, high_value) = (number(low), number(high));
    if low_value <= high_value {
        return Ok(());
    }
    let (low_origin, high_origin) = (loaded.origin(low), loaded.origin(high));
    // The one somebody set is the one to name first.
    let place = match low_origin {
        Origin::Default => high_origin,
        _ => low_origin,
    };
    Err(ConfigError::new(format!(
        "{place}: {low} = {low_value} ({low_origin}) exceeds {high} = {high_value} ({high_origin}); \
         lower the first or raise the second"
    )))
}

fn check_client_publish(loaded: &Loaded) -> Result<(), ConfigError> {
    let channels = &loaded.config.channels;
    let is_long = |name: &&String| name.len() > channels.name_bytes;
    let Some(name) = channels.client_publish.iter().find(is_long) else {
        return Ok(());
    };
    Err(ConfigError::new(format!(
        "{}: channels.client_publish has a name of {} bytes, longer than channels.name_bytes = {} ({}); \
         shorten it or raise the limit",
        loaded.origin("channels.client_publish"),
        name.len(),
        channels.name_bytes,
        loaded.origin("channels.name_bytes"),
    )))
}

fn check_listen(loaded: &Loaded) -> Result<(), ConfigError> {
    let config = &loaded.config;
    let origin = loaded.origin("listen");
    if config.listen.is_empty() && config.proxy_protocol_listen.is_empty() {
        return Err(ConfigError::new(format!(
            "{origin}: listen = []: nothing to listen on; give an address such as 127.0.0.1:8000"
        )));
    }
    if let Some(address) = first_duplicate(&config.listen) {
        return Err(ConfigError::new(format!(
            "{origin}: listen has {address} twice; remove one"
        )));
    }
    let all = [&config.listen[..], &config.proxy_protocol_listen].concat();
    let origin = loaded.origin("proxy_protocol_listen");
    match first_duplicate(&all) {
        None => Ok(()),
        Some(address) => Err(ConfigError::new(format!(
            "{origin}: proxy_protocol_listen has {address} twice, or listen has it too; remove one"
        ))),
    }
}

/// The PROXY protocol lets its sender be anyone.
fn check_proxy_protocol(loaded: &Loaded) -> Result<(), ConfigError> {
    let config = &loaded.config;
    if config.proxy_protocol_listen.is_empty() || !config.trusted_proxies.is_empty() {
        return Ok(());
    }
    Err(ConfigError::new(format!(
        "{}: proxy_protocol_listen is for trusted proxies, and trusted_proxies is empty; set it to the \
         proxies' networks",
        loaded.origin("proxy_protocol_listen"),
    )))
}

/// Port 0 stands for any free port, so it may be asked for more than once.
fn first_duplicate(listen: &[SocketAddr]) -> Option<&SocketAddr> {
    let mut rest = listen;
    while let Some((address, tail)) = rest.split_first() {
        if address.port() != 0 && tail.contains(address) {
            return Some(address);
        }
        rest = tail;
    }
    None
}

/// An address others can reach needs a key, or the operator's word that none is wanted.
fn check_exposure(loaded: &Loaded) -> Result<(), ConfigError> {
    let config = &loaded.config;
    for (key, addresses) in [
        ("listen", &config.listen),
        ("proxy_protocol_listen", &config.proxy_protocol_listen),
    ] {
        check_addresses(config, addresses)
            .map_err(|text| ConfigError::new(format!("{}: {key} = {text}", loaded.origin(key))))?;
    }
    Ok(())
}

/// Whether the server may listen on `addresses`: those that others can reach need a key.
///
/// # Errors
/// The address to blame, why, and the cures.
pub fn check_addresses(config: &Config, addresses: &[SocketAddr]) -> Result<(), String> {
    match exposed_address(config, addresses) {
        None => Ok(()),
        Some(address) => Err(format!(
            "{address} is reachable from other machines, and anybody there could publish; set \
             api_keys, or insecure = true to allow it, or listen on 127.0.0.1"
        )),
    }
}

fn exposed_address<'a>(config: &Config, addresses: &'a [SocketAddr]) -> Option<&'a SocketAddr> {
    if config.is_api_open() || config.has_api_key() {
        return None;
    }
    let is_loopback = |address: &&SocketAddr| address.ip().to_canonical().is_loopback();
    addresses.iter().find(|address| !is_loopback(address))
}
