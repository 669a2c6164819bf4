//! The connections of a user: found by their user, and told what to do.

use std::hash::BuildHasher;
use std::sync::Arc;

use crate::hub::{ClientInfo, Glob, Key};
use crate::metrics::CloseReason;
use crate::proto::centrifuge::values::{SubRefreshResult, SubscribeRequest};
use crate::proto::centrifuge::{Disconnect, PushEvent, UnsubscribeCode};

use super::Core;
use super::asks::{Action, AnswerTo, Order, Overview, SubscribeOrder, Whom};
use super::client::{Origin, Progress};
use super::commands::ttl_s;
use super::inbox::{Asker, Message};
use super::subscriptions::Permit;

/// The tag of an order whose outcome nobody waits for.
const UNANSWERED: u32 = u32::MAX;

/// Finds the sessions of a user: five bytes for each.
#[derive(Default)]
pub(super) struct Users {
    slots: hashbrown::HashTable<u32>,
    /// Clients that were let in, with a user or without.
    clients: u64,
    hasher: std::hash::RandomState,
}

impl Core {
    /// A client has a user by now.
    pub(super) fn note_user(&mut self, key: Key) {
        let Some(user) = self.user_of(key.slot) else {
            return;
        };
        let hash = self.users.hasher.hash_one(&*user);
        let (sessions, hasher) = (&mut self.sessions, &self.users.hasher);
        self.users.slots.insert_unique(hash, key.slot, |slot| {
            let session = sessions.at(*slot);
            let client = session.and_then(|session| session.client());
            client.map_or(0, |client| hasher.hash_one(&*client.info.user))
        });
    }

    /// A client that had a user is gone.
    pub(super) fn forget_user(&mut self, key: Key, user: &str) {
        if user.is_empty() {
            return;
        }
        let hash = self.users.hasher.hash_one(user);
        let entry = self.users.slots.find_entry(hash, |slot| *slot == key.slot);
        if let Ok(entry) = entry {
            entry.remove();
        }
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
        if let Action::Count { pattern } = &order.action {
            return AnswerTo::Overview(Box::new(self.overview(pattern.as_ref())));
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
            let matching = self.owned.matching(pattern, 0, u32::MAX);
            matching
                .map(|channel| (Arc::clone(channel.name()), channel.subscribers()))
                .filter(|(_, subscribers)| *subscribers > 0)
                .collect()
        });
        Overview {
            clients: self.users.clients,
            users: self.users.slots.len() as u64,
            subscriptions: self.metrics.subscriptions.get(),
            channels: channels.unwrap_or_default(),
        }
    }

    fn sessions_of(&self, whom: &Whom) -> Vec<Key> {
        let mut slots = Vec::new();
        match &whom.user {
            Some(user) => {
                let hash = self.users.hasher.hash_one(&**user);
                slots.extend(self.users.slots.iter_hash(hash).copied());
            }
            None => slots.extend(0..self.sessions.places() as u32),
        }
        slots
            .into_iter()
            .filter_map(|slot| {
                let key = self.sessions.key_at(slot)?;
                let client = self.sessions.get(key)?.client()?;
                let session = client
                    .rare
                    .as_ref()
                    .and_then(|rare| rare.session.as_deref());
                let is_meant = client.progress != Progress::New
                    && whom
                        .user
                        .as_ref()
                        .is_none_or(|user| *user == client.info.user)
                    && (whom.client.is_empty() || whom.client == client.info.client)
                    && (whom.session.is_empty() || Some(&*whom.session) == session)
                    && !whom.spared.contains(&client.info.client);
                is_meant.then_some(key)
            })
            .collect()
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
            Action::Number | Action::Count { .. } => {}
        }
    }

    fn unsubscribe_ordered(&mut self, key: Key, channel: &str) {
        let slots: Vec<u32> = match channel {
            "" => match self.client(key) {
                Ok(client) => client
                    .subscriptions
                    .iter()
                    .map(|subscription| subscription.place.channel)
                    .collect(),
                Err(_) => Vec::new(),
            },
            name => self
                .local
                .find(name)
                .map(|local| local.slot)
                .into_iter()
                .collect(),
        };
        for slot in slots {
            self.unsubscribe_by_server(key, slot, UnsubscribeCode::Server);
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
            ..Permit::default()
        };
        // Whoever ordered it has been told that it was passed on; what a client refuses is its own.
        let _ = self.try_server_side(key, &request, permit, Origin::Order);
    }

    fn refresh_ordered(&mut self, key: Key, expired: bool, expire_at_s: i64, info: &bytes::Bytes) {
        if expired {
            let disconnect = Disconnect::ConnectionExpired;
            return self.disconnect(key, &disconnect, CloseReason::Expired);
        }
        let grace_s = self.shared.config.client.limits.expired_close_delay_s;
        let expires_s = self.deadline_of(expire_at_s, grace_s);
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        client.expires_s = expires_s;
        if !info.is_empty() {
            client.info = Arc::new(ClientInfo {
                conn_info: info.clone(),
                ..ClientInfo::clone(&client.info)
            });
        }
        let refresh = SubRefreshResult {
            expires: expire_at_s != 0,
            ttl: ttl_s(expire_at_s, crate::clock::unix_ms() / 1000),
        };
        self.push(key, "", PushEvent::Refresh(refresh));
        self.reschedule(key);
    }
}
