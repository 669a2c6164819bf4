//! One core: its sessions, its channels, its timers, its traffic with the other cores.
//!
//! [`Core`] is the state, plain and synchronous: every method runs to its end without waiting. The
//! tasks around it (one each for the sockets, accepting, the inbox, the fan-out, the wheel) wait
//! for something, then enter the core. [`Shard::enter`] is the only way in; what a core cannot do
//! itself (ring a bell) it notes, and `enter` does it on the way out.
//!
//! | file | what |
//! |---|---|
//! | `admission` | who is let in |
//! | `addresses` | connections by client address, over all shards |
//! | `session` | what is remembered of one connection |
//! | `receive` | waiting for sockets, bytes in |
//! | `requests`, `http` | of an HTTP connection: requests, answers |
//! | `upgrade` | what an HTTP connection becomes: a WebSocket, a response that goes on |
//! | `poll` | requests that wait for a publication |
//! | `several` | listeners of several channels on one connection |
//! | `frames` | of a WebSocket: messages, and what they lead to |
//! | `send` | bytes out: the one outbox and how a session ends |
//! | `channels` | who hears of which channel, and the traffic between shards |
//! | `publish` | publications: to their owner, their offset, and on to the shards |
//! | `owner`, `asks` | what else the owner of a channel is asked |
//! | `recoveries` | what those lack that come back, found once for many |
//! | `gather` | requests that take the answers of several shards |
//! | `scribe` | publications in every form |
//! | `client` | a Centrifuge client |
//! | `backend`, `hooks`, `jwks` | what the backend is asked about clients, and keys of tokens that are fetched |
//! | `census` | how many connections a user has |
//! | `connecting`, `commands`, `subscriptions` | how it is let in, what it wants, its subscriptions |
//! | `listeners` | who may listen to what in the plain dialect |
//! | `places` | where an event stream over several channels stands |
//! | `emulation` | commands that come by requests of their own |
//! | `polled`, `receivers` | sessions that are polled, and responses that stream what they are sent |
//! | `takeover`, `lingering` | a new connection in the place of an older one; clients that may come back |
//! | `talk` | pings and disconnects, in the words of each carrier |
//! | `users`, `whereabouts` | the connections of a user, or one of them; where they are |
//! | `fanout` | passes over the subscribers |
//! | `backlog` | publications dropped for slow readers |
//! | `baton` | turns of shards that share a core |
//! | `timers` | deadlines: heartbeat, slow readers, time-outs |
//! | `drain` | the orderly stop |
//! | `age` | connections that have been there as long as they may |
//! | `snapshot` | what outlives a restart |
//! | `tasks` | everything that waits |
//! | `inbox`, `doorbell`, `park_flag` | messages between shards, and waking a shard |
//! | `peer_log` | log lines for what clients cause |

mod addresses;
mod admission;
mod age;
mod asks;
mod backend;
mod backlog;
mod baton;
mod burst;
mod census;
mod channels;
mod client;
mod commands;
mod connecting;
mod doorbell;
mod drain;
mod emulation;
mod fanout;
mod frames;
mod gather;
#[cfg(test)]
mod handover_model;
mod hooks;
mod http;
mod inbox;
#[cfg(test)]
mod interleavings;
mod jwks;
mod lingering;
mod listeners;
mod local_bell;
mod owner;
mod park_flag;
mod peer_log;
mod places;
mod poll;
mod polled;
mod publish;
mod receive;
mod receivers;
mod recoveries;
mod requests;
mod scribe;
mod secrets;
mod send;
mod session;
mod several;
mod snapshot;
mod subscriptions;
mod takeover;
mod talk;
mod tasks;
#[cfg(test)]
pub(crate) mod testing;
mod timers;
mod upgrade;
mod users;
mod whereabouts;

// `park_flag` and `baton` name their atomics through here, so that a model checker can put its own in their place.
use std::sync::atomic;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Shutdown};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::auth::ApiKeys;
use crate::clock::{Clock, seconds_ceil};
use crate::config::Config;
use crate::hooks::KeySource;
use crate::hub::{
    HeartbeatTimes, IdempotencyKeys, IdempotencyLimits, Key, LocalChannels, OutboxLimits,
    OwnedChannels, OwnedLimits, Slab, Wheel,
};
use crate::memory::Memory;
use crate::metrics::{CloseReason, ShardMetrics};
use crate::net::{GiveWay, Ready, Rings, Socket, Watch};
use crate::proto::deflate::Inflater;
use crate::proto::http::{HeadLimits, Request};
use crate::proto::message::MessageLimits;

use addresses::AddressPlace;
use admission::TokenBucket;
use age::Ages;
use baton::Ticket;
use burst::Sends;
use fanout::Pass;
use lingering::Lingering;
use local_bell::LocalBell;
use peer_log::PeerLog;
use recoveries::Recoveries;
use scribe::Scribe;
use secrets::Secrets;
use session::Session;
use takeover::Devices;
use users::Users;

pub use addresses::AddressTable;
pub use asks::{
    Action, AnswerTo, Departure, Order, Overview, Question, RecoveryWish, Revocation,
    RevokedTokens, SubscribeOrder, Whom,
};
pub use backend::{Backend, HookAnswer, KeyNews, Returns};
pub use baton::Baton;
pub use commands::history_question;
pub use connecting::Tokens;
pub use doorbell::{Doorbell, DoorbellWaiter};
pub use emulation::{Emulated, Emulation};
pub use gather::{Awaiting, Gathering};
pub use http::PublishReply;
pub use inbox::{Allowance, Asker, Inbox, Link, Message, Ports, connect};
pub use jwks::KeysWanted;
pub use listeners::{Listener, MayNotListen};
pub use poll::{POSITION_HEADER, Page, append_parts, page_parts, position_text};
pub use polled::Polling;
pub use publish::{PublishOptions, Submission, Submitted};
pub use session::Purpose;
pub use several::{ListenSeveral, Wish, pages_reply};
pub use snapshot::Piece;
pub use tasks::{Door, Inheritance, Opening, Reporter, ShardEvent, Turn, run};
pub use upgrade::{Carrier, Dialogue, Listen, NewClient, Upgrade};

/// What one shard remembers of publications that carried a key, at most.
const IDEMPOTENCY_LIMITS: IdempotencyLimits = IdempotencyLimits {
    keys: 100_000,
    bytes: 16 * 1024 * 1024,
};

/// What all shards see of each other: read-only but for the flag, the counters and the memory sampled.
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
    /// Connections by client address.
    pub addresses: AddressTable,
    /// How scarce memory is.
    pub memory: Memory,
    /// By core, where shards share cores: whose turn it is to make long passes. Otherwise empty.
    pub batons: Vec<Baton>,
    /// What every shard verifies tokens with, to begin with.
    pub tokens: Tokens,
    /// Who is asked what clients may do.
    pub backend: Backend,
    /// Names this server to its clients.
    pub node: Box<str>,
    /// Keys of the server API.
    pub api_keys: ApiKeys,
    /// Makes the main thread begin the drain.
    pub begin_drain: Box<dyn Fn() + Send + Sync>,
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

    /// Whether what `address` says of its clients is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let networks = &self.config.trusted_proxies;
        networks.iter().any(|network| network.contains(address))
    }
}

/// The endpoints, as the shard calls them.
#[derive(Clone, Copy)]
pub struct Handler {
    /// Decides from the head alone whether the request may go on to its body; the headers join those
    /// of its answer.
    pub admit: fn(&mut Core, &Exchange<'_>) -> Result<Headers, Reply>,
    /// Answers the whole request.
    pub answer: fn(&mut Core, &Exchange<'_>) -> Answer,
}

/// One request and whose it is.
pub struct Exchange<'a> {
    /// The request's head.
    pub request: &'a Request<'a>,
    /// Its body; empty while it is admitted.
    pub body: &'a [u8],
    /// The client's address: where the connection comes from, or what a trusted proxy says.
    pub client: IpAddr,
    /// The session it came on.
    pub session: Key,
}

/// What is to become of a request.
pub enum Answer {
    /// This is the answer.
    Reply(Reply),
    /// The owner of the channel will answer; this forms the reply then.
    AwaitPublished(PublishReply),
    /// Shards that were asked will answer.
    Await(Awaiting),
    /// Newer keys may change it; without them, it is as the box says.
    AwaitKeys(KeysWanted, Box<Reply>),
    /// The connection becomes something else.
    Upgrade(Upgrade),
}

/// Headers of a response: names, and values without control characters.
pub type Headers = Vec<(&'static str, String)>;

/// An HTTP response.
pub struct Reply {
    /// 200 to 599.
    pub status: u16,
    /// Empty for none.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Headers,
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
            headers: Headers::new(),
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
    /// Some channels' options have other times.
    has_own_heartbeats: bool,
    control_frames_per_s: u8,
    ready_timeout_s: u32,
    body_pace: http::BodyPace,
    keepalive_timeout_s: u32,
    message_timeout_s: u32,
    close_timeout_s: u32,
    channel_idle_s: u32,
    batch_bytes: u32,
}

impl Limits {
    fn new(config: &Config) -> Self {
        let seconds = |ms: u32| seconds_ceil(Duration::from_millis(u64::from(ms)));
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
            has_own_heartbeats: config
                .channel
                .all_options()
                .any(|options| options.ping_interval_s > 0 || options.pong_timeout_s > 0),
            control_frames_per_s: u8::try_from(config.websocket.control_frames_per_s)
                .unwrap_or(u8::MAX),
            ready_timeout_s: timeout(config.http.ready_timeout_ms),
            body_pace: http::BodyPace {
                timeout_s: timeout(config.http.body_timeout_ms),
                min_bytes_per_s: config.http.body_min_bytes_per_s,
            },
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
    /// Sessions that were not let in and are told so.
    refusing: usize,
    handshakes: TokenBucket,
    /// Where shedding goes on.
    shed_slot: u32,
    wheel: Wheel,
    local: LocalChannels,
    owned: OwnedChannels,
    links: Vec<Link>,
    /// Control messages wait for a place in another shard's inbox.
    has_waiting_control: bool,
    scribe: Scribe,
    idempotency: IdempotencyKeys,
    /// What subscribers lack that come back.
    recoveries: Recoveries,
    users: Users,
    devices: Devices,
    /// Clients that are gone and may come back.
    lingering: Lingering,
    secrets: Secrets,
    ages: Ages,
    tokens: Tokens,
    /// Commands that wait for keys.
    awaiting_keys: Vec<(KeySource, Asker)>,
    /// Local channels whose owners have yet to hear how many subscribers they have here.
    news: Vec<Key>,
    /// Away while frames are read.
    inflater: Option<Box<Inflater>>,
    /// Local channels whose next pass may begin.
    ready: VecDeque<Key>,
    passes: VecDeque<Pass>,
    /// Those over many subscribers, where shards share cores: they wait for the baton.
    long_passes: VecDeque<Pass>,
    /// The place in the queue for the baton, while there are long passes.
    ticket: Option<Ticket>,
    /// The next portion is of a long pass, if it is this shard's turn.
    prefers_long: bool,
    /// Bytes of requests being received, over all sessions.
    request_bytes: usize,
    is_draining: bool,
    /// Nothing is sequenced any more.
    is_frozen: bool,
    /// Room for connections when it was last said that there is less.
    room_told: usize,
    /// Where the drain goes on.
    drain_slot: u32,
    /// Waits for the sockets of all sessions.
    sockets: Watch,
    /// Sends that wait for each other; none between turns.
    sends: Sends,
    /// Sessions that are polled, by their ids.
    polled: HashMap<Box<str>, Key>,
    /// Where the sockets that are ready are listed, a turn's at a time; empty between turns.
    ready_sockets: Vec<Ready>,
    /// The last socket that was ready is being served.
    is_last_ready: bool,
}

/// What all histories may take. They are given up last when memory is short, so they never get more than a
/// quarter of it.
fn history_bytes(shared: &Shared) -> usize {
    let quarter = usize::try_from(shared.memory.limit_bytes() / 4).unwrap_or(usize::MAX);
    shared.config.history.bytes.min(quarter)
}

impl Core {
    /// The shard `id` with its links to all shards, and the rings of its sockets.
    pub fn new(id: u16, shared: Arc<Shared>, links: Vec<Link>, rings: Rings) -> Self {
        let shards = shared.metrics.len() as u32;
        let owned = OwnedLimits {
            channels: shared.config.channels.limit.div_ceil(shared.metrics.len()),
            history_bytes: history_bytes(&shared) / shared.metrics.len(),
        };
        let mut random = fastrand::Rng::new();
        Self {
            id,
            metrics: Arc::clone(&shared.metrics[usize::from(id)]),
            peer_log: PeerLog::new(id),
            limits: Limits::new(&shared.config),
            clock: Clock::start(Duration::from_secs(id.into()) / shards),
            sessions: Slab::default(),
            refusing: 0,
            handshakes: TokenBucket::default(),
            shed_slot: 0,
            wheel: Wheel::default(),
            local: LocalChannels::default(),
            owned: OwnedChannels::new(owned, random.u64(..)),
            random,
            links,
            has_waiting_control: false,
            scribe: Scribe::new(shared.config.websocket.compression_min_bytes),
            idempotency: IdempotencyKeys::new(IDEMPOTENCY_LIMITS),
            recoveries: Recoveries::default(),
            users: Users::default(),
            devices: Devices::default(),
            lingering: Lingering::default(),
            secrets: Secrets::default(),
            ages: Ages::new(&shared.config),
            tokens: shared.tokens.clone(),
            awaiting_keys: Vec::new(),
            news: Vec::new(),
            inflater: None,
            ready: VecDeque::new(),
            passes: VecDeque::new(),
            long_passes: VecDeque::new(),
            ticket: None,
            prefers_long: false,
            request_bytes: 0,
            is_draining: false,
            is_frozen: false,
            room_told: shared.connections_per_shard,
            drain_slot: 0,
            sockets: rings.watch,
            sends: Sends::new(rings.burst),
            polled: HashMap::new(),
            ready_sockets: Vec::new(),
            is_last_ready: false,
            shared,
        }
    }

    /// A number that anybody may guess.
    pub fn random_u32(&mut self) -> u32 {
        self.random.u32(..)
    }

    fn now_s(&self) -> u32 {
        self.clock.now_s()
    }

    /// Puts a connection into the table.
    fn admit(
        &mut self,
        socket: Socket,
        stage: http::HttpStage,
        place: Option<AddressPlace>,
    ) -> Key {
        let deadline_s = stage.deadline_s;
        let key = self.sessions.insert(Session {
            socket: Some(socket),
            is_watched: false,
            stage: session::Stage::Http(Box::new(stage)),
            outbox: None,
            vitals: crate::hub::Vitals::new(self.now_s(), 0),
            subscription: None,
            place,
        });
        self.metrics.connections.add(1);
        self.ages.begin(key.slot, &mut self.random);
        self.wheel.schedule(key.slot, deadline_s);
        self.watch(key);
        key
    }

    /// Ends a session now and closes its socket.
    fn end(&mut self, key: Key, reason: CloseReason, reset: bool) {
        self.make_sends();
        self.unsubscribe(key, Departure::of(reason));
        let Some(session) = self.sessions.remove(key) else {
            return;
        };
        self.wheel.cancel(key.slot);
        self.metrics.connections.sub(1);
        // Before the reason is counted: whoever reads that finds nothing of the session any more.
        if let Some(outbox) = &session.outbox {
            self.metrics.outbox_bytes.sub(outbox.bytes() as u64);
        }
        self.metrics.closed(reason);
        self.peer_log.closed(reason, self.clock.now_s());
        self.leave_polled(key, &session.stage);
        match session.stage {
            session::Stage::Http(http) => self.count_request_bytes(http.held_bytes(), 0),
            session::Stage::Poll(poll) => self.count_request_bytes(poll.input.len(), 0),
            session::Stage::Closing(closing) => self.refusing -= closing.is_refusal(),
            session::Stage::Polled(polled) => self.forget_polled(*polled),
            _ => {}
        }
        if let Some(place) = session.place {
            self.shared.addresses.give_back(place);
        }
        let Some(socket) = &session.socket else {
            return;
        };
        if reset {
            socket.reset_on_close();
        }
        // Ends the waits on the socket, which otherwise would keep it open. A FIN before the RST would
        // look like an orderly end; only a wait for room needs it to end.
        match &session.outbox {
            Some(_) => socket.shutdown(Shutdown::Both),
            None if !session.is_watched => {}
            None if reset => socket.shutdown(Shutdown::Read),
            None => socket.shutdown(Shutdown::Both),
        }
    }

    fn count_request_bytes(&mut self, before: usize, after: usize) {
        self.request_bytes = self.request_bytes + after - before;
        self.metrics
            .request_body_bytes
            .set(self.request_bytes as u64);
    }

    /// Seconds since this shard began.
    pub fn uptime_s(&self) -> u32 {
        self.now_s()
    }

    /// True while the server is to be sent traffic.
    pub fn is_ready(&self) -> bool {
        self.shared.is_ready.load(Ordering::Relaxed)
    }
}

/// A shard: its core and what its tasks share.
pub struct Shard {
    core: RefCell<Core>,
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
        core.make_sends();
        core.sockets.submit();
        if !core.ready.is_empty() || core.is_turn() {
            self.fanout_bell.ring();
        }
        if core.has_waiting_control {
            self.links_bell.ring();
        }
        result
    }
}
