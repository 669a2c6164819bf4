//! The connections of a user: found by their user, and told what to do.

use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;

use crate::auth::RevocationsFull;
use crate::clock::unix_ms;
use crate::hub::{ClientInfo, Glob, Key};
use crate::metrics::CloseReason;
use crate::proto::centrifuge::values::{SubRefreshResult, SubscribeRequest};
use crate::proto::centrifuge::{Disconnect, PushEvent, UnsubscribeCode};

use super::Core;
use super::asks::{
    Action, AnswerTo, Order, Overview, Revocation, RevokedTokens, SubscribeOrder, Whom,
};
use super::client::{Client, Deferred, Origin, Progress};
use super::commands::ttl_s;
use super::inbox::{Asker, Message};
use super::subscriptions::Permit;
use super::whereabouts::Whereabouts;

/// The tag of an order whose outcome nobody waits for.
const UNANSWERED: u32 = u32::MAX;

/// Connections whose users a shard names to be counted, at most: they are all looked at in one go.
const NAMED_CONNECTIONS_MAX: usize = 32 * 1024;

/// Finds the sessions of a user: five bytes for each.
#[derive(Default)]
pub(super) struct Users {
    slots: hashbrown::HashTable<u32>,
    /// Clients that were let in, with a user or without.
    clients: u64,
    /// Users they belong to.
    users: u64,
    hasher: std::hash::RandomState,
}

impl Core {
    /// A client is let in, and has its user by now.
    pub(super) fn note_user(&mut self, key: Key) {
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        let is_new = !std::mem::replace(&mut client.is_counted, true);
        self.users.clients += u64::from(is_new);
        let Some(user) = self.user_of(key.slot).filter(|_| is_new) else {
            return;
        };
        let is_first = self.slots_of(&user).next().is_none();
        self.users.users += u64::from(is_first);
        let hash = self.users.hasher.hash_one(&*user);
        let (sessions, hasher) = (&mut self.sessions, &self.users.hasher);
        self.users.slots.insert_unique(hash, key.slot, |slot| {
            let session = sessions.at(*slot);
            let client = session.and_then(|session| session.client());
            client.map_or(0, |client| hasher.hash_one(&*client.info.user))
        });
    }

    /// A client is gone that may have had a user.
    pub(super) fn forget_user(&mut self, key: Key, user: &str) {
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        let was_counted = std::mem::replace(&mut client.is_counted, false);
        self.users.clients -= u64::from(was_counted);
        if user.is_empty() || !was_counted {
            return;
        }
        let hash = self.users.hasher.hash_one(user);
        let entry = self.users.slots.find_entry(hash, |slot| *slot == key.slot);
        if let Ok(entry) = entry {
            entry.remove();
            let was_last = self.slots_of(user).next().is_none();
            self.users.users -= u64::from(was_last);
        }
    }

    /// Where the clients of a user are.
    fn slots_of(&self, user: &str) -> impl Iterator<Item = u32> {
        let hash = self.users.hasher.hash_one(user);
        let slots = self.users.slots.iter_hash(hash).copied();
        slots.filter(move |slot| self.user_of(*slot).is_some_and(|other| *other == *user))
    }

    /// A user may have one connection only: a client that is let in ends those it had before.
    pub(super) fn end_older_connections(&mut self, key: Key) {
        let personal = &self.shared.config.client.subscribe_to_user_personal_channel;
        if !personal.enabled || !personal.single_connection {
            return;
        }
        let Ok(info) = self.client(key).map(|client| Arc::clone(&client.info)) else {
            return;
        };
        if info.user.is_empty() {
            return;
        }
        let disconnect = Disconnect::ConnectionLimit;
        let order = Order {
            asker: Asker {
                session: key,
                tag: UNANSWERED,
            },
            whom: Whom {
                user: Some(Arc::clone(&info.user)),
                spared: vec![info.client.clone()],
                ..Whom::default()
            },
            action: Action::Disconnect {
                code: disconnect.code(),
                reason: disconnect.reason().into(),
            },
        };
        self.obey_here(&order);
        for shard in 0..self.links.len() as u16 {
            if shard != self.id {
                self.tell(shard, Message::Order(Box::new(order.clone())));
            }
        }
    }

    fn user_of(&self, slot: u32) -> Option<Arc<str>> {
        let client = self.sessions.at(slot)?.client()?;
        Some(Arc::clone(&client.info.user)).filter(|user| !user.is_empty())
    }

    /// Does what another shard, or this one, orders, and says for how many connections.
    pub(super) fn obey(&mut self, from: u16, order: Order) {
        let reply = self.obey_here(&order);
        self.answer_to(from, order.asker, reply);
    }

    /// Does what is ordered with the connections of this shard; how many they are.
    pub fn obey_here(&mut self, order: &Order) -> AnswerTo {
        match &order.action {
            Action::Count { pattern } => {
                return AnswerTo::Overview(Box::new(self.overview(pattern.as_ref())));
            }
            Action::Revoke(revocation) => return self.revoke(revocation),
            _ => {}
        }
        let meant = self.sessions_of(&order.whom);
        let count = meant.len() as u32;
        for key in meant {
            self.act_on_order(key, &order.action);
        }
        AnswerTo::Connections(count)
    }

    fn overview(&self, pattern: Option<&Glob>) -> Overview {
        let channels = pattern.map(|pattern| {
            let matching = self.local.iter().filter(|one| pattern.matches(&one.name));
            matching
                .map(|channel| {
                    (
                        Arc::clone(&channel.name),
                        channel.subscribers().len() as u64,
                    )
                })
                .filter(|(_, subscribers)| *subscribers > 0)
                .collect()
        });
        let (user_hashes, unnamed_users) = match pattern {
            None if self.users.slots.len() <= NAMED_CONNECTIONS_MAX => (self.user_hashes(), 0),
            _ => (Vec::new(), self.users.users),
        };
        Overview {
            clients: self.users.clients,
            user_hashes,
            unnamed_users,
            subscriptions: self.metrics.subscriptions.get(),
            subscribed_channels: self.owned.subscribed() as u64,
            channels: channels.unwrap_or_default(),
        }
    }

    /// The users of this shard, each once.
    fn user_hashes(&self) -> Vec<u64> {
        let users = self.users.slots.iter();
        let users = users.filter_map(|slot| self.user_of(*slot));
        let mut hashes: Vec<u64> = users
            .map(|user| self.shared.channel_hash.hash_one(&*user))
            .collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    }

    /// Refuses tokens from now on, and ends the connections of the user whose they are. One that may have a newer
    /// token is told to come back with it.
    fn revoke(&mut self, revocation: &Revocation) -> AnswerTo {
        let (until_s, now_s) = (revocation.until_s, unix_ms() / 1000);
        let revocations = &mut self.tokens.revocations;
        let (user, issued_before_s) = match &revocation.tokens {
            RevokedTokens::Named(id) => {
                return match revocations.revoke_token(id, until_s, now_s) {
                    Ok(()) => AnswerTo::Connections(0),
                    Err(RevocationsFull) => AnswerTo::Refused,
                };
            }
            RevokedTokens::OfUser {
                user,
                issued_before_s,
            } => (user, *issued_before_s),
        };
        if revocations
            .revoke_user(user, issued_before_s, until_s, now_s)
            .is_err()
        {
            return AnswerTo::Refused;
        }
        let disconnect = match issued_before_s {
            Some(_) => Disconnect::StateInvalidated,
            None => Disconnect::InvalidToken,
        };
        let meant = self.sessions_of(&Whom {
            user: Some(Arc::clone(user)),
            ..Whom::default()
        });
        for key in &meant {
            self.disconnect(*key, &disconnect, CloseReason::Disconnected);
        }
        AnswerTo::Connections(meant.len() as u32)
    }

    /// Those meant: by their own names, or else by their user.
    fn sessions_of(&self, whom: &Whom) -> Vec<Key> {
        let slots: Vec<u32> = match (whom.whereabouts(), &whom.user) {
            (Whereabouts::At { slot, .. }, _) => vec![slot],
            (Whereabouts::Anywhere, Some(user)) => self.slots_of(user).collect(),
            (Whereabouts::Anywhere, None) | (Whereabouts::Nowhere, _) => Vec::new(),
        };
        let is_meant = |slot| {
            let key = self.sessions.key_at(slot)?;
            let client = self.sessions.get(key)?.client()?;
            client.is_meant(whom).then_some(key)
        };
        slots.into_iter().filter_map(is_meant).collect()
    }

    fn act_on_order(&mut self, key: Key, action: &Action) {
        match action {
            Action::Disconnect { code, reason } => {
                let disconnect = Disconnect::custom(*code, reason);
                self.disconnect(key, &disconnect, CloseReason::Disconnected);
            }
            Action::Unsubscribe { channel } => self.unsubscribe_ordered(key, channel),
            Action::Subscribe(order) => self.subscribe_ordered(key, order),
            Action::Refresh {
                expired,
                expire_at_s,
                info,
            } => self.refresh_ordered(key, *expired, *expire_at_s, info),
            Action::Number | Action::Count { .. } | Action::Revoke(_) => {}
        }
    }

    /// Takes a client out of a channel, or out of all of them if the name is empty. Where it is only coming, it is
    /// taken out when it is there.
    pub(super) fn unsubscribe_ordered(&mut self, key: Key, channel: &str) {
        let Ok(client) = self.client(key) else {
            return;
        };
        let is_meant = |name: &&str| channel.is_empty() || *name == channel;
        let coming: Vec<Box<str>> = client
            .subscribing()
            .filter(is_meant)
            .map(Box::from)
            .collect();
        let there: Vec<u32> = match channel {
            "" => client
                .subscriptions
                .iter()
                .map(|one| one.place.channel)
                .collect(),
            name => self
                .local
                .find(name)
                .iter()
                .map(|local| local.slot)
                .collect(),
        };
        for slot in there {
            self.unsubscribe_by_server(key, slot, UnsubscribeCode::Server);
        }
        for channel in coming {
            if let Err(disconnect) = self.defer(key, Deferred::Leave(channel)) {
                // It is not to stay where it was taken out, however much it has waiting.
                let reason = CloseReason::of(&disconnect);
                return self.disconnect(key, &disconnect, reason);
            }
        }
    }

    fn subscribe_ordered(&mut self, key: Key, order: &SubscribeOrder) {
        let is_there = |core: &Self| {
            let local = core.local.find(&order.channel);
            let client = core.client(key);
            client.is_ok_and(|client| {
                client.is_subscribing(&order.channel)
                    || local.is_some_and(|local| client.subscription(local.slot).is_some())
            })
        };
        if is_there(self) {
            return;
        }
        let since = order.since.as_ref();
        let request = SubscribeRequest {
            channel: order.channel.to_string(),
            recover: since.is_some(),
            offset: since.map_or(0, |since| since.offset),
            epoch: since
                .and_then(|since| since.epoch)
                .map_or(String::new(), |epoch| epoch.to_string()),
            ..SubscribeRequest::default()
        };
        let permit = Permit {
            info: order.info.clone(),
            data: order.data.clone(),
            expire_at_s: order.expire_at_s,
            overrides: order.overrides,
        };
        // Whoever ordered it has been told that it was passed on; what a client refuses is its own.
        let _ = self.try_server_side(key, &request, permit, Origin::Order);
    }

    fn refresh_ordered(&mut self, key: Key, expired: bool, expire_at_s: i64, info: &Bytes) {
        let is_past = expire_at_s != 0 && expire_at_s <= unix_ms() / 1000;
        if expired || is_past {
            let disconnect = Disconnect::ConnectionExpired;
            return self.disconnect(key, &disconnect, CloseReason::Expired);
        }
        let grace_s = self.shared.config.client.limits.expired_close_delay_s;
        let expires_s = self.deadline_of(expire_at_s, grace_s);
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        client.expires_s = expires_s;
        self.renew_info(key, info);
        let refresh = SubRefreshResult {
            expires: expire_at_s != 0,
            ttl: ttl_s(expire_at_s, unix_ms() / 1000),
        };
        self.push(key, "", PushEvent::Refresh(refresh));
        self.reschedule(key);
    }
}

impl Core {
    /// Changes what others see of a connection, in its channels too. Nothing changes if `conn_info` is empty.
    pub(super) fn renew_info(&mut self, key: Key, conn_info: &Bytes) {
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        if conn_info.is_empty() {
            return;
        }
        let renewed = |info: &ClientInfo| {
            Arc::new(ClientInfo {
                conn_info: conn_info.clone(),
                ..info.clone()
            })
        };
        client.info = renewed(&client.info);
        for subscription in &mut client.subscriptions {
            if let Some(own) = &mut subscription.info {
                *own = renewed(own);
            }
        }
        let channels: Vec<u32> = client
            .subscriptions
            .iter()
            .map(|subscription| subscription.place.channel)
            .collect();
        for channel in channels {
            self.show_again(key, channel);
        }
    }
}

impl Client {
    /// Whether all that is said of `whom` is true of it.
    fn is_meant(&self, whom: &Whom) -> bool {
        let session = self.rare.as_ref().and_then(|rare| rare.session.as_deref());
        let is_user = |user: &Arc<str>| *user == self.info.user;
        self.progress != Progress::New
            && whom.user.as_ref().is_none_or(is_user)
            && (whom.client.is_empty() || whom.client == self.info.client)
            && (whom.session.is_empty() || Some(&*whom.session) == session)
            && !whom.spared.contains(&self.info.client)
    }
}
