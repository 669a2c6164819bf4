//! Keys of tokens that are fetched: a command whose token names a key that is not known waits for newer ones.

use std::sync::Arc;

use crate::auth::TokenError;
use crate::hooks::{Busy, KeySource};
use crate::hub::Key;
use crate::proto::centrifuge::{Command, Disconnect, ErrorCode, Method};

use super::backend::KeyNews;
use super::client::{Awaited, Progress};
use super::commands::Refusal;
use super::http::{Body, ConnectionPlan, HttpStage, Phase};
use super::inbox::Asker;
use super::requests::After;
use super::session::Stage;
use super::{Core, Reply};

/// Keys by which a token may be good that is not by those that are known: of up to two sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeysWanted([Option<KeySource>; 2]);

impl KeysWanted {
    /// What may help against these errors. `None` if nothing does.
    pub(super) fn new(errors: [(&TokenError, Option<KeySource>); 2]) -> Option<Self> {
        let [one, mut other] = errors.map(|(error, source)| {
            source.filter(|_| matches!(error, TokenError::UnknownKey { .. }))
        });
        if one == other {
            other = None;
        }
        (one.is_some() || other.is_some()).then_some(Self([one, other]))
    }

    fn sources(self) -> impl Iterator<Item = KeySource> {
        self.0.into_iter().flatten()
    }
}

/// A request that waits for keys.
pub(super) struct AwaitingKeys {
    pub request: Body,
    /// Without newer keys, it is answered so.
    pub otherwise: Reply,
    /// Sources that have not answered.
    outstanding: usize,
}

/// No answer comes in time, and the client is to come again.
fn keys_not_available() -> Reply {
    Reply::text(503, "keys of tokens cannot be fetched now").with("Retry-After", "5")
}

impl Core {
    /// Lets a request wait for newer keys. The answer comes in any case: a fetch has a time-out.
    pub(super) fn await_listener_keys(
        &mut self,
        key: Key,
        http: &mut HttpStage,
        request: Body,
        wanted: (KeysWanted, Reply),
        connection: ConnectionPlan,
    ) -> After {
        let (keys, otherwise) = wanted;
        let mut outstanding = 0;
        for source in keys.sources() {
            if self.ask_for_keys(source).is_err() {
                continue;
            }
            let asker = Asker {
                session: key,
                tag: 0,
            };
            self.awaiting_keys.push((source, asker));
            outstanding += 1;
        }
        if outstanding == 0 {
            return self.http_reply(key, http, &keys_not_available(), connection);
        }
        self.count_request_bytes(0, request.bytes.len());
        http.deadline_s = self.now_s() + self.limits.body_pace.timeout_s;
        http.phase = Phase::AwaitKeys(Box::new(AwaitingKeys {
            request,
            otherwise,
            outstanding,
        }));
        After::Wait
    }

    /// One source of the keys that a request waits for has answered. With the last it is answered too.
    fn retry_request(&mut self, key: Key) {
        let Some(mut http) = self.take_http(key) else {
            return;
        };
        let mut awaiting = match std::mem::replace(&mut http.phase, Phase::Head) {
            Phase::AwaitKeys(awaiting) => awaiting,
            phase => {
                http.phase = phase;
                return self.put_http(key, http);
            }
        };
        awaiting.outstanding = awaiting.outstanding.saturating_sub(1);
        if awaiting.outstanding > 0 {
            http.phase = Phase::AwaitKeys(awaiting);
            return self.put_http(key, http);
        }
        let AwaitingKeys {
            request, otherwise, ..
        } = *awaiting;
        self.count_request_bytes(request.bytes.len(), 0);
        self.answer_again(key, http, request, otherwise);
    }

    /// Asks for newer keys. One question a shard, however many wait: its answer is for all of them.
    fn ask_for_keys(&self, source: KeySource) -> Result<(), Busy> {
        let is_asked = self.awaiting_keys.iter().any(|(of, _)| *of == source);
        match is_asked {
            true => Ok(()),
            false => self.shared.backend.refresh_keys(self.id, source),
        }
    }

    /// What a refused token leads to: to `otherwise`, unless newer keys may change it.
    pub(super) fn refuse_token(
        &self,
        error: &TokenError,
        source: Option<KeySource>,
        otherwise: Refusal,
    ) -> Refusal {
        match (error, source) {
            (TokenError::UnknownKey { .. }, Some(source)) => {
                Refusal::NeedsKeys(source, Box::new(otherwise))
            }
            _ => otherwise,
        }
    }

    /// Lets a command wait for newer keys. The answer comes in any case: a fetch has a time-out.
    pub(super) fn await_keys(
        &mut self,
        key: Key,
        source: KeySource,
        command: Command,
    ) -> Result<(), Refusal> {
        let is_connect = matches!(command.method, Method::Connect(_));
        if self.ask_for_keys(source).is_err() {
            return Err(match is_connect {
                true => Disconnect::InternalServerError.into(),
                false => ErrorCode::Internal.into(),
            });
        }
        let tag = self.client_mut(key)?.wait(Awaited::Keys(Box::new(command)));
        self.awaiting_keys
            .push((source, Asker { session: key, tag }));
        Ok(())
    }

    /// Keys came, or word that there are no newer ones: whoever waited for them is decided on.
    pub(super) fn keys_came(&mut self, news: KeyNews) {
        let KeyNews { source, keys } = news;
        if let Some(keys) = keys {
            if self.shared.backend.connect_keys() == Some(source) {
                self.tokens.connect.set_jwks(Arc::clone(&keys));
            }
            if self.shared.backend.subscribe_keys() == Some(source) {
                self.tokens.subscribe.set_jwks(keys);
            }
        }
        let waiting = std::mem::take(&mut self.awaiting_keys);
        let (ready, waiting) = waiting.into_iter().partition(|(of, _)| *of == source);
        self.awaiting_keys = waiting;
        for (_, asker) in ready {
            match self.stage(asker.session) {
                Some(Stage::Http(_)) => self.retry_request(asker.session),
                _ => self.retry_command(asker),
            }
        }
    }

    fn retry_command(&mut self, asker: Asker) {
        let Asker { session: key, tag } = asker;
        let Ok(client) = self.client_mut(key) else {
            return;
        };
        let Some(Awaited::Keys(command)) = client.take_waiting(tag) else {
            return;
        };
        if matches!(command.method, Method::Connect(_)) {
            client.progress = Progress::New;
        }
        let id = command.id;
        let mut out = Vec::new();
        let done = self.dispatch(key, *command, &mut out);
        self.conclude_later(key, id, done, out);
    }
}
