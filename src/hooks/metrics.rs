//! What the hooks count, and how `/metrics` shows it.
//!
//! The hooks' thread writes with plain loads and stores; only calls refused at the queue are counted by the shards.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::breaker::BreakerState;
use super::call::{HookOutcome, Unavailable};
use super::url::Origin;
use crate::metrics::{Counter, head, line};

/// Upper bounds of the histogram of calls, in milliseconds.
const CALL_BOUNDS_MS: [u64; 11] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000];

/// Values of the label `outcome`.
const OUTCOMES: [&str; 12] = [
    "ok",
    "status_4xx",
    "status_5xx",
    "status_other",
    "timed_out",
    "breaker_open",
    "address",
    "connect",
    "tls",
    "broken",
    "too_large",
    "busy",
];

fn outcome_index(outcome: &HookOutcome) -> usize {
    match outcome {
        HookOutcome::Response { status, .. } => match status {
            200 => 0,
            400..500 => 1,
            500..600 => 2,
            _ => 3,
        },
        HookOutcome::TimedOut => 4,
        HookOutcome::Open => 5,
        HookOutcome::Unavailable(reason) => match reason {
            Unavailable::Address => 6,
            Unavailable::Connect => 7,
            Unavailable::Tls => 8,
            Unavailable::Broken => 9,
            Unavailable::TooLarge => 10,
            Unavailable::Busy | Unavailable::NoTarget => 11,
        },
    }
}

impl HookOutcome {
    /// The value of the label `outcome`.
    pub fn label(&self) -> &'static str {
        OUTCOMES[outcome_index(self)]
    }
}

/// The counters of one endpoint.
#[derive(Debug, Default)]
pub struct TargetMetrics {
    name: String,
    outcomes: [Counter; OUTCOMES.len()],
    /// Calls made again, because a kept connection turned out to be closed.
    pub(super) retries: Counter,
    breaker: Counter,
    /// Calls per bucket of time, the last one for all above the bounds.
    buckets: [Counter; CALL_BOUNDS_MS.len() + 1],
    sum_ms: Counter,
}

impl TargetMetrics {
    pub(super) fn ended(&self, outcome: &HookOutcome, took_ms: u64) {
        self.outcomes[outcome_index(outcome)].add(1);
        if *outcome != HookOutcome::Open {
            let bucket = CALL_BOUNDS_MS.partition_point(|bound| *bound < took_ms);
            self.buckets[bucket].add(1);
            self.sum_ms.add(took_ms);
        }
    }

    pub(super) fn show_breaker(&self, state: BreakerState) {
        self.breaker.set(match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
    }

    /// Calls that ended with this value of the label `outcome`; 0 for none such.
    pub fn calls(&self, outcome: &str) -> u64 {
        let at = OUTCOMES.iter().position(|label| *label == outcome);
        at.map_or(0, |at| self.outcomes[at].get())
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Calls made again, because a kept connection turned out to be closed.
    pub fn retries(&self) -> u64 {
        self.retries.get()
    }

    fn render_calls(&self, name: &str, out: &mut String) {
        let hook = &self.name;
        for (outcome, calls) in OUTCOMES.iter().zip(&self.outcomes) {
            let calls = calls.get();
            line(
                out,
                format_args!("{name}{{hook=\"{hook}\",outcome=\"{outcome}\"}} {calls}"),
            );
        }
    }

    fn render_seconds(&self, out: &mut String) {
        const NAME: &str = "longwire_hook_seconds";
        let name = &self.name;
        let mut count = 0;
        for (bucket, calls) in self.buckets.iter().enumerate() {
            count += calls.get();
            let le = match CALL_BOUNDS_MS.get(bucket) {
                Some(ms) => (*ms as f64 / 1e3).to_string(),
                None => "+Inf".to_owned(),
            };
            line(
                out,
                format_args!("{NAME}_bucket{{hook=\"{name}\",le=\"{le}\"}} {count}"),
            );
        }
        let sum = self.sum_ms.get() as f64 / 1e3;
        line(out, format_args!("{NAME}_sum{{hook=\"{name}\"}} {sum}"));
        line(out, format_args!("{NAME}_count{{hook=\"{name}\"}} {count}"));
    }
}

/// The counters of one scheme, host and port.
#[derive(Debug, Default)]
pub struct BackendMetrics {
    origin: String,
    pub(super) connections: Counter,
    pub(super) idle: Counter,
    pub(super) waiters: Counter,
    pub(super) dials: Counter,
    pub(super) dial_failures: Counter,
}

impl BackendMetrics {
    /// Connections dialed so far.
    pub fn dials(&self) -> u64 {
        self.dials.get()
    }

    /// Connections open or being dialed.
    pub fn connections(&self) -> u64 {
        self.connections.get()
    }
}

/// The counters of one document of keys.
#[derive(Debug, Default)]
pub struct KeysMetrics {
    name: String,
    pub(super) fetches: Counter,
    pub(super) failures: Counter,
}

impl KeysMetrics {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Fetches begun so far.
    pub fn fetches(&self) -> u64 {
        self.fetches.get()
    }
}

/// Everything the hooks count.
#[derive(Debug, Default)]
pub struct HooksMetrics {
    /// By target.
    pub targets: Vec<Arc<TargetMetrics>>,
    /// By scheme, host and port, in the order of the targets that name them first.
    pub backends: Vec<Arc<BackendMetrics>>,
    /// By source of keys.
    pub keys: Vec<Arc<KeysMetrics>>,
    queue_refusals: AtomicU64,
}

struct Family<M> {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&M) -> &Counter,
}

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

const fn family<M>(
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&M) -> &Counter,
) -> Family<M> {
    Family {
        name,
        kind,
        help,
        value,
    }
}

const BACKEND_FAMILIES: [Family<BackendMetrics>; 5] = [
    family(
        "longwire_hook_connections",
        GAUGE,
        "Connections to a backend, open or being dialed.",
        |m| &m.connections,
    ),
    family(
        "longwire_hook_idle_connections",
        GAUGE,
        "Connections to a backend that no call uses.",
        |m| &m.idle,
    ),
    family(
        "longwire_hook_waiters",
        GAUGE,
        "Calls that wait for a connection.",
        |m| &m.waiters,
    ),
    family(
        "longwire_hook_dials_total",
        COUNTER,
        "Connections to a backend begun.",
        |m| &m.dials,
    ),
    family(
        "longwire_hook_dial_failures_total",
        COUNTER,
        "Connections to a backend that failed.",
        |m| &m.dial_failures,
    ),
];

const TARGET_FAMILIES: [Family<TargetMetrics>; 2] = [
    family(
        "longwire_hook_retries_total",
        COUNTER,
        "Calls made again because a kept connection turned out to be closed.",
        |m| &m.retries,
    ),
    family(
        "longwire_hook_breaker_state",
        GAUGE,
        "0: calls go through. 1: one call probes. 2: calls are refused.",
        |m| &m.breaker,
    ),
];

const KEYS_FAMILIES: [Family<KeysMetrics>; 2] = [
    family(
        "longwire_keys_fetches_total",
        COUNTER,
        "Fetches of a document of keys begun.",
        |m| &m.fetches,
    ),
    family(
        "longwire_keys_fetch_failures_total",
        COUNTER,
        "Fetches of a document of keys that failed.",
        |m| &m.failures,
    ),
];

impl HooksMetrics {
    pub(super) fn add_target(&mut self, name: &str) -> Arc<TargetMetrics> {
        let name = name.to_owned();
        let metrics = TargetMetrics {
            name,
            ..TargetMetrics::default()
        };
        push(&mut self.targets, metrics)
    }

    pub(super) fn add_backend(&mut self, origin: &Origin) -> Arc<BackendMetrics> {
        let scheme = if origin.is_tls { "https" } else { "http" };
        let origin = format!("{scheme}://{}:{}", origin.host, origin.port);
        let metrics = BackendMetrics {
            origin,
            ..BackendMetrics::default()
        };
        push(&mut self.backends, metrics)
    }

    pub(super) fn add_keys(&mut self, name: &str) -> Arc<KeysMetrics> {
        let name = name.to_owned();
        let metrics = KeysMetrics {
            name,
            ..KeysMetrics::default()
        };
        push(&mut self.keys, metrics)
    }

    pub(super) fn refused_at_queue(&self) {
        self.queue_refusals.fetch_add(1, Relaxed);
    }

    /// Calls refused because too many were on their way to the hooks' thread.
    pub fn queue_refusals(&self) -> u64 {
        self.queue_refusals.load(Relaxed)
    }

    /// Appends Prometheus text; nothing if nothing is configured.
    pub fn render(&self, out: &mut String) {
        if !self.targets.is_empty() {
            self.render_targets(out);
        }
        render(out, &BACKEND_FAMILIES, "backend", &self.backends, |m| {
            &m.origin
        });
        render(out, &KEYS_FAMILIES, "source", &self.keys, |m| &m.name);
    }

    fn render_targets(&self, out: &mut String) {
        let name = "longwire_hook_queue_refusals_total";
        head(
            out,
            name,
            "counter",
            "Calls refused because too many were on their way.",
        );
        line(out, format_args!("{name} {}", self.queue_refusals()));
        let name = "longwire_hook_calls_total";
        head(
            out,
            name,
            "counter",
            "Calls to the backend ended, by outcome.",
        );
        self.targets
            .iter()
            .for_each(|target| target.render_calls(name, out));
        render(out, &TARGET_FAMILIES, "hook", &self.targets, |m| &m.name);
        head(
            out,
            "longwire_hook_seconds",
            "histogram",
            "Time of a call, from its submission on.",
        );
        self.targets
            .iter()
            .for_each(|target| target.render_seconds(out));
    }
}

fn push<M>(all: &mut Vec<Arc<M>>, one: M) -> Arc<M> {
    let one = Arc::new(one);
    all.push(Arc::clone(&one));
    one
}

fn render<M>(
    out: &mut String,
    families: &[Family<M>],
    label: &str,
    all: &[Arc<M>],
    name_of: fn(&M) -> &String,
) {
    if all.is_empty() {
        return;
    }
    for family in families {
        let name = family.name;
        head(out, name, family.kind, family.help);
        for metrics in all {
            let (value, of) = ((family.value)(metrics).get(), name_of(metrics));
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{name}{{{label}=\"{of}\"}} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_own_line() {
        let mut metrics = HooksMetrics::default();
        let target = metrics.add_target("connect");
        let body = bytes::Bytes::new();
        target.ended(&HookOutcome::Response { status: 200, body }, 3);
        target.ended(&HookOutcome::Unavailable(Unavailable::Tls), 6_000);
        target.ended(&HookOutcome::Open, 0);
        let mut text = String::new();
        metrics.render(&mut text);
        for line in [
            "longwire_hook_calls_total{hook=\"connect\",outcome=\"ok\"} 1\n",
            "longwire_hook_calls_total{hook=\"connect\",outcome=\"tls\"} 1\n",
            "longwire_hook_calls_total{hook=\"connect\",outcome=\"breaker_open\"} 1\n",
            "longwire_hook_seconds_bucket{hook=\"connect\",le=\"0.002\"} 0\n",
            "longwire_hook_seconds_bucket{hook=\"connect\",le=\"0.005\"} 1\n",
            "longwire_hook_seconds_count{hook=\"connect\"} 2\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    #[test]
    fn without_hooks_there_is_nothing_to_show() {
        let mut text = String::new();
        HooksMetrics::default().render(&mut text);
        assert_eq!(text, "");
    }
}
