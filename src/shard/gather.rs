//! Requests whose answer takes the answers of other shards.

use std::fmt;

use super::asks::{Action, Answer, AnswerTo, Ask, Order, Question, Whom};
use super::emulation::Emulated;
use super::http::Phase;
use super::inbox::{Asker, Message};
use super::polled::{Poll, Polling};
use super::publish::{Submission, Submitted};
use super::requests::After;
use super::whereabouts::Whereabouts;
use super::{Core, Reply};
use crate::hub::Key;

/// Forms the reply from the answers, which are in the order in which they were asked for.
type Finish = Box<dyn FnOnce(Vec<AnswerTo>) -> Reply>;

/// What a request has asked of the shards, and what it makes of their answers.
pub struct Gathering {
    session: Key,
    parts: Vec<Part>,
    outstanding: usize,
}

/// One thing that was asked.
struct Part {
    answer: Option<AnswerTo>,
    /// Shards that have not answered.
    outstanding: usize,
}

impl Gathering {
    /// For a request of `session`; nothing asked yet.
    pub fn new(session: Key) -> Self {
        Self {
            session,
            parts: Vec::new(),
            outstanding: 0,
        }
    }

    /// Asks the owner of a channel.
    pub fn ask(&mut self, core: &mut Core, channel: &str, question: Question) {
        let asker = self.expect_answers(1);
        let owner = core.shared.owner_of(channel);
        if owner == core.id {
            let answer = core.answer_here(channel, question);
            return self.put(asker.tag, answer);
        }
        let ask = Ask {
            asker,
            channel: channel.into(),
            question,
        };
        core.tell(owner, Message::Ask(Box::new(ask)));
    }

    /// Asks the owner of a channel to publish.
    pub fn publish(&mut self, core: &mut Core, submission: Submission) {
        let asker = self.expect_answers(1);
        if let Submitted::Done(outcome) = core.publish(submission, asker) {
            self.put(asker.tag, AnswerTo::Published(outcome));
        }
    }

    /// Brings commands to their session, wherever it is.
    pub fn emulate(&mut self, core: &mut Core, emulated: Emulated) {
        let asker = self.expect_answers(1);
        if let Some(outcome) = core.emulate(asker, emulated) {
            self.put(asker.tag, AnswerTo::Emulation(outcome));
        }
    }

    /// Brings a request to the session it polls.
    pub fn poll(&mut self, core: &mut Core, id: &str, polling: Polling) {
        let asker = self.expect_answers(1);
        let poll = Poll {
            asker,
            id: id.into(),
            polling,
        };
        if let Some(answer) = core.poll(poll) {
            self.put(asker.tag, answer);
        }
    }

    /// Has every shard, or the one where those meant are, do something with its connections. The answer counts
    /// them all.
    pub fn order(&mut self, core: &mut Core, whom: Whom, action: Action) {
        let count = core.shared.metrics.len();
        let shards = match whom.whereabouts() {
            Whereabouts::Anywhere => 0..count as u16,
            Whereabouts::At { shard, .. } if usize::from(shard) < count => shard..shard + 1,
            _ => 0..0,
        };
        if shards.is_empty() {
            return self.know(AnswerTo::Connections(0));
        }
        let order = Order {
            asker: self.expect_answers(shards.len()),
            whom,
            action,
        };
        for shard in shards {
            if shard == core.id {
                let connections = core.obey_here(&order);
                self.put(order.asker.tag, connections);
            } else {
                core.tell(shard, Message::Order(Box::new(order.clone())));
            }
        }
    }

    /// Puts an answer in that needs nobody.
    pub fn know(&mut self, answer: AnswerTo) {
        let asker = self.expect_answers(1);
        self.put(asker.tag, answer);
    }

    /// The reply, now or when everybody has answered.
    pub fn reply(self, finish: impl FnOnce(Vec<AnswerTo>) -> Reply + 'static) -> super::Answer {
        if self.outstanding == 0 {
            return super::Answer::Reply(finish(self.answers()));
        }
        super::Answer::Await(Awaiting {
            gathering: self,
            finish: Box::new(finish),
        })
    }

    fn expect_answers(&mut self, answers: usize) -> Asker {
        self.parts.push(Part {
            answer: None,
            outstanding: answers,
        });
        self.outstanding += answers;
        Asker {
            session: self.session,
            tag: self.parts.len() as u32 - 1,
        }
    }

    fn put(&mut self, tag: u32, answer: AnswerTo) {
        let Some(part) = self.parts.get_mut(tag as usize) else {
            return;
        };
        if part.outstanding == 0 {
            return;
        }
        part.outstanding -= 1;
        self.outstanding -= 1;
        part.answer = Some(match (part.answer.take(), answer) {
            (Some(AnswerTo::Connections(some)), AnswerTo::Connections(more)) => {
                AnswerTo::Connections(some + more)
            }
            (Some(AnswerTo::Overview(mut some)), AnswerTo::Overview(more)) => {
                some.add(*more);
                AnswerTo::Overview(some)
            }
            (Some(AnswerTo::Refused), _) => AnswerTo::Refused,
            (_, answer) => answer,
        });
    }

    fn answers(self) -> Vec<AnswerTo> {
        let parts = self.parts.into_iter();
        parts
            .map(|part| part.answer.unwrap_or(AnswerTo::Refused))
            .collect()
    }
}

/// A request that waits for answers.
pub struct Awaiting {
    gathering: Gathering,
    finish: Finish,
}

impl fmt::Debug for Awaiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Awaiting")
            .field("outstanding", &self.gathering.outstanding)
            .finish_non_exhaustive()
    }
}

impl Core {
    /// An answer for a request came.
    pub(super) fn http_answered(&mut self, asker: Asker, answer: AnswerTo) {
        let key = asker.session;
        if self.awaited(key).is_some() {
            return self.upgrade_answered(key, answer);
        }
        if self.listener_took_over(key) {
            return;
        }
        let Some(mut http) = self.take_http(key) else {
            return;
        };
        let (mut awaiting, connection) = match std::mem::replace(&mut http.phase, Phase::Head) {
            Phase::Await {
                awaiting,
                connection,
            } => (awaiting, connection),
            phase => {
                http.phase = phase;
                return self.put_http(key, http);
            }
        };
        awaiting.gathering.put(asker.tag, answer);
        if awaiting.gathering.outstanding > 0 {
            http.phase = Phase::Await {
                awaiting,
                connection,
            };
            return self.put_http(key, http);
        }
        let Awaiting { gathering, finish } = *awaiting;
        let reply = finish(gathering.answers());
        let after: After = self.http_reply(key, &mut http, &reply, connection);
        self.go_on(key, http, after);
    }

    /// Answers another shard that asked about all there is.
    pub(super) fn answer_to(&mut self, from: u16, asker: Asker, reply: AnswerTo) {
        self.tell(from, Message::Answer(Box::new(Answer { asker, reply })));
    }
}
