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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{TokenSettings, TokenVerifier, sign_hs256};
    use crate::config::{ChannelOptions, Config};
    use crate::shard::testing::with_cores;

    const SECRET: &str = "a secret that is long enough for HS256";

    fn token(claims: &str) -> String {
        sign_hs256(SECRET, claims).unwrap()
    }

    fn with_core(test: impl FnOnce(&mut Core)) {
        let mut config = Config::default();
        let open = ChannelOptions {
            allow_subscribe_for_client: true,
            ..ChannelOptions::default()
        };
        let public = ChannelOptions {
            allow_subscribe_for_anonymous: true,
            ..open.clone()
        };
        let limited = ChannelOptions {
            allow_user_limited_channels: true,
            ..ChannelOptions::default()
        };
        config.channel.without_namespace = ChannelOptions::default();
        config.channel.namespaces = vec![
            ("limited".to_owned(), limited),
            ("open".to_owned(), open),
            ("public".to_owned(), public),
        ];
        with_cores(1, config, |bed| {
            let settings = TokenSettings {
                hmac_secret_key: SECRET.to_owned(),
                ..TokenSettings::default()
            };
            let core = &mut bed.cores[0];
            core.tokens.connect = TokenVerifier::new(&settings).unwrap();
            core.tokens.subscribe = TokenVerifier::new(&settings).unwrap();
            test(core);
        });
    }

    #[test]
    fn without_configuration_everybody_may_listen_to_everything() {
        with_cores(1, Config::default(), |bed| {
            for channel in ["a", "$b", "c:d", "e#42", "ü"] {
                assert_eq!(bed.cores[0].may_listen(channel, None), Ok(()));
                assert_eq!(bed.cores[0].may_listen(channel, Some("?")), Ok(()));
            }
        });
    }

    #[test]
    fn rights_are_those_of_centrifuge_clients() {
        with_core(|core| {
            let (user, nobody) = (token(r#"{"sub":"42"}"#), token("{}"));
            let missing = Err(MayNotListen::TokenMissing);
            let denied = Err(MayNotListen::Denied);
            for (channel, by_nobody, by_anonymous, by_user) in [
                ("a", missing, denied, denied),
                ("open:a", missing, denied, Ok(())),
                ("public:a", Ok(()), Ok(()), Ok(())),
                ("$public:a", missing, denied, denied),
                ("limited:a#41,42", missing, denied, Ok(())),
                ("limited:a#41", missing, denied, denied),
            ] {
                assert_eq!(core.may_listen(channel, None), by_nobody, "{channel}");
                let anonymous = core.may_listen(channel, Some(&nobody));
                assert_eq!(anonymous, by_anonymous, "{channel}");
                assert_eq!(core.may_listen(channel, Some(&user)), by_user, "{channel}");
            }
            let unknown = core.may_listen("nope:a", Some(&user));
            assert_eq!(unknown, Err(MayNotListen::NoSuchNamespace));
            assert_eq!(core.may_listen("ü", None), Err(MayNotListen::BadName));
        });
    }

    #[test]
    fn a_subscription_token_is_good_for_its_channel_while_it_lasts() {
        with_core(|core| {
            let own = token(r#"{"sub":"42","channel":"$a"}"#);
            assert_eq!(core.may_listen("$a", Some(&own)), Ok(()));
            assert_eq!(core.may_listen("$b", Some(&own)), Err(MayNotListen::Denied));
            let refused = Err(MayNotListen::TokenRefused);
            let old = token(r#"{"sub":"42","channel":"$a","exp":1000}"#);
            assert_eq!(core.may_listen("$a", Some(&old)), refused);
            assert_eq!(core.may_listen("public:a", Some("nonsense")), refused);
            let of_client = token(r#"{"channel":"$a","client":"c"}"#);
            assert_eq!(
                core.may_listen("$a", Some(&of_client)),
                Err(MayNotListen::Denied)
            );
        });
    }
}
