//! The application's backend: which of its endpoints is asked about what, and the way of answers to the shards.

use std::sync::Arc;

use tracing::warn;

use crate::auth::JwkSet;
use crate::config::{ChannelOptions, Config, Proxy, TokenConfig};
use crate::hooks::{
    BreakerLimits, Busy, CallId, Completion, HookCall, HookOutcome, HooksHandle, HooksSettings,
    KeySource, KeySourceSettings, Keys, PoolLimits, Target, TargetSettings,
};
use crate::hub::Key;

use super::inbox::{Asker, Link, Message};

/// From one fetch of a document of keys to the next, in seconds, unless a token names a key it lacks.
const KEYS_REFRESH_INTERVAL_S: u32 = 600;
/// The longest a failing endpoint is left alone, in milliseconds, where the configuration says nothing longer.
const MAX_PAUSE_MS: u64 = 30_000;

/// Which endpoints of the backend are asked about what. Nothing of it, if nothing is configured.
#[derive(Debug, Default)]
pub struct Backend {
    handle: Option<HooksHandle>,
    connect: Option<Endpoint>,
    refresh: Option<Endpoint>,
    subscribe: Option<Endpoint>,
    publish: Option<Endpoint>,
    sub_refresh: Option<Endpoint>,
    rpc: Option<Endpoint>,
    /// Those of `proxies`.
    named: Vec<(String, Endpoint)>,
    /// Names of the clients' headers that some endpoint gets.
    headers: Vec<String>,
    connect_keys: Option<KeySource>,
    subscribe_keys: Option<KeySource>,
}

/// An endpoint of the backend, and what it is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endpoint {
    pub target: Target,
    /// Data goes as base64.
    pub is_binary: bool,
    /// It gets what it attached to the connection.
    pub gets_meta: bool,
}

impl Backend {
    /// What `config` says, and what to start the hooks with: settings that are empty if there is nothing to call.
    pub fn plan(config: &Config) -> (Self, HooksSettings) {
        let mut plan = Self::default();
        let mut settings = common_settings(config);
        let (client, channel) = (&config.client, &config.channel.proxy);
        let of_client = [
            (
                &mut plan.connect,
                "client.proxy.connect",
                &client.proxy.connect,
            ),
            (
                &mut plan.refresh,
                "client.proxy.refresh",
                &client.proxy.refresh,
            ),
        ];
        for (place, name, optional) in of_client {
            if optional.enabled {
                *place = add_target(&mut settings, name, &optional.proxy);
            }
        }
        plan.subscribe = add_target(&mut settings, "channel.proxy.subscribe", &channel.subscribe);
        plan.publish = add_target(&mut settings, "channel.proxy.publish", &channel.publish);
        plan.sub_refresh = add_target(
            &mut settings,
            "channel.proxy.sub_refresh",
            &channel.sub_refresh,
        );
        plan.rpc = add_target(&mut settings, "rpc.proxy", &config.rpc.proxy);
        for (name, proxy) in &config.proxies {
            if let Some(endpoint) = add_target(&mut settings, &format!("proxies.{name}"), proxy) {
                plan.named.push((name.clone(), endpoint));
            }
        }
        plan.connect_keys = add_keys(&mut settings, "client.token", &client.token);
        plan.subscribe_keys = match client.subscription_token.enabled {
            false => plan.connect_keys,
            true => add_keys(
                &mut settings,
                "client.subscription_token",
                &client.subscription_token.token,
            ),
        };
        let headers = settings
            .targets
            .iter()
            .flat_map(|target| &target.http_headers);
        plan.headers = headers.map(|name| name.to_ascii_lowercase()).collect();
        plan.headers.sort_unstable();
        plan.headers.dedup();
        (plan, settings)
    }

    /// The hooks' thread runs, and is asked through `handle`.
    pub fn started(&mut self, handle: HooksHandle) {
        self.handle = Some(handle);
    }

    /// Appends its metrics; nothing if it was not started.
    pub fn render_metrics(&self, out: &mut String) {
        if let Some(handle) = &self.handle {
            handle.metrics().render(out);
        }
    }

    pub(super) fn submit(&self, call: HookCall) -> Result<(), Busy> {
        match &self.handle {
            Some(handle) => handle.submit(call),
            None => Err(Busy),
        }
    }

    pub(super) fn refresh_keys(&self, shard: u16, source: KeySource) -> Result<(), Busy> {
        match &self.handle {
            Some(handle) => handle.refresh_keys(shard, source),
            None => Err(Busy),
        }
    }

    /// Who is asked about a client that comes without a token.
    pub(super) fn on_connect(&self) -> Option<Endpoint> {
        self.connect
    }

    /// Who is asked whether a connection goes on when it expires.
    pub(super) fn on_refresh(&self) -> Option<Endpoint> {
        self.refresh
    }

    /// Who is asked whether a client may subscribe.
    pub(super) fn on_subscribe(&self, options: &ChannelOptions) -> Option<Endpoint> {
        let name = &options.subscribe_proxy_name;
        self.choose(options.subscribe_proxy_enabled, name, self.subscribe)
    }

    /// Who is asked whether a client may publish.
    pub(super) fn on_publish(&self, options: &ChannelOptions) -> Option<Endpoint> {
        let name = &options.publish_proxy_name;
        self.choose(options.publish_proxy_enabled, name, self.publish)
    }

    /// Who is asked whether a subscription goes on when it expires.
    pub(super) fn on_sub_refresh(&self, options: &ChannelOptions) -> Option<Endpoint> {
        let name = &options.sub_refresh_proxy_name;
        self.choose(options.sub_refresh_proxy_enabled, name, self.sub_refresh)
    }

    /// Whether there is anybody to hand calls on to.
    pub(super) fn takes_rpc(&self) -> bool {
        self.rpc.is_some() || !self.named.is_empty()
    }

    /// Who answers calls, if `is_enabled` for them under the name `name`.
    pub(super) fn on_rpc(&self, is_enabled: bool, name: &str) -> Option<Endpoint> {
        self.choose(is_enabled, name, self.rpc)
    }

    fn choose(&self, is_enabled: bool, name: &str, own: Option<Endpoint>) -> Option<Endpoint> {
        if !is_enabled {
            return None;
        }
        let mut named = self.named.iter();
        match named.find(|(known, _)| known == name) {
            Some((_, endpoint)) => Some(*endpoint),
            None => own,
        }
    }

    /// Names of the clients' headers to keep, in lower case.
    pub(super) fn headers(&self) -> &[String] {
        &self.headers
    }

    /// Where keys of connection tokens are fetched from.
    pub(super) fn connect_keys(&self) -> Option<KeySource> {
        self.connect_keys
    }

    /// Where keys of subscription tokens are fetched from.
    pub(super) fn subscribe_keys(&self) -> Option<KeySource> {
        self.subscribe_keys
    }

    /// Whether keys are fetched at all.
    pub(super) fn fetches_keys(&self) -> bool {
        self.connect_keys.is_some() || self.subscribe_keys.is_some()
    }
}

fn common_settings(config: &Config) -> HooksSettings {
    let hooks = &config.hooks;
    let defaults = HooksSettings::default();
    let pause_ms = u64::from(hooks.breaker_open_ms);
    HooksSettings {
        pool: PoolLimits {
            max_connections: hooks.connections_per_host as usize,
            max_idle: hooks.idle_connections as usize,
            idle_timeout_ms: u64::from(hooks.idle_timeout_ms),
            max_waiters: hooks.waiters as usize,
        },
        connect_timeout_ms: hooks.connect_timeout_ms,
        breaker: BreakerLimits {
            max_consecutive_failures: hooks.breaker_failures,
            pause_ms,
            max_pause_ms: pause_ms.max(MAX_PAUSE_MS),
            ..defaults.breaker
        },
        max_response_bytes: hooks.answer_bytes,
        ..defaults
    }
}

fn add_target(settings: &mut HooksSettings, name: &str, proxy: &Proxy) -> Option<Endpoint> {
    if proxy.endpoint.is_empty() {
        return None;
    }
    let target = Target(u16::try_from(settings.targets.len()).ok()?);
    settings.targets.push(TargetSettings {
        name: name.to_owned(),
        url: proxy.endpoint.clone(),
        timeout_ms: proxy.timeout_ms,
        http_headers: proxy.http_headers.clone(),
        static_headers: proxy.static_headers.clone(),
    });
    Some(Endpoint {
        target,
        is_binary: proxy.binary_encoding,
        gets_meta: proxy.include_connection_meta,
    })
}

fn add_keys(settings: &mut HooksSettings, section: &str, token: &TokenConfig) -> Option<KeySource> {
    let url = &token.jwks_public_endpoint;
    if url.is_empty() {
        return None;
    }
    let mut sources = settings.key_sources.iter();
    if let Some(index) = sources.position(|source| source.url == *url) {
        return Some(KeySource(index as u16));
    }
    settings.key_sources.push(KeySourceSettings {
        name: format!("{section}.jwks_public_endpoint"),
        url: url.clone(),
        refresh_interval_s: KEYS_REFRESH_INTERVAL_S,
    });
    Some(KeySource(settings.key_sources.len() as u16 - 1))
}

/// What became of a call, on its way to the shard that asked.
#[derive(Debug)]
pub struct HookAnswer {
    /// Who waits.
    pub asker: Asker,
    /// What became of the call.
    pub outcome: HookOutcome,
}

/// News of a document of keys, on its way to a shard.
#[derive(Clone, Debug)]
pub struct KeyNews {
    /// Which document.
    pub source: KeySource,
    /// The keys in it; `None` if they are as they were, or could not be had.
    pub keys: Option<Arc<JwkSet>>,
}

/// Brings what the hooks' thread has into the shards' inboxes.
pub struct Returns {
    /// By shard.
    links: Vec<Link>,
}

impl Returns {
    /// By the links of a sender of its own to every shard.
    pub fn new(links: Vec<Link>) -> Self {
        Self { links }
    }
}

impl Completion for Returns {
    fn complete(&mut self, id: CallId, outcome: HookOutcome) {
        let session = key_of(id.session);
        let asker = Asker {
            session,
            tag: id.tag,
        };
        if let Some(link) = self.links.get_mut(usize::from(id.shard)) {
            link.send_control(Message::Hook(Box::new(HookAnswer { asker, outcome })));
        }
    }

    fn keys(&mut self, shard: Option<u16>, source: KeySource, keys: Keys) {
        let news = KeyNews {
            source,
            keys: parse(source, keys),
        };
        for (id, link) in self.links.iter_mut().enumerate() {
            if shard.is_none_or(|shard| usize::from(shard) == id) {
                link.send_control(Message::Keys(Box::new(news.clone())));
            }
        }
    }

    fn flush(&mut self) -> bool {
        let waiting = self.links.iter_mut().map(Link::flush);
        waiting.fold(false, |some, waits| some | waits)
    }
}

/// A document that is no key set changes nothing.
fn parse(source: KeySource, keys: Keys) -> Option<Arc<JwkSet>> {
    let Keys::Document(document) = keys else {
        return None;
    };
    match JwkSet::parse(&document) {
        Ok(set) => Some(Arc::new(set)),
        Err(error) => {
            warn!(source = source.0, %error, "the document of keys cannot be used");
            None
        }
    }
}

/// A session as a call carries it.
pub(super) fn number_of(key: Key) -> u64 {
    u64::from(key.slot) << 32 | u64::from(key.generation)
}

fn key_of(number: u64) -> Key {
    Key {
        slot: (number >> 32) as u32,
        generation: number as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(endpoint: &str) -> Proxy {
        Proxy {
            endpoint: endpoint.to_owned(),
            http_headers: vec!["Cookie".to_owned()],
            ..Proxy::default()
        }
    }

    #[test]
    fn without_anything_configured_there_is_nothing_to_call() {
        let (backend, settings) = Backend::plan(&Config::default());
        assert!(settings.is_empty());
        assert!(backend.headers().is_empty());
        assert_eq!(settings.check(), Ok(()));
    }

    #[test]
    fn a_name_leads_to_its_own_endpoint_and_default_to_that_of_the_section() {
        let mut config = Config::default();
        config.channel.proxy.subscribe = proxy("http://127.0.0.1:1/own");
        config.proxies = vec![("other".to_owned(), proxy("http://127.0.0.1:1/other"))];
        let (backend, settings) = Backend::plan(&config);
        let mut options = ChannelOptions::default();
        let target = |options: &ChannelOptions| backend.on_subscribe(options).map(|it| it.target);
        assert_eq!(target(&options), None);
        options.subscribe_proxy_enabled = true;
        assert_eq!(target(&options), Some(Target(0)));
        options.subscribe_proxy_name = "other".to_owned();
        assert_eq!(target(&options), Some(Target(1)));
        assert_eq!(settings.targets[1].name, "proxies.other");
        assert_eq!(backend.headers(), ["cookie"]);
    }

    #[test]
    fn one_document_of_keys_for_both_kinds_of_tokens_is_fetched_once() {
        let mut config = Config::default();
        config.client.token.jwks_public_endpoint = "http://127.0.0.1:1/jwks".to_owned();
        config.client.subscription_token.enabled = true;
        config.client.subscription_token.token.jwks_public_endpoint =
            "http://127.0.0.1:1/jwks".to_owned();
        let (backend, settings) = Backend::plan(&config);
        assert_eq!(settings.key_sources.len(), 1);
        assert_eq!(backend.connect_keys(), backend.subscribe_keys());
    }

    #[test]
    fn a_session_comes_back_as_it_went() {
        let key = Key {
            slot: u32::MAX - 1,
            generation: 7,
        };
        assert_eq!(key_of(number_of(key)), key);
    }
}
