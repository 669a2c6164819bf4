//! What a shard counts, and how `/metrics` shows it.
//!
//! Each shard writes its own counters with plain loads and stores; a scrape reads them. Adding a
//! metric is a field and a row in [`FAMILIES`] (or, with a label, in [`LABELLED`]).

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::memory::{Memory, resident_bytes};
use crate::proto::centrifuge::Disconnect;

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning shard calls this, so it needs no locked instruction.
    pub fn add(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Relaxed);
    }

    /// Subtracts `n`, for gauges.
    pub fn sub(&self, n: u64) {
        self.0.store(self.get().wrapping_sub(n), Relaxed);
    }

    /// Replaces the number, for gauges that are sampled.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Declares an enum whose variants are the values of a metric's label.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Label values in the order of the variants.
            pub const LABELS: &'static [&'static str] = &[$($label,)*];

            /// The label's value.
            pub fn label(self) -> &'static str {
                Self::LABELS[self as usize]
            }
        }
    };
}

labels! {
    /// Why a connection ended.
    CloseReason {
        /// The client closed the WebSocket.
        Client = "client",
        /// The client closed TCP without a WebSocket Close.
        EndOfFile = "end_of_file",
        /// The connection broke: reset, unreachable or timed out in the kernel.
        PeerReset = "peer_reset",
        /// The server is shutting down.
        GoingAway = "going_away",
        /// The connection had been there as long as it may.
        MaxAge = "max_age",
        /// The client broke RFC 6455.
        ProtocolError = "protocol_error",
        /// A text message or close reason was not UTF-8.
        InvalidPayload = "invalid_payload",
        /// A message was over the limit.
        MessageTooBig = "message_too_big",
        /// The client did what it may not do here.
        Policy = "policy",
        /// The server could not take a client's publication; the client should try again later.
        Overloaded = "overloaded",
        /// The client read too slowly.
        SlowConsumer = "slow_consumer",
        /// The client took no byte for the whole stall timeout.
        WriteStall = "write_stall",
        /// Pings were not answered.
        HeartbeatTimeout = "heartbeat_timeout",
        /// A message was begun and not finished in time.
        MessageTimeout = "message_timeout",
        /// No complete request came in time.
        RequestTimeout = "request_timeout",
        /// A kept-alive HTTP connection was not used any more.
        Idle = "idle",
        /// An HTTP exchange ended that was to be the connection's last.
        HttpDone = "http_done",
        /// An HTTP request was malformed or over a limit.
        HttpError = "http_error",
        /// There was no room for the connection.
        Refused = "refused",
        /// A client's command made no sense.
        BadCommand = "bad_command",
        /// A client's token was not good.
        InvalidToken = "invalid_token",
        /// A client did not ask to connect in time.
        Stale = "stale",
        /// A client's token or subscription expired.
        Expired = "expired",
        /// The server failed, or the backend could not be asked whether a client may connect.
        Internal = "internal",
        /// The backend or an operator ended the connection.
        Disconnected = "disconnected",
        /// A newer connection of the same device took over.
        TakenOver = "taken_over",
    }
}

labels! {
    /// How publications are dropped for subscribers that read too slowly.
    DropPolicy {
        /// The oldest.
        DropOldest = "drop_oldest",
        /// All but the newest of each key.
        KeepNewest = "keep_newest",
    }
}

impl CloseReason {
    /// What a disconnect of a client counts as.
    pub fn of(disconnect: &Disconnect) -> Self {
        match disconnect {
            Disconnect::InvalidToken => Self::InvalidToken,
            Disconnect::Stale => Self::Stale,
            Disconnect::ConnectionExpired | Disconnect::SubscriptionExpired => Self::Expired,
            Disconnect::Slow => Self::SlowConsumer,
            Disconnect::NoPong => Self::HeartbeatTimeout,
            Disconnect::Shutdown => Self::GoingAway,
            Disconnect::InternalServerError => Self::Internal,
            Disconnect::Custom { .. } => Self::Disconnected,
            Disconnect::TakenOver => Self::TakenOver,
            Disconnect::PermissionDenied | Disconnect::ConnectionLimit => Self::Policy,
            _ => Self::BadCommand,
        }
    }
}

labels! {
    /// Why a connection was not let in.
    RefusalReason {
        /// As many connections as there may be.
        ConnectionLimit = "connection_limit",
        /// As many connections of one client address as there may be.
        AddressLimit = "address_limit",
        /// More WebSocket handshakes per second than there may be.
        HandshakeRate = "handshake_rate",
        /// Memory is short.
        Memory = "memory",
        /// It came to a listener for proxies and is not one of the trusted ones.
        UntrustedProxy = "untrusted_proxy",
        /// The PROXY protocol's header was missing, malformed or late.
        ProxyHeader = "proxy_header",
        /// No descriptors left.
        Descriptors = "descriptors",
        /// The server is shutting down.
        Draining = "draining",
    }
}

labels! {
    /// Why a publication was not sequenced.
    PublicationRefusal {
        /// The channel's batch is full on some shard.
        ChannelFull = "channel_full",
        /// A shard's inbox is full.
        ShardBusy = "shard_busy",
        /// As many channels as there may be.
        TooManyChannels = "too_many_channels",
    }
}

/// Upper bounds of the loop-turn histogram, in microseconds.
const TURN_BOUNDS_US: [u64; 12] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000,
];

/// How long a turn of the shard's loop takes, sampled.
#[derive(Debug, Default)]
pub struct TurnHistogram {
    /// Samples per bucket, the last one for all above the bounds.
    buckets: [Counter; TURN_BOUNDS_US.len() + 1],
    sum_us: Counter,
}

impl TurnHistogram {
    /// Adds a sample.
    pub fn observe(&self, turn: Duration) {
        let us = u64::try_from(turn.as_micros()).unwrap_or(u64::MAX);
        let bucket = TURN_BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].add(1);
        self.sum_us.add(us);
    }
}

/// The counters of one shard.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    /// Open connections.
    pub connections: Counter,
    /// Subscriptions of sessions to channels.
    pub subscriptions: Counter,
    /// Channels this shard owns.
    pub channels: Counter,
    /// Connections accepted.
    pub accepts: Counter,
    /// Publications sequenced by this shard.
    pub publications: Counter,
    /// Publications handed to a subscriber's socket or outbox.
    pub deliveries: Counter,
    /// Sends of the fan-out, one per subscriber and pass.
    pub sends: Counter,
    /// Sends of the fan-out that carried more than one publication.
    pub coalesced_sends: Counter,
    /// Joins and leaves that had no room.
    pub events_dropped: Counter,
    /// Clients that could not be shown in a channel because too many are there.
    pub presence_full: Counter,
    /// Publications sent again to subscribers that came back.
    pub recovered_publications: Counter,
    /// Recoveries that were found for another subscriber.
    pub shared_recoveries: Counter,
    /// Bytes the histories of this shard's channels take.
    pub history_bytes: Counter,
    /// Histories given up because memory for them was short.
    pub history_evictions: Counter,
    /// Bytes received.
    pub received_bytes: Counter,
    /// Bytes the kernel took.
    pub sent_bytes: Counter,
    /// Bytes waiting for slow readers.
    pub outbox_bytes: Counter,
    /// Pings sent.
    pub heartbeat_pings: Counter,
    /// Pings that no byte answered in time.
    pub heartbeat_misses: Counter,
    /// Messages received from other shards.
    pub inbox_messages: Counter,
    /// Control messages that waited for a place in another shard's inbox.
    pub control_waits: Counter,
    /// Bytes of request heads and bodies being received.
    pub request_body_bytes: Counter,
    closes: [Counter; CloseReason::LABELS.len()],
    refused: [Counter; RefusalReason::LABELS.len()],
    publications_refused: [Counter; PublicationRefusal::LABELS.len()],
    publications_dropped: [Counter; DropPolicy::LABELS.len()],
    /// Turns of the loop.
    pub turn: TurnHistogram,
}

impl ShardMetrics {
    /// Counts a connection's end.
    pub fn closed(&self, reason: CloseReason) {
        self.closes[reason as usize].add(1);
    }

    /// Connections ended for `reason`.
    pub fn closes(&self, reason: CloseReason) -> u64 {
        self.closes[reason as usize].get()
    }

    /// Counts a connection that was not let in.
    pub fn refused(&self, reason: RefusalReason) {
        self.refused[reason as usize].add(1);
    }

    /// How many publications were dropped so.
    pub fn dropped(&self, policy: DropPolicy) -> u64 {
        self.publications_dropped[policy as usize].get()
    }

    /// Counts publications dropped for a subscriber that reads too slowly.
    pub fn publications_dropped(&self, policy: DropPolicy, publications: u64) {
        self.publications_dropped[policy as usize].add(publications);
    }

    /// Counts a publication that was not sequenced.
    pub fn publication_refused(&self, reason: PublicationRefusal) {
        self.publications_refused[reason as usize].add(1);
    }
}

struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&ShardMetrics) -> &Counter,
}

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

const fn row(
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&ShardMetrics) -> &Counter,
) -> Family {
    Family {
        name,
        kind,
        help,
        value,
    }
}

/// Every metric with one value per shard.
const FAMILIES: &[Family] = &[
    row("longwire_connections", GAUGE, "Open connections.", |m| {
        &m.connections
    }),
    row(
        "longwire_subscriptions",
        GAUGE,
        "Subscriptions of sessions to channels.",
        |m| &m.subscriptions,
    ),
    row(
        "longwire_channels",
        GAUGE,
        "Channels this shard owns.",
        |m| &m.channels,
    ),
    row(
        "longwire_accepts_total",
        COUNTER,
        "Connections accepted.",
        |m| &m.accepts,
    ),
    row(
        "longwire_publications_total",
        COUNTER,
        "Publications sequenced by this shard.",
        |m| &m.publications,
    ),
    row(
        "longwire_deliveries_total",
        COUNTER,
        "Publications handed to a subscriber's socket or outbox.",
        |m| &m.deliveries,
    ),
    row(
        "longwire_sends_total",
        COUNTER,
        "Sends of the fan-out, one per subscriber and pass.",
        |m| &m.sends,
    ),
    row(
        "longwire_coalesced_sends_total",
        COUNTER,
        "Sends of the fan-out that carried more than one publication.",
        |m| &m.coalesced_sends,
    ),
    row(
        "longwire_events_dropped_total",
        COUNTER,
        "Joins and leaves that were not told because there was no room.",
        |m| &m.events_dropped,
    ),
    row(
        "longwire_presence_full_total",
        COUNTER,
        "Clients not shown in a channel because too many are there.",
        |m| &m.presence_full,
    ),
    row(
        "longwire_recovered_publications_total",
        COUNTER,
        "Publications sent to subscribers that came back.",
        |m| &m.recovered_publications,
    ),
    row(
        "longwire_shared_recoveries_total",
        COUNTER,
        "Subscribers that came back and got what was found for another one.",
        |m| &m.shared_recoveries,
    ),
    row(
        "longwire_history_bytes",
        GAUGE,
        "Memory of the histories of this shard's channels.",
        |m| &m.history_bytes,
    ),
    row(
        "longwire_history_evictions_total",
        COUNTER,
        "Histories given up because memory for them was short.",
        |m| &m.history_evictions,
    ),
    row(
        "longwire_received_bytes_total",
        COUNTER,
        "Bytes received.",
        |m| &m.received_bytes,
    ),
    row(
        "longwire_sent_bytes_total",
        COUNTER,
        "Bytes the kernel took.",
        |m| &m.sent_bytes,
    ),
    row(
        "longwire_outbox_bytes",
        GAUGE,
        "Bytes waiting for slow readers.",
        |m| &m.outbox_bytes,
    ),
    row(
        "longwire_heartbeat_pings_total",
        COUNTER,
        "Pings sent.",
        |m| &m.heartbeat_pings,
    ),
    row(
        "longwire_heartbeat_misses_total",
        COUNTER,
        "Pings that no byte answered in time.",
        |m| &m.heartbeat_misses,
    ),
    row(
        "longwire_inbox_messages_total",
        COUNTER,
        "Messages received from other shards.",
        |m| &m.inbox_messages,
    ),
    row(
        "longwire_control_waits_total",
        COUNTER,
        "Control messages that waited for a place in another shard's inbox.",
        |m| &m.control_waits,
    ),
    row(
        "longwire_request_body_bytes",
        GAUGE,
        "Bytes of request heads and bodies being received.",
        |m| &m.request_body_bytes,
    ),
];

struct LabelledFamily {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    labels: &'static [&'static str],
    values: fn(&ShardMetrics) -> &[Counter],
}

/// Every counter with a label of its own.
const LABELLED: &[LabelledFamily] = &[
    LabelledFamily {
        name: "longwire_closes_total",
        help: "Connections ended, by reason.",
        label: "reason",
        labels: CloseReason::LABELS,
        values: |m| &m.closes,
    },
    LabelledFamily {
        name: "longwire_refused_total",
        help: "Connections not let in, by reason.",
        label: "reason",
        labels: RefusalReason::LABELS,
        values: |m| &m.refused,
    },
    LabelledFamily {
        name: "longwire_publications_refused_total",
        help: "Publications not sequenced, by reason.",
        label: "reason",
        labels: PublicationRefusal::LABELS,
        values: |m| &m.publications_refused,
    },
    LabelledFamily {
        name: "longwire_publications_dropped_total",
        help: "Publications dropped for subscribers that read too slowly, by policy.",
        label: "policy",
        labels: DropPolicy::LABELS,
        values: |m| &m.publications_dropped,
    },
];

/// The content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Prometheus text of all shards and the process.
pub fn render(
    shards: &[std::sync::Arc<ShardMetrics>],
    memory: &Memory,
    log_lines_dropped: u64,
) -> String {
    let mut out = String::with_capacity(4096 * shards.len());
    for family in FAMILIES {
        head(&mut out, family.name, family.kind, family.help);
        for (shard, metrics) in shards.iter().enumerate() {
            let value = (family.value)(metrics).get();
            line(
                &mut out,
                format_args!("{}{{shard=\"{shard}\"}} {value}", family.name),
            );
        }
    }
    for family in LABELLED {
        head(&mut out, family.name, COUNTER, family.help);
        for (shard, metrics) in shards.iter().enumerate() {
            for (reason, value) in family.labels.iter().zip((family.values)(metrics)) {
                let (name, label, value) = (family.name, family.label, value.get());
                line(
                    &mut out,
                    format_args!("{name}{{shard=\"{shard}\",{label}=\"{reason}\"}} {value}"),
                );
            }
        }
    }
    render_turns(&mut out, shards);
    render_process(&mut out, shards.len(), log_lines_dropped);
    render_memory(&mut out, memory);
    out
}

fn render_turns(out: &mut String, shards: &[std::sync::Arc<ShardMetrics>]) {
    const NAME: &str = "longwire_loop_turn_seconds";
    head(
        out,
        NAME,
        "histogram",
        "Time of one turn of a shard's loop, sampled.",
    );
    for (shard, metrics) in shards.iter().enumerate() {
        let mut count = 0;
        for (bucket, samples) in metrics.turn.buckets.iter().enumerate() {
            count += samples.get();
            match TURN_BOUNDS_US.get(bucket) {
                Some(us) => {
                    let le = *us as f64 / 1e6;
                    line(
                        out,
                        format_args!("{NAME}_bucket{{shard=\"{shard}\",le=\"{le}\"}} {count}"),
                    );
                }
                None => line(
                    out,
                    format_args!("{NAME}_bucket{{shard=\"{shard}\",le=\"+Inf\"}} {count}"),
                ),
            }
        }
        let sum = metrics.turn.sum_us.get() as f64 / 1e6;
        line(out, format_args!("{NAME}_sum{{shard=\"{shard}\"}} {sum}"));
        line(
            out,
            format_args!("{NAME}_count{{shard=\"{shard}\"}} {count}"),
        );
    }
}

fn render_process(out: &mut String, shards: usize, log_lines_dropped: u64) {
    head(out, "longwire_info", GAUGE, "The server's version.");
    line(
        out,
        format_args!(
            "longwire_info{{version=\"{}\"}} 1",
            env!("CARGO_PKG_VERSION")
        ),
    );
    head(
        out,
        "longwire_shards",
        GAUGE,
        "Shards, each a thread with its own ring.",
    );
    line(out, format_args!("longwire_shards {shards}"));
    head(
        out,
        "longwire_log_lines_dropped_total",
        COUNTER,
        "Log lines dropped because stderr was slow.",
    );
    line(
        out,
        format_args!("longwire_log_lines_dropped_total {log_lines_dropped}"),
    );
    if let Some(process) = Process::read() {
        process.render(out);
    }
}

fn render_memory(out: &mut String, memory: &Memory) {
    let gauges = [
        (
            "longwire_memory_used_bytes",
            "Memory counted against the limit, sampled once a second.",
            memory.used_bytes(),
        ),
        (
            "longwire_memory_limit_bytes",
            "Memory the server may use.",
            memory.limit_bytes(),
        ),
    ];
    for (name, help, value) in gauges {
        head(out, name, GAUGE, help);
        line(out, format_args!("{name} {value}"));
    }
}

/// What the kernel says of this process.
pub struct Process {
    /// Resident memory.
    pub resident_bytes: u64,
    /// User and system CPU time in seconds.
    pub cpu_s: f64,
    /// Start time in Unix seconds.
    started_s: f64,
}

impl Process {
    /// Reads procfs; `None` where there is none.
    pub fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The command name, the second field, may hold spaces; it ends at the last parenthesis.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
        let ticks_per_s = rustix::param::clock_ticks_per_second() as f64;
        Some(Self {
            resident_bytes: resident_bytes()?,
            cpu_s: (ticks(11)? + ticks(12)?) / ticks_per_s,
            started_s: boot_time_s()? + ticks(19)? / ticks_per_s,
        })
    }

    fn render(&self, out: &mut String) {
        head(
            out,
            "process_resident_memory_bytes",
            GAUGE,
            "Resident memory.",
        );
        line(
            out,
            format_args!("process_resident_memory_bytes {}", self.resident_bytes),
        );
        head(
            out,
            "process_cpu_seconds_total",
            COUNTER,
            "User and system CPU time.",
        );
        line(
            out,
            format_args!("process_cpu_seconds_total {}", self.cpu_s),
        );
        head(
            out,
            "process_start_time_seconds",
            GAUGE,
            "Start time since the Unix epoch.",
        );
        line(
            out,
            format_args!("process_start_time_seconds {}", self.started_s),
        );
    }
}

fn boot_time_s() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// Appends the two lines that begin a metric.
pub(crate) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    line(out, format_args!("# HELP {name} {help}"));
    line(out, format_args!("# TYPE {name} {kind}"));
}

/// Appends a line.
pub(crate) fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn shows_every_shard_and_reason() {
        let shards = [Arc::new(ShardMetrics::default()), Arc::default()];
        shards[1].closed(CloseReason::SlowConsumer);
        shards[1].deliveries.add(3);
        let memory = Memory::new(&Default::default(), || ());
        let text = render(&shards, &memory, 0);
        assert!(text.contains("longwire_deliveries_total{shard=\"1\"} 3\n"));
        assert!(text.contains("longwire_closes_total{shard=\"1\",reason=\"slow_consumer\"} 1\n"));
        assert!(text.contains("longwire_closes_total{shard=\"0\",reason=\"slow_consumer\"} 0\n"));
        assert!(text.contains("process_resident_memory_bytes "));
    }

    #[test]
    fn a_turn_falls_into_the_first_bucket_that_holds_it() {
        let shards = [Arc::new(ShardMetrics::default())];
        shards[0].turn.observe(Duration::from_micros(100));
        shards[0].turn.observe(Duration::from_secs(9));
        let memory = Memory::new(&Default::default(), || ());
        let text = render(&shards, &memory, 0);
        assert!(text.contains("_bucket{shard=\"0\",le=\"0.00005\"} 0\n"));
        assert!(text.contains("_bucket{shard=\"0\",le=\"0.0001\"} 1\n"));
        assert!(text.contains("_bucket{shard=\"0\",le=\"+Inf\"} 2\n"));
    }
}
