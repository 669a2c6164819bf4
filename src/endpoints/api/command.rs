//! One command of the server API: who calls it, and what it waits for.

use std::sync::Arc;

use crate::config::ChannelOptions;
use crate::endpoints::access::Right;
use crate::endpoints::publishing::channel_name;
use crate::hub::Key;
use crate::proto::centrifuge::ErrorCode;
use crate::shard::{Action, AnswerTo, Core, Gathering, Question, Submission, Whom};

use super::error::ApiError;

/// What became of a command: the JSON of its result.
pub(super) type Outcome = Result<String, ApiError>;

/// What shards answered, in the order in which they were asked.
pub(super) type Answers = std::vec::IntoIter<AnswerTo>;

/// A command that waits for answers: it takes as many as it asked for, and makes its outcome of them.
pub(super) struct Asked(Box<dyn FnOnce(&mut Answers) -> Outcome>);

impl Asked {
    /// Waits for what `finish` takes.
    pub fn several(finish: impl FnOnce(&mut Answers) -> Outcome + 'static) -> Self {
        Self(Box::new(finish))
    }

    /// Waits for one answer.
    pub fn one(finish: impl FnOnce(AnswerTo) -> Outcome + 'static) -> Self {
        Self::several(|answers| finish(next(answers)))
    }

    /// Waits for nothing.
    pub fn nothing(result: &'static str) -> Self {
        Self::several(move |_| Ok(result.to_owned()))
    }

    /// Waits for one answer that says that it is done.
    pub fn done() -> Self {
        Self::one(|answer| match answer {
            AnswerTo::Refused => Err(ApiError::no_room()),
            _ => Ok("{}".to_owned()),
        })
    }

    /// What came of it.
    pub fn outcome(self, answers: &mut Answers) -> Outcome {
        (self.0)(answers)
    }
}

/// The next answer.
pub(super) fn next(answers: &mut Answers) -> AnswerTo {
    answers.next().unwrap_or(AnswerTo::Refused)
}

/// Who calls, and what has been asked for it.
pub(super) struct Caller<'a> {
    pub core: &'a mut Core,
    pub gathering: Gathering,
    right: Right<'a>,
}

impl<'a> Caller<'a> {
    /// A request of `session`, of somebody who may do what `right` says.
    pub fn new(core: &'a mut Core, session: Key, right: Right<'a>) -> Self {
        Self {
            core,
            gathering: Gathering::new(session),
            right,
        }
    }

    /// Whether the caller may call a method at all.
    pub fn may_call(&self, method: &str) -> Result<(), ApiError> {
        match self.right.allows_method(method) {
            true => Ok(()),
            false => Err(ApiError::PERMISSION_DENIED),
        }
    }

    /// Whether the caller may call a method that names no channel.
    pub fn may(&self, method: &str) -> Result<(), ApiError> {
        match self.right.allows(method, None) {
            true => Ok(()),
            false => Err(ApiError::PERMISSION_DENIED),
        }
    }

    /// A channel that the caller may call a method on, and its options.
    pub fn channel(
        &self,
        method: &str,
        name: &str,
    ) -> Result<(Arc<str>, &ChannelOptions), ApiError> {
        let channel = channel_name(self.core, name).map_err(|_| ApiError::BAD_REQUEST)?;
        if !self.right.allows(method, Some(name)) {
            return Err(ApiError::PERMISSION_DENIED);
        }
        let options = self.core.shared.config.channel.resolve(name);
        Ok((channel, options.map_err(|_| ErrorCode::UnknownChannel)?))
    }

    /// Asks the owner of a channel.
    pub fn ask(&mut self, channel: &str, question: Question) {
        self.gathering.ask(self.core, channel, question);
    }

    /// Asks the owner of a channel to publish.
    pub fn publish(&mut self, submission: Submission) {
        self.gathering.publish(self.core, submission);
    }

    /// Has the shards do something with connections.
    pub fn order(&mut self, whom: Whom, action: Action) {
        self.gathering.order(self.core, whom, action);
    }
}
