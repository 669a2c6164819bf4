//! Who hears of which channel, on this shard and between shards.

use std::sync::Arc;

use crate::hub::{Encoding, Interest, Key, Position, Refused};

use super::Core;
use super::asks::{Departure, Presence};
use super::inbox::{Join, Joined, Message};
use super::session::Subscription;

/// Whether a shard hears of a channel yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    /// It does.
    Now,
    /// The owner was asked; see [`Core::joined`].
    Asked,
}

impl Core {
    /// Makes sure that a channel is delivered here: at once, or when the owner answers, of which
    /// `session` is told then. `None`: it cannot be.
    pub(super) fn hear(&mut self, session: Key, name: &Arc<str>) -> Option<(Key, Hearing)> {
        let local = match self.local.find(name) {
            Some(local) => local,
            None => self.ask_owner(name)?,
        };
        let channel = self.local.get_mut(local)?;
        if channel.interest() == Interest::Asked {
            channel.add_joining(session);
            return Some((local, Hearing::Asked));
        }
        Some((local, Hearing::Now))
    }

    /// Keeps a channel that is delivered here until `session` is done with waiting for something else.
    pub(super) fn hold(&mut self, local: Key, session: Key) {
        if let Some(channel) = self.local.get_mut(local) {
            channel.add_joining(session);
        }
    }

    /// Ends one [`Self::hold`].
    pub(super) fn let_go(&mut self, local: Key, session: Key) {
        if let Some(channel) = self.local.get_mut(local) {
            channel.remove_joining(session);
        }
        self.leave_if_empty(local);
    }

    /// Opens a local channel and asks its owner to deliver here. `None` if the owner is this shard and
    /// refuses.
    fn ask_owner(&mut self, name: &Arc<str>) -> Option<Key> {
        let owner = self.shared.owner_of(name);
        let is_stream = self.stream_options(name).keeps_history();
        let local = self.local.add(name, owner, is_stream);
        if owner != self.id {
            let channel = Arc::clone(name);
            self.tell(owner, Message::Join(Box::new(Join { channel, local })));
            return Some(local);
        }
        match self.add_interest(name, owner, local) {
            Ok((owned, position)) => {
                if let Some(channel) = self.local.get_mut(local) {
                    channel.set_heard(owned);
                    channel.position = position;
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
    fn add_interest(
        &mut self,
        name: &Arc<str>,
        shard: u16,
        local: Key,
    ) -> Result<(Key, Position), Refused> {
        let now_s = self.now_s();
        let owned = self.owned.open(name, now_s)?;
        self.metrics.channels.set(self.owned.len() as u64);
        let channel = self.owned.get_mut(owned);
        let channel = channel.ok_or(Refused::TooManyChannels)?;
        channel.add_interest(shard, local, now_s);
        Ok((owned, channel.position()))
    }

    /// Makes a session a subscriber of a channel that is delivered here. What is published from now on
    /// is for it.
    pub(super) fn add_subscriber(
        &mut self,
        local: Key,
        key: Key,
        encoding: Encoding,
    ) -> Option<Subscription> {
        let channel = self.local.get_mut(local)?;
        let position = channel.add_subscriber(key.slot);
        for form in encoding.forms() {
            channel.encodings.add(form);
        }
        self.metrics.subscriptions.add(1);
        self.note_subscribers(local);
        Some(Subscription {
            channel: local.slot,
            position,
            encoding,
        })
    }

    /// Takes a session out of one channel, and the shard too if it was the last one.
    pub(super) fn remove_subscriber(&mut self, subscription: Subscription) {
        let Some((local, channel)) = self.local.at_mut(subscription.channel) else {
            return;
        };
        let sessions = &mut self.sessions;
        for form in subscription.encoding.forms() {
            channel.encodings.remove(form);
        }
        if let Some(filter) = subscription.encoding.selection.filter() {
            channel.release_filter(filter);
        }
        if let Some(slot) = channel.remove_subscriber(subscription.position)
            && let Some((_, session)) = sessions.at_mut(slot)
            && let Some(moved) = session.subscription_mut(local.slot)
        {
            moved.position = subscription.position;
        }
        self.metrics.subscriptions.sub(1);
        self.note_subscribers(local);
        self.leave_if_empty(local);
    }

    /// The channel's owner is to know how many listen here; it is told once, however often it changes
    /// before.
    fn note_subscribers(&mut self, local: Key) {
        if let Some(channel) = self.local.get_mut(local)
            && !channel.replace_news(true)
        {
            self.news.push(local);
        }
    }

    /// Tells owners how many subscribers their channels have here, up to `most` of those that changed.
    pub(super) fn tell_news(&mut self, most: usize) {
        for _ in 0..most {
            let Some(local) = self.news.pop() else {
                return;
            };
            let Some(channel) = self.local.get_mut(local) else {
                continue;
            };
            channel.replace_news(false);
            if let Interest::Held { owned } = channel.interest() {
                let (owner, subscribers) = (channel.owner, channel.subscribers().len() as u32);
                self.tell(
                    owner,
                    Message::Subscribers {
                        owned,
                        local,
                        subscribers,
                    },
                );
            }
        }
    }

    /// Takes a session out of all its channels, and out of all it waits for.
    pub(super) fn unsubscribe(&mut self, key: Key, departure: Departure) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let own = session.subscription.take();
        if let Some(subscription) = own {
            self.remove_subscriber(subscription);
        }
        self.leave_all(key, departure);
        self.give_up_device(key);
    }

    /// Gives up a channel nobody here listens to any more.
    pub(super) fn leave_if_empty(&mut self, local: Key) {
        let Some(channel) = self.local.get_mut(local) else {
            return;
        };
        if !channel.subscribers().is_empty() || !channel.joining().is_empty() {
            return;
        }
        // While the owner has not answered there is nothing to leave; its answer comes back here.
        let Interest::Held { owned } = channel.interest() else {
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
            Message::Deliver(deliver) => {
                self.deliver(deliver.local, deliver.position, &deliver.publication);
            }
            Message::Event(event) => self.deliver_event(&event),
            Message::Published(published) => self.published(published.asker, published.outcome),
            Message::Ask(ask) => self.answer_ask(from, *ask),
            Message::Emulate(emulate) => self.emulate_for(from, &emulate),
            Message::Poll(poll) => self.poll_for(from, *poll),
            Message::ReceiverGone(gone) => self.receiver_gone(from, &gone),
            Message::Order(order) => self.obey(from, *order),
            Message::Hook(answer) => self.hook_answered(*answer),
            Message::Keys(news) => self.keys_came(*news),
            Message::Answer(answer) => self.answered(answer.asker, answer.reply),
            Message::Presence(presence) => self.note_presence(*presence),
            Message::TakeOver { device, asker } => self.take_over_for(from, asker, device),
            Message::Fence { device, asker } => self.fence(from, device, asker),
            Message::Fenced { device } => self.fenced(device),
            Message::GiveUp { device, asker } => self.given_up(from, device, asker),
            Message::Join(join) => self.join_for(from, *join),
            Message::Joined(joined) => self.joined(from, *joined),
            Message::JoinRefused { local } => self.join_refused(local),
            Message::HistoryRemoved { local } => self.recoveries.forget(local),
            Message::Subscribers {
                owned,
                local,
                subscribers,
            } => {
                if let Some(channel) = self.owned.get_mut(owned) {
                    channel.set_subscribers(from, local, subscribers);
                }
            }
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
            Message::Steer(_) | Message::Drain(_) | Message::Export(_) | Message::Stop => {}
        }
    }

    fn join_for(&mut self, from: u16, join: Join) {
        let local = join.local;
        let answer = match self.add_interest(&join.channel, from, local) {
            Ok((owned, position)) => Message::Joined(Box::new(Joined {
                local,
                owned,
                position,
            })),
            Err(_) => Message::JoinRefused { local },
        };
        self.tell(from, answer);
    }

    /// The owner delivers here from now on: whoever waited for it hears of the channel.
    fn joined(&mut self, owner: u16, joined: Joined) {
        let (local, owned) = (joined.local, joined.owned);
        let Some(channel) = self.local.get_mut(local) else {
            self.tell(owner, Message::Leave { owned, local });
            return;
        };
        channel.set_heard(owned);
        channel.position = joined.position;
        // Each is kept until the last one is served: one that ends at once must not take the channel
        // with it.
        let joining: Vec<Key> = channel.joining().to_vec();
        // Who waits for what it missed is let go with that. This is asked before anybody goes on, who
        // may then wait for the same channel anew, and is let go of that by itself.
        let mut served = joining.clone();
        served.retain(|session| !self.awaits_history(*session, local));
        for session in joining {
            self.heard(local, session);
        }
        for session in served {
            self.let_go(local, session);
        }
        self.leave_if_empty(local);
    }

    fn join_refused(&mut self, local: Key) {
        let Some(channel) = self.local.remove(local) else {
            return;
        };
        for session in channel.joining() {
            let session = *session;
            self.refuse_joined(session, local);
        }
    }

    /// Tells the owner of a channel that a client came or went.
    pub(super) fn tell_presence(&mut self, local_slot: u32, mut presence: Presence) {
        let Some((_, channel)) = self.local.at_mut(local_slot) else {
            return;
        };
        let (owner, interest) = (channel.owner, channel.interest());
        if let Interest::Held { owned } = interest {
            presence.owned = owned;
            self.tell(owner, Message::Presence(Box::new(presence)));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::{Submission, Submitted};
    use super::*;
    use crate::config::Config;
    use crate::hub::{Kind, Refused};
    use crate::shard::inbox::Asker;
    use crate::shard::testing::{upgrade, with_cores};

    #[test]
    fn empty_publications_do_not_gather_without_bound() {
        with_cores(1, Config::default(), |bed| {
            let client = bed.websocket(0, "/channels/a");
            let core = &mut bed.cores[0];
            let submission = Submission {
                channel: Arc::from("a"),
                kind: Kind::Text,
                data: Bytes::new(),
                options: None,
            };
            let asker = Asker {
                session: client.key,
                tag: 0,
            };
            let mut publish = || core.publish(submission.clone(), asker);
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
