//! Listeners of the plain dialect: who may listen to what, and who they are. The rules are those of Centrifuge clients.

use crate::auth::{ConnectClaims, SubscribeClaims, TokenError};
use crate::clock::unix_ms;

use super::Core;
use super::jwks::KeysWanted;

/// Somebody who may listen to a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// Whose connection it is; empty for nobody's in particular.
    pub user: String,
    /// The device its token was issued to.
    pub device: Option<String>,
}

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
    /// The token is not good, unless newer keys say otherwise.
    NeedsKeys(KeysWanted),
}

impl Core {
    /// Who the holder of `token`, of a connection or of a subscription, is that may listen to a channel.
    ///
    /// # Errors
    /// Why it may not.
    pub fn may_listen(&self, channel: &str, token: Option<&str>) -> Result<Listener, MayNotListen> {
        let config = &self.shared.config;
        if config.is_open_to_listeners() {
            return Ok(Listener::default());
        }
        let options = config.channel.resolve(channel);
        let options = options.map_err(|_| MayNotListen::NoSuchNamespace)?;
        let name = config.channel.check_name(channel, options);
        name.map_err(|_| MayNotListen::BadName)?;
        let Some(token) = token else {
            return match self.may_subscribe(channel, "", options) {
                true => Ok(Listener::default()),
                false => Err(MayNotListen::TokenMissing),
            };
        };
        let (holder, may_subscribe) = self.check_token(channel, token)?;
        match may_subscribe || self.may_subscribe(channel, &holder.user, options) {
            true => Ok(holder),
            false => Err(MayNotListen::Denied),
        }
    }

    /// Who has a token, and whether it is one for this channel.
    fn check_token(&self, channel: &str, token: &str) -> Result<(Listener, bool), MayNotListen> {
        let now_s = unix_ms() / 1000;
        let revocations = &self.tokens.revocations;
        let granted = self.tokens.subscribe.verify_listener(token, channel, now_s);
        let (holder, may_subscribe, is_revoked, expire_at_s) = match granted {
            Ok(claims) => {
                let is_revoked = revocations.is_revoked(claims.identity(), now_s);
                let SubscribeClaims { user, device, .. } = claims;
                let holder = Listener { user, device };
                (holder, true, is_revoked, claims.expire_at_s)
            }
            Err(TokenError::Mismatch(_)) => return Err(MayNotListen::Denied),
            Err(as_subscription) => {
                let claims = self.tokens.connect.verify_connect(token, now_s);
                let claims = claims.map_err(|as_connection| {
                    self.refuse_listener(&as_connection, &as_subscription)
                })?;
                let is_revoked = revocations.is_revoked(claims.identity(), now_s);
                let limits = &self.shared.config.client.limits;
                if claims.user.is_empty() && limits.disallow_anonymous_connection_tokens {
                    return Err(MayNotListen::TokenRefused);
                }
                let ConnectClaims { user, device, .. } = claims;
                let holder = Listener { user, device };
                (holder, false, is_revoked, claims.expire_at_s)
            }
        };
        match is_revoked || expire_at_s.is_some_and(|expire_s| expire_s <= now_s) {
            true => Err(MayNotListen::TokenRefused),
            false => Ok((holder, may_subscribe)),
        }
    }

    /// A token is good neither for a connection nor for a subscription, as far as is known.
    fn refuse_listener(
        &self,
        as_connection: &TokenError,
        as_subscription: &TokenError,
    ) -> MayNotListen {
        let backend = &self.shared.backend;
        let keys = KeysWanted::new([
            (as_connection, backend.connect_keys()),
            (as_subscription, backend.subscribe_keys()),
        ]);
        keys.map_or(MayNotListen::TokenRefused, MayNotListen::NeedsKeys)
    }
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

    fn may_listen(core: &Core, channel: &str, token: Option<&str>) -> Result<(), MayNotListen> {
        core.may_listen(channel, token).map(|_| ())
    }

    #[test]
    fn without_configuration_everybody_may_listen_to_everything() {
        with_cores(1, Config::default(), |bed| {
            for channel in ["a", "$b", "c:d", "e#42", "ü"] {
                assert_eq!(may_listen(&bed.cores[0], channel, None), Ok(()));
                assert_eq!(may_listen(&bed.cores[0], channel, Some("?")), Ok(()));
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
                assert_eq!(may_listen(core, channel, None), by_nobody, "{channel}");
                let anonymous = may_listen(core, channel, Some(&nobody));
                assert_eq!(anonymous, by_anonymous, "{channel}");
                assert_eq!(may_listen(core, channel, Some(&user)), by_user, "{channel}");
            }
            let unknown = may_listen(core, "nope:a", Some(&user));
            assert_eq!(unknown, Err(MayNotListen::NoSuchNamespace));
            assert_eq!(may_listen(core, "ü", None), Err(MayNotListen::BadName));
        });
    }

    #[test]
    fn a_subscription_token_is_good_for_its_channel_while_it_lasts() {
        with_core(|core| {
            let own = token(r#"{"sub":"42","channel":"$a"}"#);
            assert_eq!(may_listen(core, "$a", Some(&own)), Ok(()));
            assert_eq!(
                may_listen(core, "$b", Some(&own)),
                Err(MayNotListen::Denied)
            );
            let refused = Err(MayNotListen::TokenRefused);
            let old = token(r#"{"sub":"42","channel":"$a","exp":1000}"#);
            assert_eq!(may_listen(core, "$a", Some(&old)), refused);
            assert_eq!(may_listen(core, "public:a", Some("nonsense")), refused);
            let of_client = token(r#"{"channel":"$a","client":"c"}"#);
            assert_eq!(
                may_listen(core, "$a", Some(&of_client)),
                Err(MayNotListen::Denied)
            );
        });
    }

    #[test]
    fn a_token_says_whose_it_is_and_of_which_device() {
        with_core(|core| {
            let listener =
                |channel: &str, claims: &str| core.may_listen(channel, Some(&token(claims)));
            let of = |user: &str, device: Option<&str>| {
                Ok(Listener {
                    user: user.to_owned(),
                    device: device.map(str::to_owned),
                })
            };
            for (claims, device) in [
                (r#"{"sub":"42","device":"phone"}"#, Some("phone")),
                (r#"{"sub":"42","device":""}"#, None),
                (r#"{"sub":"42"}"#, None),
            ] {
                assert_eq!(listener("open:a", claims), of("42", device), "{claims}");
            }
            let subscription = r#"{"sub":"7","channel":"$a","device":"tablet"}"#;
            assert_eq!(listener("$a", subscription), of("7", Some("tablet")));
            let refused = Err(MayNotListen::TokenRefused);
            let long = format!(r#"{{"sub":"42","device":"{}"}}"#, "x".repeat(129));
            assert_eq!(listener("open:a", &long), refused);
            assert_eq!(listener("open:a", r#"{"sub":"42","device":7}"#), refused);
        });
    }
}
