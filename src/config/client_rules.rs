//! What settings of clients and channels must be to one another.

use std::fmt;

use super::channel_options::{ChannelOptions, DEFAULT_PROXY, RecoveryMode, SlowReader};
use super::proxy::{Proxy, RpcOptions};
use super::settings::Config;
use super::sources::{ConfigError, Loaded};
use super::tables::{Tables, place};

/// Where a group of options stands: `channel.without_namespace`, or `channel.namespaces[chat]`.
struct Place<'a> {
    loaded: &'a Loaded,
    prefix: String,
}

impl Place<'_> {
    fn key(&self, option: &str) -> String {
        format!("{}.{option}", self.prefix)
    }

    /// The error of a line: where `option` was set, its key, its value, what is wrong and what to do.
    fn refuse(&self, option: &str, value: impl fmt::Display, problem: &str) -> ConfigError {
        let key = self.key(option);
        let origin = self.loaded.origin(&key);
        ConfigError::new(format!("{origin}: {key} = {value}: {problem}"))
    }
}

/// Checks every relation.
pub(super) fn check(loaded: &Loaded) -> Result<(), ConfigError> {
    let config = &loaded.config;
    check_heartbeat(loaded)?;
    check_tokens(loaded)?;
    check_client_proxies(loaded)?;
    check_named_proxies(loaded)?;
    for (place, options) in channel_places(loaded) {
        check_history(config, &place, options)?;
        check_recovery(&place, options)?;
        check_publications(&place, options)?;
        check_own_heartbeat(config, &place, options)?;
        check_channel_proxies(config, &place, options)?;
    }
    for (place, options) in rpc_places(loaded) {
        check_rpc(config, &place, options)?;
    }
    check_personal_channel(loaded)?;
    check_api_keys(loaded)
}

/// Valid settings that are probably a mistake, one line each.
pub(super) fn warnings(loaded: &Loaded) -> Vec<String> {
    let config = &loaded.config;
    let mut warnings = Vec::new();
    let is_reachable = config
        .listen
        .iter()
        .any(|address| !address.ip().to_canonical().is_loopback());
    if config.client.limits.insecure && is_reachable {
        warnings.push(format!(
            "{}: client.insecure = true: whoever reaches the server may do anything a client can; for development only",
            loaded.origin("client.insecure"),
        ));
    }
    for (place, options) in channel_places(loaded) {
        if options.delta_publish && !options.allows_fossil() {
            let key = place.key("delta_publish");
            warnings.push(format!(
                "{}: {key} = true: has no effect without allowed_delta_types = [\"fossil\"]",
                loaded.origin(&key),
            ));
        }
    }
    warnings
}

fn channel_places(loaded: &Loaded) -> impl Iterator<Item = (Place<'_>, &ChannelOptions)> {
    let channel = &loaded.config.channel;
    let own = Place {
        loaded,
        prefix: "channel.without_namespace".to_owned(),
    };
    let named = channel.namespaces.iter().map(move |(name, options)| {
        let prefix = format!("{}[{name}]", Tables::ChannelNamespaces.key());
        (Place { loaded, prefix }, options)
    });
    std::iter::once((own, &channel.without_namespace)).chain(named)
}

fn rpc_places(loaded: &Loaded) -> impl Iterator<Item = (Place<'_>, &RpcOptions)> {
    let rpc = &loaded.config.rpc;
    let own = Place {
        loaded,
        prefix: "rpc.without_namespace".to_owned(),
    };
    let named = rpc.namespaces.iter().map(move |(name, options)| {
        let prefix = format!("{}[{name}]", Tables::RpcNamespaces.key());
        (Place { loaded, prefix }, options)
    });
    std::iter::once((own, &rpc.without_namespace)).chain(named)
}

fn check_heartbeat(loaded: &Loaded) -> Result<(), ConfigError> {
    let limits = &loaded.config.client.limits;
    let place = Place {
        loaded,
        prefix: "client".to_owned(),
    };
    match is_heartbeat(limits.ping_interval_s, limits.pong_timeout_s) {
        true => Ok(()),
        false => Err(not_below(
            &place,
            limits.ping_interval_s,
            limits.pong_timeout_s,
        )),
    }
}

/// A pong must be due before the next ping. Without pings, none is due.
fn is_heartbeat(ping_interval_s: u32, pong_timeout_s: u32) -> bool {
    ping_interval_s == 0 || pong_timeout_s < ping_interval_s
}

fn not_below(place: &Place<'_>, ping_interval_s: u32, pong_timeout_s: u32) -> ConfigError {
    let ping = place.key("ping_interval");
    place.refuse(
        "pong_timeout",
        format_args!("\"{pong_timeout_s}s\""),
        &format!(
            "must be below {ping} = \"{ping_interval_s}s\"; lower the first or raise the second"
        ),
    )
}

fn check_own_heartbeat(
    config: &Config,
    place: &Place<'_>,
    options: &ChannelOptions,
) -> Result<(), ConfigError> {
    let or = |own: u32, general_ms: u32| match own {
        0 => general_ms.div_ceil(1_000),
        own => own,
    };
    let ping_s = or(options.ping_interval_s, config.heartbeat.ping_interval_ms);
    let pong_s = or(options.pong_timeout_s, config.heartbeat.pong_timeout_ms);
    let is_own = options.ping_interval_s > 0 || options.pong_timeout_s > 0;
    match is_own && !is_heartbeat(ping_s, pong_s) {
        true => Err(not_below(place, ping_s, pong_s)),
        false => Ok(()),
    }
}

fn check_tokens(loaded: &Loaded) -> Result<(), ConfigError> {
    let client = &loaded.config.client;
    let own = &client.subscription_token;
    if own.enabled && !own.token.has_key() {
        let place = Place {
            loaded,
            prefix: "client.subscription_token".to_owned(),
        };
        return Err(place.refuse(
            "enabled",
            true,
            "has no key, so no token could be good; set client.subscription_token.hmac_secret_key or another key",
        ));
    }
    for (prefix, token) in [
        ("client.token", &client.token),
        ("client.subscription_token", &own.token),
    ] {
        let place = Place {
            loaded,
            prefix: prefix.to_owned(),
        };
        if !token.jwks_public_endpoint.is_empty() && !token.jwks_file.is_empty() {
            let both = "is one of two places for the same keys; remove it or jwks_public_endpoint";
            return Err(place.refuse("jwks_file", format_args!("{:?}", token.jwks_file), both));
        }
        if !token.hmac_previous_secret_key.is_empty() && token.hmac_secret_key.is_empty() {
            let alone = "is for the time when hmac_secret_key is new; set hmac_secret_key";
            return Err(place.refuse("hmac_previous_secret_key", "\"***\"", alone));
        }
    }
    Ok(())
}

fn check_client_proxies(loaded: &Loaded) -> Result<(), ConfigError> {
    let proxies = &loaded.config.client.proxy;
    for (prefix, optional) in [
        ("client.proxy.connect", &proxies.connect),
        ("client.proxy.refresh", &proxies.refresh),
    ] {
        if optional.enabled && optional.proxy.endpoint.is_empty() {
            let place = Place {
                loaded,
                prefix: prefix.to_owned(),
            };
            let problem = format!("there is nobody to ask; set {prefix}.endpoint");
            return Err(place.refuse("enabled", true, &problem));
        }
    }
    Ok(())
}

fn check_named_proxies(loaded: &Loaded) -> Result<(), ConfigError> {
    for (name, proxy) in &loaded.config.proxies {
        let place = Place {
            loaded,
            prefix: format!("{}[{name}]", Tables::Proxies.key()),
        };
        if name == DEFAULT_PROXY {
            let problem =
                "stands for client.proxy, channel.proxy and rpc.proxy; choose another name";
            return Err(place.refuse("name", "\"default\"", problem));
        }
        if proxy.endpoint.is_empty() {
            return Err(place.refuse("endpoint", "\"\"", "there is nobody to ask; set it"));
        }
    }
    Ok(())
}

fn check_history(
    config: &Config,
    place: &Place<'_>,
    options: &ChannelOptions,
) -> Result<(), ConfigError> {
    let (size, ttl_s) = (options.history_size, options.history_ttl_s);
    if size > 0 && ttl_s == 0 {
        let problem = "keeps nothing without history_ttl; set it too, as in history_ttl = \"300s\"";
        return Err(place.refuse("history_size", size, problem));
    }
    let shown_ttl = format!("\"{ttl_s}s\"");
    if size == 0 && ttl_s > 0 {
        let problem = "keeps nothing without history_size; set it too, as in history_size = 100";
        return Err(place.refuse("history_ttl", shown_ttl, problem));
    }
    let meta_ttl_s = config.channel.history_meta_ttl_s(options);
    match ttl_s > meta_ttl_s {
        true => Err(place.refuse(
            "history_ttl",
            shown_ttl,
            &format!(
                "exceeds history_meta_ttl = \"{meta_ttl_s}s\"; lower the first or raise the second"
            ),
        )),
        false => Ok(()),
    }
}

fn check_recovery(place: &Place<'_>, options: &ChannelOptions) -> Result<(), ConfigError> {
    let needs_history = [
        ("force_recovery", options.force_recovery),
        ("allow_recovery", options.allow_recovery),
        ("force_positioning", options.force_positioning),
        ("allow_positioning", options.allow_positioning),
        ("auto_cache_recover", options.auto_cache_recover),
    ];
    let mut on = needs_history.iter().filter(|(_, is_on)| *is_on);
    if let Some((option, _)) = on.next().filter(|_| !options.has_history()) {
        let problem = "needs a history; set history_size and history_ttl";
        return Err(place.refuse(option, true, problem));
    }
    if options.auto_cache_recover && options.force_recovery_mode != RecoveryMode::Cache {
        let problem = "needs force_recovery_mode = \"cache\"";
        return Err(place.refuse("auto_cache_recover", true, problem));
    }
    Ok(())
}

fn check_publications(place: &Place<'_>, options: &ChannelOptions) -> Result<(), ConfigError> {
    if !options.conflate_by.is_empty() && options.slow_reader != SlowReader::KeepNewest {
        let problem = "needs slow_reader = \"keep_newest\"";
        return Err(place.refuse(
            "conflate_by",
            format_args!("{:?}", options.conflate_by),
            problem,
        ));
    }
    Ok(())
}

fn check_channel_proxies(
    config: &Config,
    place: &Place<'_>,
    options: &ChannelOptions,
) -> Result<(), ConfigError> {
    let own = &config.channel.proxy;
    for (what, is_enabled, name, proxy) in [
        (
            "subscribe",
            options.subscribe_proxy_enabled,
            &options.subscribe_proxy_name,
            &own.subscribe,
        ),
        (
            "publish",
            options.publish_proxy_enabled,
            &options.publish_proxy_name,
            &own.publish,
        ),
        (
            "sub_refresh",
            options.sub_refresh_proxy_enabled,
            &options.sub_refresh_proxy_name,
            &own.sub_refresh,
        ),
    ] {
        let option = format!("{what}_proxy");
        check_proxy(
            config,
            place,
            &option,
            is_enabled,
            name,
            proxy,
            &format!("channel.proxy.{what}"),
        )?;
    }
    Ok(())
}

fn check_rpc(config: &Config, place: &Place<'_>, options: &RpcOptions) -> Result<(), ConfigError> {
    let (is_enabled, name) = (options.proxy_enabled, &options.proxy_name);
    check_proxy(
        config,
        place,
        "proxy",
        is_enabled,
        name,
        &config.rpc.proxy,
        "rpc.proxy",
    )
}

/// Whether the backend that options name exists, and is somewhere if they enable it.
fn check_proxy(
    config: &Config,
    place: &Place<'_>,
    option: &str,
    is_enabled: bool,
    name: &str,
    own: &Proxy,
    own_key: &str,
) -> Result<(), ConfigError> {
    match config.proxy(name, own) {
        None => Err(place.refuse(
            &format!("{option}_name"),
            format_args!("{name:?}"),
            "no backend has this name; add it to [[proxies]]",
        )),
        Some(proxy) if is_enabled && proxy.endpoint.is_empty() => {
            let problem = format!("there is nobody to ask; set {own_key}.endpoint");
            Err(place.refuse(&format!("{option}_enabled"), true, &problem))
        }
        Some(_) => Ok(()),
    }
}

fn check_personal_channel(loaded: &Loaded) -> Result<(), ConfigError> {
    let config = &loaded.config;
    let personal = &config.client.subscribe_to_user_personal_channel;
    if !personal.enabled {
        return Ok(());
    }
    let place = Place {
        loaded,
        prefix: "client.subscribe_to_user_personal_channel".to_owned(),
    };
    let name = &personal.personal_channel_namespace;
    let Some(options) = config.channel.namespace(name) else {
        let problem = "no namespace has this name; add it to [[channel.namespaces]]";
        return Err(place.refuse(
            "personal_channel_namespace",
            format_args!("{name:?}"),
            problem,
        ));
    };
    if config.channel.naming.user_boundary.is_empty() {
        let problem = "needs a channel.user_boundary to make names of channels from names of users";
        return Err(place.refuse("enabled", true, problem));
    }
    if personal.single_connection && !options.presence {
        let problem = "needs presence = true in the options of the personal channels";
        return Err(place.refuse("single_connection", true, problem));
    }
    Ok(())
}

fn check_api_keys(loaded: &Loaded) -> Result<(), ConfigError> {
    let keys = &loaded.config.http_api_keys;
    match keys.iter().position(|key| key.key.is_empty()) {
        None => Ok(()),
        Some(index) => Err(ConfigError::new(format!(
            "{}: {} has no key; add key = \"...\"",
            loaded.origin(Tables::ApiKeys.key()),
            place(Tables::ApiKeys, &(index + 1).to_string(), "key"),
        ))),
    }
}
