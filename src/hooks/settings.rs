//! What is called, and within which bounds.

use std::path::PathBuf;

use super::breaker::BreakerLimits;
use super::pool::PoolLimits;
use super::url::Url;

/// Endpoints that may be configured, of hooks and of keys each.
pub const MAX_ENDPOINTS: usize = 64;
/// The longest time-out, in milliseconds.
pub const MAX_TIMEOUT_MS: u32 = 60_000;

/// Everything about calls to the backend.
#[derive(Clone, Debug)]
pub struct HooksSettings {
    /// The endpoints. [`super::Target`] is an index here.
    pub targets: Vec<TargetSettings>,
    /// Documents of keys (JWKS). [`super::KeySource`] is an index here.
    pub key_sources: Vec<KeySourceSettings>,
    /// Bounds of the connections to each scheme, host and port.
    pub pool: PoolLimits,
    /// Time to connect, TLS included, in milliseconds.
    pub connect_timeout_ms: u32,
    /// When each endpoint's breaker opens.
    pub breaker: BreakerLimits,
    /// Calls on their way from all shards to the hooks' thread, at most.
    pub queue_calls: usize,
    /// The longest answer, in bytes.
    pub max_response_bytes: usize,
    /// Certificates (PEM) of authorities to trust in place of the platform's.
    pub ca_file: Option<PathBuf>,
}

/// One endpoint of the backend.
#[derive(Clone, Debug)]
pub struct TargetSettings {
    /// The setting's name: in errors, logs and as the label `hook` of metrics.
    pub name: String,
    /// `http://` or `https://`.
    pub url: String,
    /// Time for a whole call, from a shard's submission on, in milliseconds.
    pub timeout_ms: u32,
    /// Names of the client's headers that are forwarded.
    pub http_headers: Vec<String>,
    /// Headers sent with every call.
    pub static_headers: Vec<(String, String)>,
}

/// A document of keys.
#[derive(Clone, Debug)]
pub struct KeySourceSettings {
    /// The setting's name: in errors, logs and as the label `source` of metrics.
    pub name: String,
    /// `https://`, or `http://` to this machine for development.
    pub url: String,
    /// From one fetch to the next, in seconds.
    pub refresh_interval_s: u32,
}

impl Default for HooksSettings {
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            key_sources: Vec::new(),
            pool: PoolLimits {
                max_connections: 64,
                max_idle: 64,
                // Node.js keeps a connection for 5 seconds, others for longer.
                idle_timeout_ms: 4_000,
                max_waiters: 1024,
            },
            connect_timeout_ms: 1_000,
            breaker: BreakerLimits {
                max_consecutive_failures: 10,
                max_failure_percent: 50,
                min_calls: 20,
                window_ms: 10_000,
                pause_ms: 1_000,
                max_pause_ms: 30_000,
            },
            queue_calls: 8192,
            max_response_bytes: 1024 * 1024,
            ca_file: None,
        }
    }
}

/// Headers that belong to the connection or the message and cannot be set from outside.
const RESERVED_HEADERS: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl HooksSettings {
    /// True if there is nothing to call and the hooks need not be started.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.key_sources.is_empty()
    }

    /// Whether the settings can be used; if not, which is wrong, its value and the cure.
    pub fn check(&self) -> Result<(), String> {
        at_most_endpoints("hooks", self.targets.len())?;
        at_most_endpoints("key sources", self.key_sources.len())?;
        self.targets.iter().try_for_each(TargetSettings::check)?;
        self.key_sources
            .iter()
            .try_for_each(KeySourceSettings::check)?;
        self.numbers().iter().try_for_each(Range::check)
    }

    fn numbers(&self) -> [Range<'_>; 13] {
        let (pool, breaker) = (&self.pool, &self.breaker);
        let size = |number: usize| number as u64;
        let max_timeout_ms = u64::from(MAX_TIMEOUT_MS);
        let max_connections = size(pool.max_connections);
        [
            Range("hooks.max_connections", max_connections, 1, 10_000),
            Range("hooks.max_idle", size(pool.max_idle), 0, 10_000),
            Range("hooks.max_waiters", size(pool.max_waiters), 0, 1_000_000),
            Range("hooks.idle_timeout_ms", pool.idle_timeout_ms, 1, 3_600_000),
            Range(
                "hooks.connect_timeout_ms",
                u64::from(self.connect_timeout_ms),
                1,
                max_timeout_ms,
            ),
            Range("hooks.queue_calls", size(self.queue_calls), 1, 1_000_000),
            Range(
                "hooks.max_response_bytes",
                size(self.max_response_bytes),
                1,
                64 * 1024 * 1024,
            ),
            Range(
                "hooks.breaker.max_consecutive_failures",
                u64::from(breaker.max_consecutive_failures),
                1,
                1_000_000,
            ),
            Range(
                "hooks.breaker.max_failure_percent",
                u64::from(breaker.max_failure_percent),
                1,
                100,
            ),
            Range(
                "hooks.breaker.min_calls",
                u64::from(breaker.min_calls),
                1,
                1_000_000,
            ),
            Range("hooks.breaker.window_ms", breaker.window_ms, 1, 3_600_000),
            Range("hooks.breaker.pause_ms", breaker.pause_ms, 1, 3_600_000),
            Range(
                "hooks.breaker.max_pause_ms",
                breaker.max_pause_ms,
                breaker.pause_ms,
                3_600_000,
            ),
        ]
    }
}

impl TargetSettings {
    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        Url::parse(&self.url).map_err(|error| format!("{name}: {error}"))?;
        Range(
            &format!("{name}.timeout_ms"),
            u64::from(self.timeout_ms),
            1,
            u64::from(MAX_TIMEOUT_MS),
        )
        .check()?;
        let fixed = self.static_headers.iter().map(|(header, _)| header);
        for header in self.http_headers.iter().chain(fixed) {
            check_header_name(header).map_err(|error| format!("{name}: {error}"))?;
        }
        for (header, value) in &self.static_headers {
            hyper::header::HeaderValue::from_str(value).map_err(|_| {
                // The value may be a secret.
                format!(
                    "{name}: the value of the header {header:?} has control characters; remove them"
                )
            })?;
        }
        Ok(())
    }
}

impl KeySourceSettings {
    fn check(&self) -> Result<(), String> {
        let (name, url) = (&self.name, &self.url);
        let parsed = Url::parse(url).map_err(|error| format!("{name}: {error}"))?;
        if !parsed.origin.is_tls && !parsed.origin.is_loopback_name() {
            return Err(format!(
                "{name}: {url:?} would fetch keys in the clear, and whoever changes them on the way can be \
                 anybody; use https:// (http:// is for localhost and 127.0.0.1 only)"
            ));
        }
        let interval_s = u64::from(self.refresh_interval_s);
        Range(
            &format!("{name}.refresh_interval_s"),
            interval_s,
            10,
            86_400,
        )
        .check()
    }
}

/// A setting's name, its value, and the least and the most it may be.
struct Range<'a>(&'a str, u64, u64, u64);

impl Range<'_> {
    fn check(&self) -> Result<(), String> {
        let Self(name, value, least, most) = self;
        match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(format!(
                "{name} = {value} is out of range; choose {least} to {most}"
            )),
        }
    }
}

fn at_most_endpoints(what: &str, count: usize) -> Result<(), String> {
    match count <= MAX_ENDPOINTS {
        true => Ok(()),
        false => Err(format!(
            "{count} {what} are configured; remove some, {MAX_ENDPOINTS} may be"
        )),
    }
}

fn check_header_name(header: &str) -> Result<(), String> {
    if hyper::header::HeaderName::from_bytes(header.as_bytes()).is_err() {
        return Err(format!(
            "{header:?} is not a header's name; use letters, digits and dashes"
        ));
    }
    match RESERVED_HEADERS.contains(&header.to_ascii_lowercase().as_str()) {
        true => Err(format!(
            "the header {header:?} belongs to the call itself; remove it"
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> TargetSettings {
        TargetSettings {
            name: "hooks.connect".to_owned(),
            url: "http://backend:3000/connect".to_owned(),
            timeout_ms: 1000,
            http_headers: vec!["Cookie".to_owned()],
            static_headers: vec![("X-Secret".to_owned(), "s".to_owned())],
        }
    }

    fn refusal(change: impl FnOnce(&mut TargetSettings)) -> String {
        let mut target = target();
        change(&mut target);
        let targets = vec![target];
        let settings = HooksSettings {
            targets,
            ..HooksSettings::default()
        };
        settings.check().unwrap_err()
    }

    #[test]
    fn the_defaults_and_a_common_target_are_fine() {
        let settings = HooksSettings {
            targets: vec![target()],
            ..HooksSettings::default()
        };
        assert_eq!(settings.check(), Ok(()));
    }

    #[test]
    fn a_wrong_target_is_named_with_its_cure() {
        let text = refusal(|target| target.timeout_ms = 0);
        assert!(text.contains("hooks.connect.timeout_ms = 0"), "{text}");
        let text = refusal(|target| target.http_headers.push("Host".to_owned()));
        assert!(
            text.contains("\"Host\"") && text.contains("remove it"),
            "{text}"
        );
        let text = refusal(|target| target.http_headers.push("a b".to_owned()));
        assert!(text.contains("\"a b\""), "{text}");
        let text = refusal(|target| target.static_headers[0].1 = "very secret\r\n".to_owned());
        assert!(
            text.contains("X-Secret") && !text.contains("very"),
            "{text}"
        );
        let text = refusal(|target| target.url = "ftp://backend".to_owned());
        assert!(text.contains("ftp://backend"), "{text}");
    }

    #[test]
    fn a_number_out_of_range_is_named_with_its_range() {
        let mut settings = HooksSettings::default();
        settings.pool.max_connections = 0;
        let text = settings.check().unwrap_err();
        assert!(
            text.contains("hooks.max_connections = 0") && text.contains("1 to"),
            "{text}"
        );
        let mut settings = HooksSettings::default();
        settings.breaker.max_pause_ms = 1;
        let text = settings.check().unwrap_err();
        assert!(text.contains("choose 1000 to"), "{text}");
    }

    #[test]
    fn keys_are_not_fetched_in_the_clear_except_from_this_machine() {
        let check = |url: &str| {
            let source = KeySourceSettings {
                name: "token.jwks_url".to_owned(),
                url: url.to_owned(),
                refresh_interval_s: 600,
            };
            source.check()
        };
        assert!(check("https://id.example/jwks").is_ok());
        assert!(check("http://localhost:9000/jwks").is_ok());
        assert!(check("http://[::1]:9000/jwks").is_ok());
        let text = check("http://id.example/jwks").unwrap_err();
        assert!(text.contains("https://"), "{text}");
    }
}
