//! Questions between shards: what the owner of a channel is asked, and what every shard is told to do with
//! the connections of a user.

use std::sync::Arc;

use bytes::Bytes;

use crate::auth::Overrides;
use crate::hub::{
    ClientInfo, DeviceId, Direction, Glob, Key, Limit, Page, Position, PresenceStats, Recovery,
    Refused, Since, Unrecoverable,
};

use super::emulation::Emulation;
use super::inbox::Asker;

/// A question to the owner of a channel.
#[derive(Debug)]
pub struct Ask {
    /// Who waits for the answer.
    pub asker: Asker,
    /// The channel's name.
    pub channel: Arc<str>,
    /// What is asked.
    pub question: Question,
}

/// What the owner of a channel is asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// What was published after a position, as a subscriber that comes back wants it.
    Recover(RecoveryWish),
    /// A piece of the history.
    History {
        /// Where it begins; `None` for the end that `direction` says.
        since: Option<Since>,
        /// How much of it.
        limit: Limit,
        /// From old to new, or from new to old.
        direction: Direction,
    },
    /// To forget the history.
    RemoveHistory,
    /// Who is there.
    Presence,
    /// How many are there.
    PresenceStats,
}

/// What a subscriber that comes back wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecoveryWish {
    /// What it has; `None` if it has nothing.
    pub since: Option<Since>,
    /// The newest publication only, whatever is missing between.
    pub latest_only: bool,
    /// If it is much, the first part will do: the client asks again.
    pub in_pages: bool,
}

/// Something to be done with the connections of a user, or with one of them.
#[derive(Clone, Debug)]
pub struct Order {
    /// Who waits for word that it is done.
    pub asker: Asker,
    /// Whose connections.
    pub whom: Whom,
    /// What is to be done.
    pub action: Action,
}

/// Which connections an order is about: those of which all that is said is true.
#[derive(Clone, Debug, Default)]
pub struct Whom {
    /// The user; `None` for any, if a client is named.
    pub user: Option<Arc<str>>,
    /// The client's id; empty for any.
    pub client: Box<str>,
    /// The session's secret name; empty for any.
    pub session: Box<str>,
    /// Ids of clients that are spared.
    pub spared: Vec<Box<str>>,
}

/// What an order is.
#[derive(Clone, Debug)]
pub enum Action {
    /// End the connection.
    Disconnect {
        /// The close code.
        code: u16,
        /// For people.
        reason: Box<str>,
    },
    /// End the subscription to a channel; to all of them, if the name is empty.
    Unsubscribe {
        /// The channel.
        channel: Box<str>,
    },
    /// Make a subscription.
    Subscribe(Arc<SubscribeOrder>),
    /// Set when the connection ends.
    Refresh {
        /// It ends now.
        expired: bool,
        /// Unix seconds; 0 for never.
        expire_at_s: i64,
        /// What others see of the connection from now on; empty to leave it.
        info: Bytes,
    },
    /// Refuse tokens, whosever connections are meant.
    Revoke(Arc<Revocation>),
    /// Nothing: say how many they are.
    Number,
    /// Say how many they are and what they listen to: all channels whose names match, or none if there is no
    /// pattern.
    Count {
        /// Which channels.
        pattern: Option<Glob>,
    },
}

/// A subscription that is ordered.
#[derive(Debug, Default)]
pub struct SubscribeOrder {
    /// The channel.
    pub channel: Box<str>,
    /// What others see of the subscription; raw JSON or nothing.
    pub info: Bytes,
    /// For the client; raw JSON or nothing.
    pub data: Bytes,
    /// Unix seconds; 0 for never.
    pub expire_at_s: i64,
    /// What the client has.
    pub since: Option<Since>,
    /// Options of the channel that are different for it.
    pub overrides: Overrides,
}

/// Tokens that are good no more.
#[derive(Debug)]
pub struct Revocation {
    /// Which.
    pub tokens: RevokedTokens,
    /// Until then, in Unix seconds; by then they have expired anyway.
    pub until_s: i64,
}

/// Which tokens are revoked.
#[derive(Debug)]
pub enum RevokedTokens {
    /// Those of a user, whose clients are disconnected.
    OfUser {
        /// Whose.
        user: Arc<str>,
        /// Only those issued before, in Unix seconds; `None` for all.
        issued_before_s: Option<i64>,
    },
    /// The one with this name (`jti`).
    Named(Box<str>),
}

/// An answer on its way to the shard that asked.
#[derive(Debug)]
pub struct Answer {
    /// Who waits.
    pub asker: Asker,
    /// What the answer is.
    pub reply: AnswerTo,
}

/// Answers.
#[derive(Debug)]
pub enum AnswerTo {
    /// To [`Question::Recover`].
    Recovery(Recovery),
    /// To [`Question::History`].
    History(Result<Page, Unrecoverable>),
    /// To [`Question::Presence`].
    Presence(Vec<Arc<ClientInfo>>),
    /// To [`Question::PresenceStats`].
    PresenceStats(PresenceStats),
    /// It is done.
    Done,
    /// To an order: so many connections were meant.
    Connections(u32),
    /// To an order to count.
    Overview(Box<Overview>),
    /// To a publication: its place, or why it has none.
    Published(Result<Position, Refused>),
    /// To commands that came by a request.
    Emulation(Emulation),
    /// To a poll: a frame of SockJS.
    Polled(Bytes),
    /// There is no room: the channel cannot be opened, or the tokens cannot be remembered.
    Refused,
}

/// What one shard has, or several together.
#[derive(Debug, Default)]
pub struct Overview {
    /// Centrifuge clients.
    pub clients: u64,
    /// Users, by hashes of their names; together, once for each shard where they are.
    pub user_hashes: Vec<u64>,
    /// Users of shards that have too many connections to name their users; once for each such shard.
    pub unnamed_users: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Channels that have subscribers on any shard.
    pub subscribed_channels: u64,
    /// Channels and how many subscribers they have here; together, once for each shard.
    pub channels: Vec<(Arc<str>, u64)>,
}

impl Overview {
    /// How many users there are: each once, wherever its connections are, as far as they are named.
    pub fn users(&self) -> u64 {
        let mut hashes = self.user_hashes.clone();
        hashes.sort_unstable();
        hashes.dedup();
        hashes.len() as u64 + self.unnamed_users
    }

    /// Adds what another shard has.
    pub fn add(&mut self, other: Self) {
        self.clients += other.clients;
        self.user_hashes.extend(other.user_hashes);
        self.unnamed_users += other.unnamed_users;
        self.subscriptions += other.subscriptions;
        self.subscribed_channels += other.subscribed_channels;
        self.channels.extend(other.channels);
    }
}

/// How a client leaves a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It wanted to, or was made to: it will not be back.
    Left,
    /// Its connection is gone, and it may be back.
    Lost,
    /// A newer connection takes its place.
    HandedOver,
}

/// A client's coming to a channel, or its going.
#[derive(Debug)]
pub struct Presence {
    /// The channel in the owner's table.
    pub owned: Key,
    /// Who.
    pub info: Arc<ClientInfo>,
    /// The device it came by, if it has one.
    pub device: Option<DeviceId>,
    /// It left, and how; `None` if it came.
    pub departure: Option<Departure>,
    /// Others can see that it is there.
    pub is_present: bool,
    /// Those who want to know are told.
    pub is_announced: bool,
}
