//! Listeners of the plain dialect: who may listen to what. The rules are those of Centrifuge clients.

use crate::auth::TokenError;
use crate::clock::unix_ms;

use super::Core;

/// Why somebody may not listen to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MayNotListen {
    /// Its namespace is not configured.
    NoSuchNamespace,
    /// The channel's name is not as its options ask.
    BadName,
    /// It takes a token.
    TokenMissing,
    /// The token is not good, or not any more.
    TokenRefused,
    /// The token is good, but not for this channel.
    Denied,
}

impl Core {
    /// Whether the holder of `token`, of a connection or of a subscription, may listen to a channel.
    ///
    /// # Errors
    /// Why not.
    pub fn may_listen(&self, channel: &str, token: Option<&str>) -> Result<(), MayNotListen> {
        let config = &self.shared.config;
        if config.is_open_to_listeners() {
            return Ok(());
        }
        let options = config.channel.resolve(channel);
        let options = options.map_err(|_| MayNotListen::NoSuchNamespace)?;
        let name = config.channel.check_name(channel, options);
        name.map_err(|_| MayNotListen::BadName)?;
        let Some(token) = token else {
            return match self.may_subscribe(channel, "", options) {
                true => Ok(()),
                false => Err(MayNotListen::TokenMissing),
            };
        };
        let user = match self.check_token(channel, token)? {
            Holder::Subscriber => return Ok(()),
            Holder::User(user) => user,
        };
        match self.may_subscribe(channel, &user, options) {
            true => Ok(()),
            false => Err(MayNotListen::Denied),
        }
    }

    fn check_token(&self, channel: &str, token: &str) -> Result<Holder, MayNotListen> {
        let now_s = unix_ms() / 1000;
        let revocations = &self.tokens.revocations;
        let granted = self.tokens.subscribe.verify_listener(token, channel, now_s);
        let (holder, is_revoked, expire_at_s) = match granted {
            Ok(claims) => {
                let is_revoked = revocations.is_revoked(claims.identity(), now_s);
                (Holder::Subscriber, is_revoked, claims.expire_at_s)
            }
            Err(TokenError::Mismatch(_)) => return Err(MayNotListen::Denied),
            Err(_) => {
                let claims = self.tokens.connect.verify_connect(token, now_s);
                let claims = claims.map_err(|_| MayNotListen::TokenRefused)?;
                let is_revoked = revocations.is_revoked(claims.identity(), now_s);
                let limits = &self.shared.config.client.limits;
                if claims.user.is_empty() && limits.disallow_anonymous_connection_tokens {
                    return Err(MayNotListen::TokenRefused);
                }
                (Holder::User(claims.user), is_revoked, claims.expire_at_s)
            }
        };
        match is_revoked || expire_at_s.is_some_and(|expire_s| expire_s <= now_s) {
            true => Err(MayNotListen::TokenRefused),
            false => Ok(holder),
        }
    }
}

/// What a token says of whoever has it.
enum Holder {
    /// May listen to the channel.
    Subscriber,
    /// Is this user.
    User(String),
}
