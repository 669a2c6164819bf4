//! One core: its sessions, its channels, its timers, its traffic with the other cores.
//!
//! [`Core`] is the state, plain and synchronous: every method runs to its end without waiting. The
//! tasks around it (one per session, one each for accepting, the inbox, the fan-out, the wheel) wait
//! for something, then enter the core. [`Shard::enter`] is the only way in; what a core cannot do
//! itself (start a task, ring a bell) it notes, and `enter` does it on the way out.
//!
//! | file | what |
//! |---|---|
//! | `session` | what is remembered of one connection |
//! | `receive` | bytes in: requests, frames, and what they lead to |
//! | `send` | bytes out: the one outbox and how a session ends |
//! | `channels` | publish, subscribe, and their traffic between shards |
//! | `fanout` | passes over the subscribers |
//! | `timers` | deadlines: heartbeat, slow readers, time-outs |
//! | `drain` | the orderly stop |
//! | `tasks` | everything that waits |
//! | `inbox`, `doorbell`, `park_flag` | messages between shards, and waking a shard |
//! | `peer_log` | log lines for what clients cause |

mod channels;
mod doorbell;
mod drain;
mod fanout;
mod http;
mod inbox;
mod local_bell;
mod park_flag;
mod peer_log;
mod receive;
mod send;
mod session;
mod tasks;
#[cfg(test)]
mod testing;
mod timers;

// `park_flag` names its atomics through here, so that a model checker can put its own in their place.
use std::sync::atomic;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use bytes::Bytes;

use crate::clock::{Clock, seconds_ceil};
use crate::config::Config;
use crate::hub::{HeartbeatTimes, Key, LocalChannels, OutboxLimits, OwnedChannels, Slab, Wheel};
use crate::metrics::{CloseReason, RefusalReason, ShardMetrics};
use crate::net::{GiveWay, Stream};
use crate::proto::deflate::{Deflater, Inflater};
use crate::proto::http::{HeadLimits, Request};
use crate::proto::message::MessageLimits;

use fanout::Pass;
use local_bell::LocalBell;
use peer_log::PeerLog;
use session::Session;

pub use channels::{Submitted, Upgrade};
pub use doorbell::{Doorbell, DoorbellWaiter};
pub use http::PublishReply;
pub use inbox::{Allowance, Inbox, Link, Message, Ports, connect};
pub use session::Purpose;
pub use tasks::{Door, Reporter, ShardEvent, run};

/// Connections over the limit that are being told so at a time; more are closed without a word. Their
/// descriptors come out of the reserve.
const REFUSALS_AT_ONCE: isize = 32;

/// What all shards see of each other, read-only but for the flag.
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// Connections one shard holds.
    pub connections_per_shard: usize,
    /// By shard.
    pub metrics: Vec<Arc<ShardMetrics>>,
    /// Spreads channels over their owners; random per process, so that nobody can aim at one shard.
    pub channel_hash: std::hash::RandomState,
    /// False from the moment the server begins to stop.
    pub is_ready: AtomicBool,
    /// Answers requests.
    pub handler: Handler,
    /// Log lines lost so far.
    pub log_lines_dropped: fn() -> u64,
}

impl Shared {
    /// The shard that owns the channel called `name`.
    pub fn owner_of(&self, name: &str) -> u16 {
        use std::hash::BuildHasher;
        let hash = self.channel_hash.hash_one(name);
        // The high bits times the number of shards: even for any number, without a division.
        ((u128::from(hash) * self.metrics.len() as u128) >> 64) as u16
    }
}

/// The endpoints, as the shard calls them.
#[derive(Clone, Copy)]
pub struct Handler {
    /// Decides from the head alone whether the request may go on to its body.
    pub admit: fn(&mut Core, &Exchange<'_>) -> Result<(), Reply>,
    /// Answers the whole request.
    pub answer: fn(&mut Core, &Exchange<'_>) -> Answer,
}

/// One request and whose it is.
pub struct Exchange<'a> {
    /// The request's head.
    pub request: &'a Request<'a>,
    /// Its body; empty while it is admitted.
    pub body: &'a [u8],
    /// The client's address.
    pub peer: SocketAddr,
    /// The session it came on.
    pub session: Key,
}

/// What is to become of a request.
pub enum Answer {
    /// This is the answer.
    Reply(Reply),
    /// The owner of the channel will answer; this forms the reply then.
    AwaitPublished(PublishReply),
    /// The connection becomes a WebSocket.
    Upgrade(Upgrade),
}

/// An HTTP response.
pub struct Reply {
    /// 200 to 599.
    pub status: u16,
    /// Empty for none.
    pub content_type: &'static str,
    /// Further headers; values hold no control characters.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
    /// The connection ends after this answer.
    pub close: bool,
}

impl Reply {
    /// A one-line text.
    pub fn text(status: u16, line: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            headers: Vec::new(),
            body: Bytes::from(format!("{line}\n")),
            close: false,
        }
    }

    /// A JSON document.
    pub fn json(status: u16, body: String) -> Self {
        Self {
            content_type: "application/json",
            body: Bytes::from(body),
            ..Self::text(status, "")
        }
    }

    /// Adds a header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Ends the connection after this answer.
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }
}

/// The configuration's times and limits in the units the data structures take.
pub(crate) struct Limits {
    head: HeadLimits,
    message: MessageLimits,
    outbox: OutboxLimits,
    heartbeat: HeartbeatTimes,
    control_frames_per_s: u8,
    ready_timeout_s: u32,
    body_timeout_s: u32,
    keepalive_timeout_s: u32,
    message_timeout_s: u32,
    close_timeout_s: u32,
    channel_idle_s: u32,
    batch_bytes: u32,
}

impl Limits {
    fn new(config: &Config) -> Self {
        let seconds = |ms: u32| seconds_ceil(std::time::Duration::from_millis(u64::from(ms)));
        // Deadlines count from the beginning of the second they are set in.
        let timeout = |ms: u32| seconds(ms).saturating_add(1);
        Self {
            head: HeadLimits {
                head_bytes: config.http.head_bytes,
                headers: config.http.headers,
                request_line_bytes: config.http.request_line_bytes,
            },
            message: MessageLimits {
                message_bytes: config.websocket.message_bytes,
                frames_per_message: config.websocket.frames_per_message,
            },
            outbox: OutboxLimits {
                soft_bytes: config.outbox.soft_bytes,
                soft_timeout_s: timeout(config.outbox.soft_timeout_ms),
                hard_bytes: config.outbox.hard_bytes,
                stall_timeout_s: timeout(config.outbox.stall_timeout_ms),
            },
            heartbeat: HeartbeatTimes {
                ping_interval_s: seconds(config.heartbeat.ping_interval_ms),
                pong_timeout_s: seconds(config.heartbeat.pong_timeout_ms),
                max_missed: u8::try_from(config.heartbeat.max_missed).unwrap_or(u8::MAX),
            },
            control_frames_per_s: u8::try_from(config.websocket.control_frames_per_s)
                .unwrap_or(u8::MAX),
            ready_timeout_s: timeout(config.http.ready_timeout_ms),
            body_timeout_s: timeout(config.http.body_timeout_ms),
            keepalive_timeout_s: timeout(config.http.keepalive_timeout_ms),
            message_timeout_s: timeout(config.websocket.message_timeout_ms),
            close_timeout_s: timeout(config.websocket.close_timeout_ms),
            channel_idle_s: seconds(config.channels.idle_timeout_ms),
            batch_bytes: u32::try_from(config.channels.batch_bytes).unwrap_or(u32::MAX),
        }
    }
}

/// The state of one shard.
pub struct Core {
    /// This shard's number.
    pub id: u16,
    /// What all shards share.
    pub shared: Arc<Shared>,
    pub(crate) metrics: Arc<ShardMetrics>,
    peer_log: PeerLog,
    pub(crate) limits: Limits,
    clock: Clock,
    random: fastrand::Rng,
    sessions: Slab<Session>,
    wheel: Wheel,
    local: LocalChannels,
    owned: OwnedChannels,
    links: Vec<Link>,
    /// Control messages wait for a place in another shard's inbox.
    has_waiting_control: bool,
    deflater: Deflater,
    /// Away while frames are read.
    inflater: Option<Box<Inflater>>,
    /// Local channels whose next pass may begin.
    ready: VecDeque<Key>,
    passes: VecDeque<Pass>,
    /// Bytes of requests being received, over all sessions.
    request_bytes: usize,
    is_draining: bool,
    /// Where the drain goes on.
    drain_slot: u32,
    /// Sessions whose outbox began to fill, for a task each that flushes it.
    backlogged: Vec<(Key, Rc<Stream>)>,
}

impl Core {
    /// The shard `id` with its links to all shards.
    pub fn new(id: u16, shared: Arc<Shared>, links: Vec<Link>) -> Self {
        let channels = shared.config.channels.limit.div_ceil(shared.metrics.len());
        Self {
            id,
            metrics: Arc::clone(&shared.metrics[usize::from(id)]),
            peer_log: PeerLog::new(id),
            limits: Limits::new(&shared.config),
            clock: Clock::start(),
            random: fastrand::Rng::new(),
            sessions: Slab::default(),
            wheel: Wheel::default(),
            local: LocalChannels::default(),
            owned: OwnedChannels::new(channels),
            links,
            has_waiting_control: false,
            deflater: Deflater::default(),
            inflater: None,
            ready: VecDeque::new(),
            passes: VecDeque::new(),
            request_bytes: 0,
            is_draining: false,
            drain_slot: 0,
            backlogged: Vec::new(),
            shared,
        }
    }

    fn now_s(&self) -> u32 {
        self.clock.now_s()
    }

    /// A connection has been accepted. `None` if there is no room for it and it was told so.
    fn accept(&mut self, stream: Rc<Stream>, peer: SocketAddr) -> Option<Key> {
        self.metrics.accepts.add(1);
        let over = self.sessions.len() as isize - self.shared.connections_per_shard as isize;
        let refusal = match over {
            _ if self.is_draining => Some(RefusalReason::Draining),
            0.. => Some(RefusalReason::ConnectionLimit),
            _ => None,
        };
        let Some(refusal) = refusal else {
            return Some(self.admit(stream, peer));
        };
        self.refuse_connection(refusal);
        if over >= REFUSALS_AT_ONCE {
            return None;
        }
        let key = self.admit(stream, peer);
        let retry_s = self.random.u32(1..=10);
        let reply = Reply::text(503, "no room for another connection")
            .with("Retry-After", retry_s.to_string());
        self.reply_and_finish(key, &reply, CloseReason::Refused);
        self.sessions.get(key).is_some().then_some(key)
    }

    fn refuse_connection(&mut self, reason: RefusalReason) {
        self.metrics.refused(reason);
        self.peer_log.refused(reason, self.clock.now_s());
    }

    /// A session's socket cannot be waited for.
    fn broken(&mut self, key: Key) {
        let reason = self.end_reason(key, CloseReason::PeerReset);
        self.end(key, reason, true);
    }

    fn admit(&mut self, stream: Rc<Stream>, peer: SocketAddr) -> Key {
        let now_s = self.now_s();
        let deadline_s = now_s + self.limits.ready_timeout_s;
        let stage = http::HttpStage::new(peer, deadline_s);
        let key = self.sessions.insert(Session {
            stream,
            stage: session::Stage::Http(Box::new(stage)),
            outbox: None,
            vitals: crate::hub::Vitals::new(now_s, 0),
            subscription: None,
        });
        self.metrics.connections.add(1);
        self.wheel.schedule(key.slot, deadline_s);
        key
    }

    /// Ends a session now. Its task sees that it is gone and closes the socket.
    fn end(&mut self, key: Key, reason: CloseReason, reset: bool) {
        self.unsubscribe(key);
        if let Some(session) = self.sessions.get_mut(key) {
            session.wake();
        }
        let Some(session) = self.sessions.remove(key) else {
            return;
        };
        self.wheel.cancel(key.slot);
        self.metrics.connections.sub(1);
        self.metrics.closed(reason);
        self.peer_log.closed(reason, self.clock.now_s());
        if let Some(outbox) = &session.outbox {
            self.metrics.outbox_bytes.sub(outbox.bytes() as u64);
        }
        if let session::Stage::Http(http) = &session.stage {
            self.count_request_bytes(http.held_bytes(), 0);
        }
        if reset {
            session.stream.reset_on_close();
        }
        // Wakes whoever waits on the socket, which then drops it.
        session.stream.shutdown(std::net::Shutdown::Both);
    }

    fn count_request_bytes(&mut self, before: usize, after: usize) {
        self.request_bytes = self.request_bytes + after - before;
        self.metrics
            .request_body_bytes
            .set(self.request_bytes as u64);
    }

    /// True while the server is to be sent traffic.
    pub fn is_ready(&self) -> bool {
        self.shared.is_ready.load(Ordering::Relaxed)
    }
}

/// A shard: its core and what its tasks share.
pub struct Shard {
    core: RefCell<Core>,
    /// Every read of every session goes here first.
    scratch: RefCell<Box<[u8]>>,
    fanout_bell: LocalBell,
    links_bell: LocalBell,
    stop_bell: LocalBell,
    give_way: GiveWay,
}

impl Shard {
    /// Runs `work` on the core, then does what it left to do.
    fn enter<R>(&'static self, work: impl FnOnce(&mut Core) -> R) -> R {
        let mut core = self.core.borrow_mut();
        let result = work(&mut core);
        for (key, stream) in core.backlogged.drain(..) {
            monoio::spawn(tasks::flush(self, key, stream));
        }
        if !core.ready.is_empty() {
            self.fanout_bell.ring();
        }
        if core.has_waiting_control {
            self.links_bell.ring();
        }
        result
    }
}

/// Wakes a task of the same thread.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
