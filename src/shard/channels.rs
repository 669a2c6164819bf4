//! Publish and subscribe, on this shard and between shards.

use std::sync::Arc;

use bytes::Bytes;

use crate::hub::{Encoding, Interest, Key, Kind, Position, Publication, Refused, StreamOptions};
use crate::metrics::{CloseReason, PublicationRefusal};
use crate::proto::close::CloseCode;
use crate::proto::deflate::DeflateParams;
use crate::proto::frame::{Opcode, encode_frame};

use super::Core;
use super::inbox::{Deliver, Join, Joined, Message, Publish, Published};
use super::session::{Purpose, Stage, Subscription};

/// What became of a publication so far.
pub enum Submitted {
    /// It is sequenced, or refused.
    Done(Result<Position, Refused>),
    /// Its owner is another shard and will answer.
    Pending,
}

/// A request that is to become a WebSocket.
pub struct Upgrade {
    /// The client's `Sec-WebSocket-Key`, checked.
    pub key: String,
    /// What the client's messages will mean.
    pub purpose: Purpose,
    /// The channel it listens to, if any.
    pub channel: Option<Arc<str>>,
    /// What was agreed on compression.
    pub deflate: Option<DeflateParams>,
}

/// Whether a session hears of a channel yet.
pub(super) enum Subscribed {
    /// It does.
    Now,
    /// The owner was asked; see [`Core::joined`].
    Pending,
    /// The channel cannot be opened.
    Refused,
}

impl Core {
    /// Hands a publication to the owner of its channel. The answer to `session` comes at once if the
    /// owner is this shard.
    pub fn publish(
        &mut self,
        channel: &Arc<str>,
        kind: Kind,
        data: Bytes,
        session: Key,
    ) -> Submitted {
        let owner = self.shared.owner_of(channel);
        if owner == self.id {
            return Submitted::Done(self.sequence(channel, kind, data));
        }
        let link = &mut self.links[usize::from(owner)];
        if !link.has_room(data.len()) {
            return Submitted::Done(Err(self.refuse(Refused::ShardBusy)));
        }
        link.send_data(Message::Publish(Box::new(Publish {
            channel: Arc::clone(channel),
            kind,
            data,
            session,
        })));
        Submitted::Pending
    }

    /// Gives a publication its offset and sends it to every shard with subscribers; or refuses it,
    /// before it has one, when any of them cannot take it.
    fn sequence(&mut self, name: &Arc<str>, kind: Kind, data: Bytes) -> Result<Position, Refused> {
        let now_s = self.now_s();
        let bytes = Publication::credit_bytes(data.len());
        let key = match self.owned.open(name, now_s) {
            Ok(key) => key,
            Err(refused) => return Err(self.refuse(refused)),
        };
        let Some(channel) = self.owned.get(key) else {
            return Err(self.refuse(Refused::TooManyChannels));
        };
        if !channel.has_room(bytes, self.limits.batch_bytes) {
            return Err(self.refuse(Refused::ChannelFull));
        }
        let links = &self.links;
        let all_have_room = channel.interested().iter().all(|interest| {
            interest.shard == self.id || links[usize::from(interest.shard)].has_room(data.len())
        });
        if !all_have_room {
            return Err(self.refuse(Refused::ShardBusy));
        }
        let mut publication = Publication::new(kind, data, 0);
        let options = StreamOptions::default();
        let position = self
            .owned
            .commit(key, &mut publication, bytes, &options, now_s);
        let Some((position, channel)) = position.zip(self.owned.get(key)) else {
            return Err(self.refuse(Refused::TooManyChannels));
        };
        let mut here = None;
        for interest in channel.interested() {
            if interest.shard == self.id {
                here = Some(interest.local);
                continue;
            }
            self.links[usize::from(interest.shard)].send_data(Message::Deliver(Box::new(
                Deliver {
                    local: interest.local,
                    publication: publication.clone(),
                },
            )));
        }
        if let Some(local) = here {
            self.deliver(local, &publication);
        }
        self.metrics.publications.add(1);
        self.metrics.channels.set(self.owned.len() as u64);
        Ok(position)
    }

    /// Puts a publication into the batch of a channel, encoded once for all its subscribers here.
    fn deliver(&mut self, local: Key, publication: &Publication) {
        // A channel that was left meanwhile: its owner will hear of it.
        let Some(channel) = self.local.get_mut(local) else {
            return;
        };
        let opcode = match publication.kind {
            Kind::Json | Kind::Text => Opcode::Text,
            Kind::Binary => Opcode::Binary,
        };
        let is_first = channel.waiting.is_none();
        let data = &publication.data;
        let is_worth_it = data.len() >= self.shared.config.websocket.compression_min_bytes;
        let deflater = &mut self.deflater;
        channel.waiting.get_or_insert_default().append(
            Publication::credit_bytes(data.len()),
            &channel.encodings,
            |encoding, out| {
                let is_compressed = match encoding {
                    Encoding::Deflate { window_bits } => {
                        is_worth_it && deflater.encode_frame(out, opcode, data, window_bits)
                    }
                    Encoding::Plain => false,
                };
                if !is_compressed {
                    encode_frame(out, opcode, data);
                }
            },
        );
        if is_first && !channel.passing {
            self.ready.push_back(local);
        }
    }

    fn refuse(&self, refused: Refused) -> Refused {
        self.metrics.publication_refused(match refused {
            Refused::ChannelFull => PublicationRefusal::ChannelFull,
            Refused::ShardBusy => PublicationRefusal::ShardBusy,
            Refused::TooManyChannels => PublicationRefusal::TooManyChannels,
        });
        refused
    }

    /// Makes a session hear of a channel. A shard asks the channel's owner once, for all its sessions.
    pub(super) fn subscribe(
        &mut self,
        session: Key,
        name: &Arc<str>,
        encoding: Encoding,
    ) -> Subscribed {
        let local = match self.local.find(name) {
            Some(local) => local,
            None => match self.ask_owner(name) {
                Some(local) => local,
                None => return Subscribed::Refused,
            },
        };
        let Some(channel) = self.local.get_mut(local) else {
            return Subscribed::Refused;
        };
        if channel.interest == Interest::Asked {
            channel.joining.push(session);
            return Subscribed::Pending;
        }
        self.add_subscriber(local, session, encoding);
        Subscribed::Now
    }

    /// Opens a local channel and asks its owner to deliver here. `None` if the owner is this shard and
    /// refuses.
    fn ask_owner(&mut self, name: &Arc<str>) -> Option<Key> {
        let owner = self.shared.owner_of(name);
        let local = self.local.add(name, owner);
        if owner != self.id {
            let channel = Arc::clone(name);
            self.tell(owner, Message::Join(Box::new(Join { channel, local })));
            return Some(local);
        }
        match self.add_interest(name, owner, local) {
            Ok(owned) => {
                if let Some(channel) = self.local.get_mut(local) {
                    channel.interest = Interest::Held { owned };
                }
                Some(local)
            }
            Err(_) => {
                self.local.remove(local);
                None
            }
        }
    }

    /// Notes, as owner, that a shard has subscribers.
    fn add_interest(&mut self, name: &Arc<str>, shard: u16, local: Key) -> Result<Key, Refused> {
        let now_s = self.now_s();
        let owned = self.owned.open(name, now_s)?;
        if let Some(channel) = self.owned.get_mut(owned) {
            channel.add_interest(shard, local, now_s);
        }
        self.metrics.channels.set(self.owned.len() as u64);
        Ok(owned)
    }

    fn add_subscriber(&mut self, local: Key, key: Key, encoding: Encoding) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(channel) = self.local.get_mut(local) else {
            return;
        };
        let position = channel.subscribers.add(key.slot);
        channel.encodings.add(encoding);
        if let Some(batch) = &mut channel.waiting {
            batch.joined(key.slot, encoding);
        }
        session.subscription = Some(Subscription {
            channel: local.slot,
            position,
            encoding,
        });
        self.metrics.subscriptions.add(1);
    }

    /// Takes a session out of its channel, and the shard too if it was the last one.
    pub(super) fn unsubscribe(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let Some(subscription) = session.subscription.take() else {
            return;
        };
        let Some((local, channel)) = self.local.at_mut(subscription.channel) else {
            return;
        };
        let sessions = &mut self.sessions;
        channel.encodings.remove(subscription.encoding);
        channel
            .subscribers
            .remove(subscription.position, |slot, position| {
                if let Some((_, session)) = sessions.at_mut(slot)
                    && let Some(subscription) = &mut session.subscription
                {
                    subscription.position = position;
                }
            });
        self.metrics.subscriptions.sub(1);
        self.leave_if_empty(local);
    }

    /// Gives up a channel nobody here listens to any more.
    fn leave_if_empty(&mut self, local: Key) {
        let Some(channel) = self.local.get_mut(local) else {
            return;
        };
        if !channel.subscribers.is_empty() || !channel.joining.is_empty() {
            return;
        }
        // While the owner has not answered there is nothing to leave; its answer comes back here.
        let Interest::Held { owned } = channel.interest else {
            return;
        };
        let owner = channel.owner;
        self.local.remove(local);
        self.tell(owner, Message::Leave { owned, local });
    }

    /// Sends a control message to a shard, or deals with it here.
    pub(super) fn tell(&mut self, shard: u16, message: Message) {
        if shard == self.id {
            self.handle(shard, message);
        } else if self.links[usize::from(shard)].send_control(message) {
            self.has_waiting_control = true;
            self.metrics.control_waits.add(1);
        }
    }

    /// Sends control messages that waited. True if some still do.
    pub(super) fn flush_links(&mut self) -> bool {
        let waiting = self
            .links
            .iter_mut()
            .filter_map(|link| link.flush().then_some(()));
        self.has_waiting_control = waiting.count() > 0;
        self.has_waiting_control
    }

    /// Deals with a message of another shard.
    pub(super) fn handle(&mut self, from: u16, message: Message) {
        match message {
            Message::Publish(publish) => self.publish_for(from, *publish),
            Message::Deliver(deliver) => self.deliver(deliver.local, &deliver.publication),
            Message::Published(published) => self.published(published.session, published.outcome),
            Message::Join(join) => self.join_for(from, *join),
            Message::Joined(joined) => self.joined(from, joined),
            Message::JoinRefused { local } => self.join_refused(local),
            Message::Leave { owned, local } => {
                let now_s = self.now_s();
                if let Some(channel) = self.owned.get_mut(owned) {
                    channel.remove_interest(from, local, now_s);
                }
            }
            Message::Taken {
                owned,
                local,
                bytes,
            } => {
                if let Some(channel) = self.owned.get_mut(owned) {
                    channel.taken(from, local, bytes);
                }
            }
            // On its way out of the core the shard sees that it is its turn.
            Message::Turn => {}
            // The tasks around the core deal with these.
            Message::Steer(_) | Message::Drain(_) | Message::Stop => {}
        }
    }

    fn publish_for(&mut self, from: u16, publish: Publish) {
        let outcome = self.sequence(&publish.channel, publish.kind, publish.data);
        let session = publish.session;
        let published = Published { session, outcome };
        self.tell(from, Message::Published(Box::new(published)));
    }

    fn join_for(&mut self, from: u16, join: Join) {
        let local = join.local;
        let answer = match self.add_interest(&join.channel, from, local) {
            Ok(owned) => Message::Joined(Joined { local, owned }),
            Err(_) => Message::JoinRefused { local },
        };
        self.tell(from, answer);
    }

    /// The owner delivers here from now on: whoever waited for it is subscribed and may open.
    fn joined(&mut self, owner: u16, Joined { local, owned }: Joined) {
        let Some(channel) = self.local.get_mut(local) else {
            self.tell(owner, Message::Leave { owned, local });
            return;
        };
        channel.interest = Interest::Held { owned };
        let joining = std::mem::take(&mut channel.joining).into_iter();
        let joining: Vec<(Key, Encoding)> = joining
            .filter_map(|session| Some((session, self.awaited_encoding(session)?)))
            .collect();
        // All of them first: opening one may end it, and the channel is left with its last subscriber.
        for (session, encoding) in &joining {
            self.add_subscriber(local, *session, *encoding);
        }
        for (session, _) in joining {
            self.open_joined(session);
        }
        self.leave_if_empty(local);
    }

    fn join_refused(&mut self, local: Key) {
        let Some(channel) = self.local.remove(local) else {
            return;
        };
        for session in channel.joining {
            self.refuse_joined(session);
        }
    }

    /// The owner said what became of a session's publication.
    fn published(&mut self, key: Key, outcome: Result<Position, Refused>) {
        match self.sessions.get_mut(key).map(|session| &mut session.stage) {
            Some(Stage::Http(_)) => self.answer_published(key, outcome),
            Some(Stage::WebSocket(websocket)) => {
                if let Some(extras) = &mut websocket.extras {
                    extras.in_flight = extras.in_flight.saturating_sub(1);
                }
                if outcome.is_err() {
                    self.close_overloaded(key);
                } else {
                    self.resume(key);
                }
            }
            // The session ended meanwhile; what it published stands.
            _ => {}
        }
    }

    /// Publishes what a WebSocket client sent.
    pub(super) fn publish_from_client(&mut self, key: Key, kind: Kind, payload: &[u8]) {
        let Some(name) = self.channel_of(key) else {
            return;
        };
        match self.publish(&name, kind, Bytes::copy_from_slice(payload), key) {
            Submitted::Done(Ok(_)) => {}
            Submitted::Done(Err(_)) => self.close_overloaded(key),
            Submitted::Pending => {
                if let Some(session) = self.sessions.get_mut(key)
                    && let Stage::WebSocket(websocket) = &mut session.stage
                {
                    websocket.extras.get_or_insert_default().in_flight += 1;
                }
            }
        }
    }

    /// The name of the channel a session is subscribed to.
    fn channel_of(&mut self, key: Key) -> Option<Arc<str>> {
        let slot = self.sessions.get(key)?.subscription?.channel;
        let (_, channel) = self.local.at_mut(slot)?;
        Some(Arc::clone(&channel.name))
    }

    /// The plain dialect cannot say that one publication was refused, so the connection says it.
    fn close_overloaded(&mut self, key: Key) {
        let text = "publication not sequenced, try again later";
        self.close(key, CloseCode::TryAgainLater, text, CloseReason::Overloaded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::shard::testing::{upgrade, with_cores};

    #[test]
    fn empty_publications_do_not_gather_without_bound() {
        with_cores(1, Config::default(), |bed| {
            let client = bed.websocket(0, "/channels/a");
            let core = &mut bed.cores[0];
            let mut publish =
                || core.publish(&Arc::from("a"), Kind::Text, Bytes::new(), client.key);
            let refused = (0..100_000).find_map(|_| match publish() {
                Submitted::Done(Err(refused)) => Some(refused),
                _ => None,
            });
            assert_eq!(refused, Some(Refused::ChannelFull));
        });
    }

    #[test]
    fn a_session_that_is_gone_when_its_channel_opens_takes_nobody_with_it() {
        with_cores(2, Config::default(), |bed| {
            let path = format!("/channels/{}", bed.channel_of(1));
            let mut gone = bed.connect(0);
            let mut here = bed.connect(0);
            bed.say(&mut gone, upgrade(&path).as_bytes());
            bed.say(&mut here, upgrade(&path).as_bytes());
            gone.reset();
            bed.pass_messages();
            assert!(here.head().starts_with("HTTP/1.1 101 "));
            assert_eq!(bed.cores[0].metrics.subscriptions.get(), 1);
            assert_eq!(bed.cores[0].local.len(), 1);
        });
    }

    #[test]
    fn a_session_that_gave_up_waiting_for_its_channel_is_not_subscribed() {
        with_cores(2, Config::default(), |bed| {
            let path = format!("/channels/{}", bed.channel_of(1));
            let mut client = bed.connect(0);
            bed.say(&mut client, upgrade(&path).as_bytes());
            bed.pass_seconds(11);
            assert!(client.head().starts_with("HTTP/1.1 504 "));
            bed.pass_messages();
            assert_eq!(bed.cores[0].metrics.subscriptions.get(), 0);
            assert_eq!(bed.cores[0].local.len(), 0);
        });
    }
}
