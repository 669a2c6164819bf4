//! Keys of tokens that are fetched: a command whose token names a key that is not known waits for newer ones.

use std::sync::Arc;

use crate::auth::TokenError;
use crate::hooks::KeySource;
use crate::hub::Key;
use crate::proto::centrifuge::{Command, Disconnect, ErrorCode, Method};

use super::Core;
use super::backend::KeyNews;
use super::client::{Awaited, Progress};
use super::commands::Refusal;
use super::inbox::Asker;

impl Core {
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
        // One question a shard, however many wait: its answer is for all of them.
        let is_asked = self.awaiting_keys.iter().any(|(of, _)| *of == source);
        if !is_asked && self.shared.backend.refresh_keys(self.id, source).is_err() {
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
            self.retry_command(asker);
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
