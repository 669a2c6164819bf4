//! A client of the Centrifuge protocol: what a shard remembers of it besides its connection.

use std::sync::Arc;

use bytes::Bytes;

use crate::hub::{ClientInfo, Encoding, Key, Since};
use crate::proto::centrifuge::filter::Filter;
use crate::proto::centrifuge::{Command, Format, Method};

use super::census::Census;
use super::connecting::Newcomer;
use super::hooks::Hook;
use super::places::Place;
use super::session::Subscription;

/// Commands of one client whose answers are outstanding before it is read no further.
pub(super) const COMMANDS_IN_FLIGHT_MAX: usize = 16;

/// What a connection needs that speaks a protocol with subscriptions of its own.
pub(super) struct Client {
    /// Who it is, as others see it. Shared with presence and publications.
    pub info: Arc<ClientInfo>,
    pub format: Format,
    /// It only listens: pushes are all it gets.
    pub is_uni: bool,
    pub progress: Progress,
    /// It is counted among those that were let in.
    pub is_counted: bool,
    /// A ping is out that nobody has answered.
    pub owes_pong: bool,
    /// Pings are the WebSocket's own.
    pub pings_by_frame: bool,
    pub ping_interval_s: u16,
    /// 0: pongs are not asked for.
    pub pong_timeout_s: u16,
    /// When it must have connected, or have a new token; in seconds of the shard's clock, 0 for never.
    pub expires_s: u32,
    pub subscriptions: Vec<ClientSubscription>,
    /// What it waits for of other shards or of the backend.
    pub waiting: Vec<Waiting>,
    /// Names what waits next.
    next_tag: u32,
    /// What few need, or only while they connect.
    pub rare: Option<Box<Rare>>,
}

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has not asked to connect.
    New,
    /// Its request to connect is being looked at.
    Connecting,
    /// It was let in.
    Connected,
    /// It was refused: whatever it says now is wrong.
    Refused,
}

/// A subscription of a client.
pub(super) struct ClientSubscription {
    pub place: Subscription,
    pub is_server_side: bool,
    /// Its client counts on having everything, or being told.
    pub is_positioned: bool,
    /// Others can see that it is there.
    pub is_present: bool,
    /// Its coming and going is told to others.
    pub is_announced: bool,
    /// When its token ends, in seconds of the shard's clock; 0 for never.
    pub expires_s: u32,
    /// Who it is in this channel, if that is more than elsewhere.
    pub info: Option<Arc<ClientInfo>>,
}

/// What few clients need.
#[derive(Default)]
pub(super) struct Rare {
    /// Publications that came before the answer to its request to connect; they follow it.
    pub held: Vec<Bytes>,
    /// What the answer to its request to connect still waits for.
    pub connecting: Option<Connecting>,
    /// What the backend gave it to be handed back with each call; raw JSON or nothing.
    pub meta: Bytes,
    /// Where it stands in its channels, if its events have ids.
    pub places: Vec<Place>,
    /// Headers of its request that the backend gets; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Names the session in requests over other connections: nobody else knows it.
    pub session: Option<Box<str>>,
    /// Bytes of commands that came by requests since nothing waited.
    pub command_bytes: usize,
}

/// An answer a client waits for.
pub(super) struct Waiting {
    pub tag: u32,
    pub what: Awaited,
}

/// What a client waits for.
pub(super) enum Awaited {
    /// To hear of a channel, or what it missed there.
    Subscribe(Box<Wanted>),
    /// The offset of its publication. The command's id.
    Publish(u32),
    /// A piece of history. The command's id.
    History(u32),
    /// Who is there. The command's id.
    Presence(u32),
    /// How many are there. The command's id.
    PresenceStats(u32),
    /// That the connection has ended that had its device.
    Takeover(Box<Newcomer>),
    /// How many connections its user has.
    Census(Box<Census>),
    /// What the backend says.
    Hook(Hook),
    /// Keys that its token may be good by.
    Keys(Box<Command>),
    /// Its turn: until the client is let in, or has the subscription that it asked for before.
    Turn(Deferred),
}

/// Something about a client that has to wait for what came before.
pub(super) enum Deferred {
    /// What it wants.
    Command(Box<Command>),
    /// It is to be taken out of this channel.
    Leave(Box<str>),
}

impl Deferred {
    fn channel(&self) -> Option<&str> {
        match self {
            Self::Command(command) => command.method.channel(),
            Self::Leave(channel) => Some(channel),
        }
    }
}

/// A subscription that is being made.
pub(super) struct Wanted {
    pub channel: Arc<str>,
    pub origin: Origin,
    pub encoding: Encoding,
    pub flags: WantedFlags,
    /// What the client has, if it wants to recover.
    pub since: Option<Since>,
    /// Unix seconds; 0 for never.
    pub expire_at_s: i64,
    /// What others see of the subscription; raw JSON or nothing.
    pub info: Bytes,
    /// For the client; raw JSON or nothing.
    pub data: Bytes,
    /// What publications must pass.
    pub filter: Option<Filter>,
    /// The channel in this shard's table, once it is there.
    pub local: Option<Key>,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WantedFlags {
    pub positioned: bool,
    pub recoverable: bool,
    /// Of what was missed, the newest is enough.
    pub latest_only: bool,
    pub rejects_unrecovered: bool,
    /// The client, or the configuration for it, wants what was missed, whether or not that can be had.
    pub wants_missed: bool,
    pub is_present: bool,
    pub is_announced: bool,
    /// The owner has been asked for what was missed.
    pub asked_history: bool,
}

/// Who wanted a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The client, by the command of this id.
    Command(u32),
    /// Its token or the backend, when it connected.
    Connect,
    /// The backend, later.
    Order,
}

impl Origin {
    pub fn is_server_side(self) -> bool {
        !matches!(self, Self::Command(_))
    }
}

/// A request to connect whose answer waits for subscriptions.
pub(super) struct Connecting {
    /// The command's id.
    pub command: u32,
    /// Subscriptions that are being made.
    pub outstanding: usize,
    pub subscribed: Vec<Subscribed>,
    /// For the client; raw JSON or nothing.
    pub data: Bytes,
    /// Unix seconds when the client must have brought another token; 0 if it need not.
    pub refresh_at_s: i64,
}

/// A subscription that was made: what its client is told.
pub(super) struct Subscribed {
    pub channel: Arc<str>,
    pub epoch: String,
    pub offset: u64,
    /// What was recovered, as the reply has it.
    pub publications: Bytes,
    pub recovered: bool,
    pub was_recovering: bool,
    pub flags: WantedFlags,
    pub expire_at_s: i64,
    pub data: Bytes,
    pub encoding: Encoding,
    pub id: i64,
}

impl Awaited {
    /// The channel of the subscription that this leads to.
    fn subscribes_to(&self) -> Option<&str> {
        match self {
            Self::Subscribe(wanted) => Some(&wanted.channel),
            Self::Hook(Hook::Subscribe(_, request)) => Some(&request.channel),
            Self::Keys(command) => match &command.method {
                Method::Subscribe(request) => Some(&request.channel),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Rare {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
            && self.connecting.is_none()
            && self.meta.is_empty()
            && self.headers.is_empty()
            && self.session.is_none()
            && self.places.is_empty()
    }
}

impl Client {
    /// One that has yet to connect, until `expires_s`.
    pub fn new(info: Arc<ClientInfo>, format: Format, is_uni: bool, expires_s: u32) -> Self {
        Self {
            info,
            format,
            is_uni,
            progress: Progress::New,
            is_counted: false,
            owes_pong: false,
            pings_by_frame: false,
            ping_interval_s: 0,
            pong_timeout_s: 0,
            expires_s,
            subscriptions: Vec::new(),
            waiting: Vec::new(),
            next_tag: 0,
            rare: None,
        }
    }

    /// Notes something to wait for, and names it.
    pub fn wait(&mut self, what: Awaited) -> u32 {
        let tag = self.next_tag;
        self.next_tag = self.next_tag.wrapping_add(1);
        self.waiting.push(Waiting { tag, what });
        tag
    }

    /// Goes on waiting under a tag that was taken out.
    pub fn wait_on(&mut self, tag: u32, what: Awaited) {
        self.waiting.push(Waiting { tag, what });
    }

    /// Takes out what is waited for under `tag`.
    pub fn take_waiting(&mut self, tag: u32) -> Option<Awaited> {
        let at = self.waiting.iter().position(|waiting| waiting.tag == tag)?;
        Some(self.waiting.swap_remove(at).what)
    }

    /// Whether it asked to be let in, and has no answer yet.
    pub fn awaits_admission(&self) -> bool {
        self.progress == Progress::Connecting
    }

    /// Takes out what waited for its turn, in order.
    pub fn take_deferred(&mut self) -> Vec<Deferred> {
        let is_deferred = |waiting: &mut Waiting| matches!(waiting.what, Awaited::Turn(_));
        let mut deferred: Vec<Waiting> = self.waiting.extract_if(.., is_deferred).collect();
        let newest = self.next_tag;
        deferred.sort_unstable_by_key(|waiting| waiting.tag.wrapping_sub(newest));
        let turns = deferred
            .into_iter()
            .filter_map(|waiting| match waiting.what {
                Awaited::Turn(turn) => Some(turn),
                _ => None,
            });
        turns.collect()
    }

    /// Takes out a subscription that waited only to hear of the channel at `local`.
    pub fn take_joined(&mut self, local: Key) -> Option<Box<Wanted>> {
        self.take_wanted_if(|wanted| wanted.local == Some(local) && !wanted.flags.asked_history)
    }

    /// Takes out a subscription to the channel at `local` that is being made.
    pub fn take_wanted(&mut self, local: Key) -> Option<Box<Wanted>> {
        self.take_wanted_if(|wanted| wanted.local == Some(local))
    }

    fn take_wanted_if(&mut self, is_meant: impl Fn(&Wanted) -> bool) -> Option<Box<Wanted>> {
        let mut all = self.waiting.iter();
        let at = all.position(|waiting| match &waiting.what {
            Awaited::Subscribe(wanted) => is_meant(wanted),
            _ => false,
        })?;
        match self.waiting.swap_remove(at).what {
            Awaited::Subscribe(wanted) => Some(wanted),
            _ => None,
        }
    }

    /// Whether a subscription to the channel called `name` is being made.
    pub fn is_subscribing(&self, name: &str) -> bool {
        self.subscribing().any(|channel| channel == name)
    }

    /// Channels to which subscriptions are being made.
    pub fn subscribing(&self) -> impl Iterator<Item = &str> {
        let all = self.waiting.iter();
        all.filter_map(|waiting| waiting.what.subscribes_to())
    }

    /// Whether what comes now about the channel called `name` has to wait: for a subscription that is being made, and
    /// for all that waits for it already.
    pub fn is_engaged_in(&self, name: &str) -> bool {
        let mut all = self.waiting.iter();
        all.any(|waiting| match &waiting.what {
            Awaited::Turn(turn) => turn.channel() == Some(name),
            what => what.subscribes_to() == Some(name),
        })
    }

    /// Whether what was missed in the channel at `local` has been asked for.
    pub fn awaits_history(&self, local: Key) -> bool {
        self.wanted()
            .any(|wanted| wanted.local == Some(local) && wanted.flags.asked_history)
    }

    fn wanted(&self) -> impl Iterator<Item = &Wanted> {
        self.waiting
            .iter()
            .filter_map(|waiting| match &waiting.what {
                Awaited::Subscribe(wanted) => Some(&**wanted),
                _ => None,
            })
    }

    /// The subscription to the channel at `channel` of the shard's table.
    pub fn subscription(&self, channel: u32) -> Option<&ClientSubscription> {
        let mut all = self.subscriptions.iter();
        all.find(|subscription| subscription.place.channel == channel)
    }

    /// The same, to change it.
    pub fn subscription_mut(&mut self, channel: u32) -> Option<&mut ClientSubscription> {
        let mut all = self.subscriptions.iter_mut();
        all.find(|subscription| subscription.place.channel == channel)
    }

    /// A subscription goes on until `expires_s`, and others see `chan_info` of it, if that is not empty.
    pub fn renew_subscription(&mut self, channel: u32, expires_s: u32, chan_info: Bytes) {
        let own = Arc::clone(&self.info);
        let Some(subscription) = self.subscription_mut(channel) else {
            return;
        };
        subscription.expires_s = expires_s;
        if !chan_info.is_empty() {
            subscription.info = Some(Arc::new(ClientInfo {
                chan_info,
                ..ClientInfo::clone(&own)
            }));
        }
    }

    /// What few clients have.
    pub fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// When something of it ends, in seconds of the shard's clock; `u32::MAX` for never.
    pub fn deadline_s(&self) -> u32 {
        let subscriptions = self.subscriptions.iter();
        subscriptions
            .map(|subscription| subscription.expires_s)
            .chain([self.expires_s])
            .filter(|expires_s| *expires_s != 0)
            .min()
            .unwrap_or(u32::MAX)
    }
}
