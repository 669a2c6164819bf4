//! Publish: to the owner of a channel, its offset, and on to every shard with subscribers.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::unix_ms;
use crate::hub::{
    ClientInfo, Encoding, Key, Kind, Position, Publication, PublicationExtra, Refused,
    StreamOptions,
};
use crate::metrics::{CloseReason, PublicationRefusal};
use crate::proto::centrifuge::filter::Filter;
use crate::proto::close::CloseCode;

use super::Core;
use super::asks::AnswerTo;
use super::backlog::backlog_of;
use super::http::Phase;
use super::inbox::{Asker, Deliver, Event, Message, Publish, Published};
use super::scribe::Place;
use super::session::Stage;

/// Something to be published.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The channel's name.
    pub channel: Arc<str>,
    /// What the data is.
    pub kind: Kind,
    /// The data.
    pub data: Bytes,
    /// What most do without.
    pub options: Option<Box<PublishOptions>>,
}

/// What most publications do without.
#[derive(Clone, Debug, Default)]
pub struct PublishOptions {
    /// The client that publishes.
    pub info: Option<Arc<ClientInfo>>,
    /// Labels to filter by.
    pub tags: Vec<(Box<str>, Box<str>)>,
    /// Subscribers that agreed to it get the difference to the publication before.
    pub uses_delta: bool,
    /// It is outside the stream: it gets no offset and is not kept, and who misses it does not know.
    pub skips_history: bool,
    /// Publications with the same key are one.
    pub idempotency_key: Box<str>,
    /// It counts only if this is more than that of the one before; 0 for none.
    pub version: u64,
    /// What the version counts in.
    pub version_epoch: Box<str>,
}

/// What became of a publication so far.
pub enum Submitted {
    /// It is sequenced, or refused.
    Done(Result<Position, Refused>),
    /// Its owner is another shard and will answer.
    Pending,
}

impl Core {
    /// Hands a publication to the owner of its channel. The answer to `asker` comes at once if the
    /// owner is this shard.
    pub fn publish(&mut self, submission: Submission, asker: Asker) -> Submitted {
        let owner = self.shared.owner_of(&submission.channel);
        if owner == self.id {
            return Submitted::Done(self.sequence(submission));
        }
        let link = &mut self.links[usize::from(owner)];
        if !link.has_room(submission.data.len()) {
            return Submitted::Done(Err(self.refuse(Refused::ShardBusy)));
        }
        link.send_data(Message::Publish(Box::new(Publish { asker, submission })));
        Submitted::Pending
    }

    pub(super) fn publish_for(&mut self, from: u16, publish: Publish) {
        let outcome = self.sequence(publish.submission);
        let asker = publish.asker;
        self.tell(
            from,
            Message::Published(Box::new(Published { asker, outcome })),
        );
    }

    /// Gives a publication its offset and sends it to every shard with subscribers; or refuses it,
    /// before it has one, when any of them cannot take it.
    fn sequence(&mut self, submission: Submission) -> Result<Position, Refused> {
        if self.is_frozen {
            return Err(self.refuse(Refused::ShardBusy));
        }
        let now_s = self.now_s();
        let Submission {
            channel: name,
            kind,
            data,
            options,
        } = submission;
        let mut options = options.unwrap_or_default();
        let owned = self.owned.open(&name, now_s);
        let owned = owned.map_err(|refused| self.refuse(refused))?;
        if let Some(position) = self.earlier_publication(owned, &name, &options) {
            return Ok(position);
        }
        let bytes = Publication::credit_bytes(data.len());
        self.check_room(owned, bytes, data.len())?;
        options.uses_delta |= self
            .shared
            .config
            .channel
            .resolve_or_default(&name)
            .delta_publish;
        let mut publication = Publication::new(kind, data, unix_ms());
        publication.extra = options.extra();
        let committed = match options.skips_history {
            true => {
                let channel = self.owned.get_mut(owned);
                channel.map(|channel| channel.commit_outside_stream(bytes, now_s))
            }
            false => {
                let stream = self.stream_options(&name);
                self.owned
                    .commit(owned, &mut publication, bytes, &stream, now_s)
            }
        };
        let position = committed.ok_or(Refused::TooManyChannels)?;
        if let Some(channel) = self.owned.get_mut(owned) {
            channel.note_version(options.version, &options.version_epoch);
        }
        if !options.idempotency_key.is_empty() {
            let key = &options.idempotency_key;
            self.idempotency.remember(&name, key, position, now_s);
        }
        self.metrics.publications.add(1);
        self.metrics.channels.set(self.owned.len() as u64);
        self.hand_out(owned, position, &publication);
        Ok(position)
    }

    /// What an earlier publication got that this one repeats, or that is newer.
    fn earlier_publication(
        &self,
        owned: Key,
        name: &str,
        options: &PublishOptions,
    ) -> Option<Position> {
        let channel = self.owned.get(owned)?;
        if channel.has_version(options.version, &options.version_epoch) {
            return Some(channel.position());
        }
        let key = &options.idempotency_key;
        if key.is_empty() {
            return None;
        }
        self.idempotency.find(name, key, self.now_s())
    }

    /// Whether every interested shard can take `credit_bytes` more of a channel.
    fn check_room(
        &self,
        owned: Key,
        credit_bytes: u32,
        message_bytes: usize,
    ) -> Result<(), Refused> {
        let Some(channel) = self.owned.get(owned) else {
            return Err(self.refuse(Refused::TooManyChannels));
        };
        if !channel.has_room(credit_bytes, self.limits.batch_bytes) {
            return Err(self.refuse(Refused::ChannelFull));
        }
        let all_have_room = channel.interested().iter().all(|interest| {
            let link = &self.links[usize::from(interest.shard)];
            interest.shard == self.id || link.has_room(message_bytes)
        });
        match all_have_room {
            true => Ok(()),
            false => Err(self.refuse(Refused::ShardBusy)),
        }
    }

    /// Sends a publication to every interested shard.
    fn hand_out(&mut self, owned: Key, position: Position, publication: &Publication) {
        let Some(channel) = self.owned.get(owned) else {
            return;
        };
        let mut here = None;
        for interest in channel.interested() {
            if interest.shard == self.id {
                here = Some(interest.local);
                continue;
            }
            let deliver = Deliver {
                local: interest.local,
                position,
                publication: publication.clone(),
            };
            let link = &mut self.links[usize::from(interest.shard)];
            link.send_data(Message::Deliver(Box::new(deliver)));
        }
        if let Some(local) = here {
            self.deliver(local, position, publication);
        }
    }

    /// What a channel keeps of its publications.
    pub(super) fn stream_options(&self, name: &str) -> StreamOptions {
        let channel = &self.shared.config.channel;
        let options = channel.resolve_or_default(name);
        StreamOptions {
            size: options.history_size as u32,
            ttl_s: options.history_ttl_s,
            meta_ttl_s: channel.history_meta_ttl_s(options),
        }
    }

    /// Puts a publication into the batch of a channel, encoded once for each form its subscribers here
    /// get it in.
    pub(super) fn deliver(&mut self, local: Key, position: Position, publication: &Publication) {
        let Some(channel) = self.local.get_mut(local) else {
            // It was left meanwhile: its owner will hear of it.
            return;
        };
        let (backlog, key) = backlog_of(&self.shared, &channel.name, Some(publication));
        channel.position = position;
        let (mut batch, is_new) = channel.lend_batch(backlog);
        let credit_bytes = Publication::credit_bytes(publication.data.len());
        let scribe = &mut self.scribe;
        let place = Place {
            name: &channel.name,
            local: local.slot,
            epoch: position.epoch,
            is_stream: channel.is_stream(),
        };
        let is_wanted = |encoding: Encoding| {
            let filter = encoding.selection.filter();
            filter.is_none_or(|number| channel.passes(number, |filter| passes(filter, publication)))
        };
        batch.append(credit_bytes, key, &channel.encodings, |encoding, out| {
            if is_wanted(encoding) {
                scribe.publication(out, encoding, &place, publication, channel.base());
            }
        });
        channel.put_batch(batch);
        channel.keep_base(&publication.data);
        if is_new {
            self.ready.push_back(local);
        }
    }

    /// Tells everybody in a channel who wants to know that a client came or went. What has no room is
    /// dropped: these are hints, presence is the truth.
    pub(super) fn announce(&mut self, owned: Key, info: &Arc<ClientInfo>, is_join: bool) {
        let data_bytes = info.user.len() + info.client.len() + info.conn_info.len();
        let credit_bytes = Publication::credit_bytes(data_bytes + info.chan_info.len());
        let now_s = self.now_s();
        if self
            .check_room(owned, credit_bytes, credit_bytes as usize)
            .is_err()
        {
            return self.metrics.events_dropped.add(1);
        }
        let Some(channel) = self.owned.get_mut(owned) else {
            return;
        };
        channel.commit_outside_stream(credit_bytes, now_s);
        let interested: Vec<_> = channel
            .interested()
            .iter()
            .map(|interest| (interest.shard, interest.local))
            .collect();
        for (shard, local) in interested {
            let event = Event {
                local,
                info: Arc::clone(info),
                is_join,
                credit_bytes,
            };
            match shard == self.id {
                true => self.deliver_event(&event),
                false => {
                    self.links[usize::from(shard)].send_data(Message::Event(Box::new(event)));
                }
            }
        }
    }

    pub(super) fn deliver_event(&mut self, event: &Event) {
        let Some(channel) = self.local.get_mut(event.local) else {
            return;
        };
        let (backlog, _) = backlog_of(&self.shared, &channel.name, None);
        let (mut batch, is_new) = channel.lend_batch(backlog);
        let scribe = &mut self.scribe;
        let place = Place {
            name: &channel.name,
            local: event.local.slot,
            epoch: channel.position.epoch,
            is_stream: channel.is_stream(),
        };
        batch.append_event(event.credit_bytes, &channel.encodings, |encoding, out| {
            if encoding.selection.wants_events() {
                scribe.event(out, encoding, &place, &event.info, event.is_join);
            }
        });
        channel.put_batch(batch);
        if is_new {
            self.ready.push_back(event.local);
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

    /// The owner said what became of a session's publication.
    pub(super) fn published(&mut self, asker: Asker, outcome: Result<Position, Refused>) {
        let key = asker.session;
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if session.client().is_some() {
            return self.command_published(key, asker.tag, outcome);
        }
        match &mut session.stage {
            Stage::Http(http) if matches!(http.phase, Phase::Await { .. }) => {
                self.http_answered(asker, AnswerTo::Published(outcome));
            }
            Stage::Http(_) => self.answer_published(key, outcome),
            Stage::WebSocket(websocket) => {
                if let Some(extras) = &mut websocket.extras {
                    extras.in_flight = extras.in_flight.saturating_sub(1);
                }
                match outcome {
                    Ok(_) => self.resume(key),
                    Err(_) => self.close_overloaded(key),
                }
            }
            _ => {}
        }
    }

    /// Publishes what a bare WebSocket client sent.
    pub(super) fn publish_from_client(&mut self, key: Key, kind: Kind, payload: &[u8]) {
        let Some(channel) = self.channel_of(key) else {
            return;
        };
        let submission = Submission {
            channel,
            kind,
            data: Bytes::copy_from_slice(payload),
            options: None,
        };
        let asker = Asker {
            session: key,
            tag: 0,
        };
        match self.publish(submission, asker) {
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

impl PublishOptions {
    /// What of them travels with the publication.
    fn extra(&mut self) -> Option<Arc<PublicationExtra>> {
        if self.info.is_none() && self.tags.is_empty() && !self.uses_delta {
            return None;
        }
        Some(Arc::new(PublicationExtra {
            info: self.info.take(),
            tags: std::mem::take(&mut self.tags),
            uses_delta: self.uses_delta,
        }))
    }
}

/// Whether a publication passes a filter.
pub(super) fn passes(filter: &Filter, publication: &Publication) -> bool {
    let tags = publication
        .extra
        .as_ref()
        .map_or(&[][..], |extra| &extra.tags);
    filter.matches(tags)
}
