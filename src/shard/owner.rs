//! What the owner of a channel answers.

use std::sync::Arc;

use crate::hub::{Key, Recovery};

use super::Core;
use super::asks::{Answer, AnswerTo, Ask, Question, RecoveryWish};
use super::inbox::{Asker, Message};
use super::poll::as_page;
use super::recoveries::MANY;
use super::session::Stage;

impl Core {
    /// Answers another shard's question.
    pub(super) fn answer_ask(&mut self, from: u16, ask: Ask) {
        let reply = self.answer_here(&ask.channel, ask.question);
        let answer = Answer {
            asker: ask.asker,
            reply,
        };
        self.tell(from, Message::Answer(Box::new(answer)));
    }

    /// Answers a question about a channel that this shard owns.
    pub fn answer_here(&mut self, name: &str, question: Question) -> AnswerTo {
        match question {
            Question::Recover(wish) => match self.recover_here(name, wish) {
                Some(recovery) => AnswerTo::Recovery(recovery),
                None => AnswerTo::Refused,
            },
            Question::History {
                since,
                limit,
                direction,
            } => {
                let now_s = self.now_s();
                match self.owned_channel(name) {
                    Some(channel) => {
                        AnswerTo::History(channel.stream(now_s).history(since, limit, direction))
                    }
                    None => AnswerTo::Refused,
                }
            }
            Question::RemoveHistory => {
                if let Some(key) = self.owned.find(name) {
                    self.owned.remove_history(key);
                    self.tell_removal(key);
                }
                AnswerTo::Done
            }
            Question::Presence => {
                let channel = self.owned.find(name).and_then(|key| self.owned.get(key));
                let infos = channel.map(|channel| channel.presence().map(Arc::clone).collect());
                AnswerTo::Presence(infos.unwrap_or_default())
            }
            Question::PresenceStats => {
                let channel = self.owned.find(name).and_then(|key| self.owned.get(key));
                let stats = channel.map(|channel| channel.presence_stats());
                AnswerTo::PresenceStats(stats.unwrap_or_default())
            }
        }
    }

    /// Nobody may be given any more what was removed.
    fn tell_removal(&mut self, owned: Key) {
        let channel = self.owned.get(owned);
        let interested = channel.map_or(&[][..], |channel| channel.interested());
        let interested: Vec<(u16, Key)> = interested
            .iter()
            .map(|interest| (interest.shard, interest.local))
            .collect();
        for (shard, local) in interested {
            self.tell(shard, Message::HistoryRemoved { local });
        }
    }

    /// What a subscriber that comes back lacks of a channel that this shard owns. `None` if it cannot be
    /// opened.
    pub(super) fn recover_here(&mut self, name: &str, wish: RecoveryWish) -> Option<Recovery> {
        let now_s = self.now_s();
        let limits = &self.shared.config.client.limits;
        let most = limits.recovery_max_publication_limit as usize;
        let stream = self.owned_channel(name)?.stream(now_s);
        Some(match (wish.latest_only, wish.in_pages) {
            (true, _) => stream.latest(wish.since),
            (false, true) => as_page(stream.page(wish.since, most)),
            (false, false) => stream.recover(wish.since, most),
        })
    }

    /// A channel that this shard owns, made if it is not there: whoever asks where it stands must find it
    /// there afterwards.
    fn owned_channel(&mut self, name: &str) -> Option<&crate::hub::OwnedChannel> {
        let now_s = self.now_s();
        let key = match self.owned.find(name) {
            Some(key) => key,
            None => self.owned.open(&Arc::from(name), now_s).ok()?,
        };
        self.metrics.channels.set(self.owned.len() as u64);
        self.owned.get(key)
    }

    /// An answer came for a session.
    pub(super) fn answered(&mut self, asker: Asker, answer: AnswerTo) {
        if asker.session == MANY {
            return self.recovery_answered(asker.tag, answer);
        }
        let Some(session) = self.sessions.get_mut(asker.session) else {
            return;
        };
        match &session.stage {
            Stage::Http(_) | Stage::Busy => self.http_answered(asker, answer),
            Stage::WebSocket(_) | Stage::Stream(_) | Stage::Polled(_) => {
                self.client_answered(asker, answer);
            }
            Stage::Poll(_) | Stage::Closing(_) => {}
        }
    }
}
