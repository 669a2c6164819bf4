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
    /// When its token ends, in Unix seconds; 0 for never.
    pub expire_at_s: i64,
    /// Its token is one for this channel.
    is_subscriber: bool,
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
        if self.shared.config.is_open_to_listeners() {
            return Ok(Listener::default());
        }
        self.may_listen_as(channel, token, None)
    }

    /// Until when the holder of `token` may listen to all of several channels, in Unix seconds; 0 for ever.
    ///
    /// # Errors
    /// Why it may not listen to the first one of those refused.
    pub fn may_listen_to<C: AsRef<str>>(
        &self,
        channels: &[C],
        token: Option<&str>,
    ) -> Result<i64, MayNotListen> {
        if self.shared.config.is_open_to_listeners() {
            return Ok(0);
        }
        // A token of a connection is looked at once, one of a subscription is good for one channel.
        let mut known: Option<Listener> = None;
        let mut expire_at_s = 0;
        for channel in channels {
            let listener = self.may_listen_as(channel.as_ref(), token, known.as_ref())?;
            expire_at_s = match (expire_at_s, listener.expire_at_s) {
                (0, other) | (other, 0) => other,
                (some, other) => some.min(other),
            };
            known = Some(listener).filter(|listener| !listener.is_subscriber);
        }
        Ok(expire_at_s)
    }

    fn may_listen_as(
        &self,
        channel: &str,
        token: Option<&str>,
        known: Option<&Listener>,
    ) -> Result<Listener, MayNotListen> {
        let config = &self.shared.config;
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
        let holder = match known {
            Some(known) => known.clone(),
            None => self.check_token(channel, token)?,
        };
        match holder.is_subscriber || self.may_subscribe(channel, &holder.user, options) {
            true => Ok(holder),
            false => Err(MayNotListen::Denied),
        }
    }

    /// Who has a token.
    fn check_token(&self, channel: &str, token: &str) -> Result<Listener, MayNotListen> {
        let now_s = unix_ms() / 1000;
        let revocations = &self.tokens.revocations;
        let granted = self.tokens.subscribe.verify_listener(token, channel, now_s);
        let (user, device, is_subscriber, is_revoked, expire_at_s) = match granted {
            Ok(claims) => {
                let is_revoked = revocations.is_revoked(claims.identity(), now_s);
                let SubscribeClaims { user, device, .. } = claims;
                (user, device, true, is_revoked, claims.expire_at_s)
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
                (user, device, false, is_revoked, claims.expire_at_s)
            }
        };
        match is_revoked || expire_at_s.is_some_and(|expire_s| expire_s <= now_s) {
            true => Err(MayNotListen::TokenRefused),
            false => Ok(Listener {
                user,
                device,
                expire_at_s: expire_at_s.unwrap_or(0),
                is_subscriber,
            }),
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
    fn a_token_is_good_for_several_channels_until_the_first_ends() {
        with_core(|core| {
            let user = token(r#"{"sub":"42","exp":4000000000}"#);
            let names = ["public:a", "open:a", "limited:a#42"];
            assert_eq!(core.may_listen_to(&names, Some(&user)), Ok(4_000_000_000));
            assert_eq!(
                core.may_listen_to(&names, None),
                Err(MayNotListen::TokenMissing)
            );
            let names = ["public:a", "limited:a#41"];
            assert_eq!(
                core.may_listen_to(&names, Some(&user)),
                Err(MayNotListen::Denied)
            );
            let own = token(r#"{"sub":"42","channel":"$a"}"#);
            assert_eq!(core.may_listen_to(&["$a"], Some(&own)), Ok(0));
            assert_eq!(
                core.may_listen_to(&["$a", "open:a"], Some(&own)),
                Err(MayNotListen::Denied)
            );
        });
    }

    /// What a listener with a token that ends in ten seconds is sent before its connection ends.
    fn told_until_the_end(request: impl Fn(&str) -> String) -> String {
        use std::io::Read;
        let mut told = Vec::new();
        let mut config = Config::default();
        config.client.token.hmac_secret_key = SECRET.to_owned();
        config.channel.without_namespace = ChannelOptions {
            allow_subscribe_for_client: true,
            ..ChannelOptions::default()
        };
        with_cores(1, config, |bed| {
            let expire_at_s = unix_ms() / 1000 + 10;
            let token = token(&format!(r#"{{"sub":"42","exp":{expire_at_s}}}"#));
            let mut client = bed.connect(0);
            bed.say(&mut client, request(&token).as_bytes());
            bed.pass_seconds(8);
            assert_eq!(bed.cores[0].metrics.subscriptions.get(), 1);
            bed.pass_seconds(5);
            assert_eq!(bed.cores[0].metrics.subscriptions.get(), 0);
            bed.pass_seconds(10);
            client.socket.set_nonblocking(true).unwrap();
            let _ = client.socket.read_to_end(&mut told);
        });
        String::from_utf8_lossy(&told).into_owned()
    }

    #[test]
    fn what_a_token_was_good_for_ends_with_it() {
        let get = |path: &str, header: &str, token: &str| {
            format!(
                "GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n{header}\r\n"
            )
        };
        let end = "\r\n0\r\n\r\n";
        for path in ["/channels/a", "/channels?channel=a"] {
            let told =
                told_until_the_end(|token| get(path, "Accept: text/event-stream\r\n", token));
            let event = "event: longwire.disconnect\ndata: {\"code\":3005,\"reason\":\"token expired\"}\n\n";
            assert!(told.ends_with(&format!("{event}{end}")), "{told}");
            let told =
                told_until_the_end(|token| get(path, "Accept: application/x-ndjson\r\n", token));
            assert!(told.contains("{\"disconnect\":{\"code\":3005,"), "{told}");
            assert!(told.ends_with(end), "{told}");
            let told = told_until_the_end(|token| {
                get(
                    &format!(
                        "{path}{}wait=60",
                        if path.contains('?') { "&" } else { "?" }
                    ),
                    "",
                    token,
                )
            });
            assert!(told.ends_with("\"publications\":[]}"), "{told}");
        }
        let socket = |token: &str| {
            let request = crate::shard::testing::upgrade("/channels/a");
            request.trim_end().to_owned() + "\r\nAuthorization: Bearer " + token + "\r\n\r\n"
        };
        let told = told_until_the_end(socket);
        assert!(told.contains("token expired"), "{told}");
        let told = told_until_the_end(|token| {
            let request = crate::shard::testing::upgrade("/channels?channel=a");
            request.trim_end().to_owned()
                + "\r\nSec-WebSocket-Protocol: longwire.v1\r\nAuthorization: Bearer "
                + token
                + "\r\n\r\n"
        });
        assert!(told.contains("{\"disconnect\":{\"code\":3005,"), "{told}");
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
                    is_subscriber: user == "7",
                    ..Listener::default()
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
