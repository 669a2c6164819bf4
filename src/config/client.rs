//! Centrifuge clients: who may connect, with what tokens, and what one connection may hold.

use super::proxy::OptionalProxy;
use super::row::{Setting, field_of, group, key_of, settings_at};
use super::value::{AllowedOrigin, Field, Form, Item, Kind, Pattern, TimeUnit, Unit};

const HOUR_S: u64 = 3_600;

const fn seconds(min: u64, max: u64) -> Kind {
    Kind::Duration {
        unit: TimeUnit::Seconds,
        min,
        max,
    }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Number {
        unit: Unit::Count,
        min,
        max,
    }
}

macro_rules! client_rows {
    ($callback:ident $($args:tt)*) => { $callback! { [$($args)*]
        /// Lets every client connect, subscribe, publish and read without tokens and permissions; for development.
        insecure: bool = false, Kind::Flag;
        /// Lets clients without a token connect, as nobody in particular.
        allow_anonymous_connect_without_token: bool = false, Kind::Flag;
        /// Refuses tokens without a user.
        disallow_anonymous_connection_tokens: bool = false, Kind::Flag;
        /// Web origins whose pages may connect, besides the server's own and `origins`.
        allowed_origins: Vec<AllowedOrigin> = Vec::new(), Kind::List(Item::WebOriginOrAny);
        /// Time between pings, rounded up to whole seconds; 0s = none.
        ping_interval_s "ping_interval": u32 = 25, seconds(0, HOUR_S);
        /// Time for the client's pong, after which the connection is closed with 3012; 0s = pongs are not asked for.
        pong_timeout_s "pong_timeout": u32 = 8, seconds(0, HOUR_S);
        /// Channels one connection may be subscribed to.
        channel_limit: u32 = 128, count(1, 65_535);
        /// A connection that would have more than this waiting is closed with 3008; for Centrifuge clients in place of `outbox.hard_bytes`.
        queue_max_size: usize = 1_048_576, Kind::Number { unit: Unit::Bytes, min: 1_024, max: 1_073_741_824 };
        /// Time for the first command, after which the connection is closed with 3502.
        stale_close_delay_s "stale_close_delay": u32 = 10, seconds(1, HOUR_S);
        /// Time a connection may go on with an expired token.
        expired_close_delay_s "expired_close_delay": u32 = 25, seconds(0, HOUR_S);
        /// Time a subscription may go on with an expired token.
        expired_sub_close_delay_s "expired_sub_close_delay": u32 = 25, seconds(0, HOUR_S);
        /// Connections one user may hold; 0 = no limit.
        user_connection_limit: u32 = 0, count(0, 1_000_000);
        /// Tells clients the server's time when they connect.
        connect_include_server_time: bool = false, Kind::Flag;
        /// Most publications in an answer to `history`.
        history_max_publication_limit: u32 = 300, count(1, 100_000);
        /// Most publications a subscription recovers; who missed more starts anew.
        recovery_max_publication_limit: u32 = 300, count(1, 100_000);
    } };
}

macro_rules! personal_channel_rows {
    ($callback:ident $($args:tt)*) => { $callback! { [$($args)*]
        /// Subscribes each user to a channel of their own, `#user`.
        enabled: bool = false, Kind::Flag;
        /// The namespace of these channels; nothing = none.
        personal_channel_namespace: String = String::new(), Kind::Text(Form::Any);
        /// Closes a user's older connections when a new one comes; takes `presence` there.
        single_connection: bool = false, Kind::Flag;
    } };
}

macro_rules! token_rows {
    ($callback:ident $($args:tt)*) => { $callback! { [$($args)*]
        /// Secret of tokens signed with HS256, HS384 or HS512.
        hmac_secret_key: String = String::new(), Kind::Text(Form::Secret);
        /// An older such secret that is still good, while a new one comes into use.
        hmac_previous_secret_key: String = String::new(), Kind::Text(Form::Secret);
        /// Public key of tokens signed with RS256, RS384 or RS512, as PEM.
        rsa_public_key: String = String::new(), Kind::Text(Form::Any);
        /// Public key of tokens signed with ES256, ES384 or ES512, as PEM.
        ecdsa_public_key: String = String::new(), Kind::Text(Form::Any);
        /// Address of a set of public keys (JWKS, RFC 7517).
        jwks_public_endpoint: String = String::new(), Kind::Text(Form::Url);
        /// File with a set of public keys (JWKS, RFC 7517).
        jwks_file: String = String::new(), Kind::Text(Form::Path);
        /// What `aud` must be or have; nothing = anything.
        audience: String = String::new(), Kind::Text(Form::Any);
        /// What `aud` must match; nothing = anything.
        audience_regex: Pattern = Pattern::default(), Kind::Text(Form::Regex);
        /// What `iss` must be; nothing = anything.
        issuer: String = String::new(), Kind::Text(Form::Any);
        /// What `iss` must match; nothing = anything.
        issuer_regex: Pattern = Pattern::default(), Kind::Text(Form::Regex);
        /// The claim with the user's name; nothing = `sub`.
        user_id_claim: String = String::new(), Kind::Text(Form::Any);
    } };
}

macro_rules! subscription_token_rows {
    ($callback:ident $($args:tt)*) => { $callback! { [$($args)*]
        /// Checks subscription tokens as this section says; without it, as `client.token` says.
        enabled: bool = false, Kind::Flag;
    } };
}

client_rows!(group
    /// What holds for all Centrifuge clients.
    ClientLimits
);

personal_channel_rows!(group
    /// A channel for each user.
    PersonalChannel
);

token_rows!(group
    /// Which tokens (JWT, RFC 7519) are good.
    TokenConfig
);

/// The `client` section.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientConfig {
    /// What holds for all clients.
    pub limits: ClientLimits,
    /// Connection tokens, and subscription tokens unless those have a section of their own.
    pub token: TokenConfig,
    /// Subscription tokens, if they have a section of their own.
    pub subscription_token: SubscriptionTokenConfig,
    /// Backends to ask about connections.
    pub proxy: ClientProxies,
    /// A channel for each user.
    pub subscribe_to_user_personal_channel: PersonalChannel,
}

/// The `client.subscription_token` section.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscriptionTokenConfig {
    /// Whether the section holds.
    pub enabled: bool,
    /// Which tokens are good.
    pub token: TokenConfig,
}

/// Backends to ask about connections.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientProxies {
    /// Whether a client without a token may connect, and as whom.
    pub connect: OptionalProxy,
    /// Whether a connection goes on.
    pub refresh: OptionalProxy,
}

impl ClientConfig {
    /// Which subscription tokens are good.
    pub fn for_subscriptions(&self) -> &TokenConfig {
        match self.subscription_token.enabled {
            true => &self.subscription_token.token,
            false => &self.token,
        }
    }
}

impl TokenConfig {
    /// Whether there is any key, so that a token could be good.
    pub fn has_key(&self) -> bool {
        let keys = [
            &self.hmac_secret_key,
            &self.rsa_public_key,
            &self.ecdsa_public_key,
            &self.jwks_public_endpoint,
            &self.jwks_file,
        ];
        keys.iter().any(|key| !key.is_empty())
    }
}

/// `client.*` but for its proxies.
pub(super) const CLIENT: &[&[Setting]] = &[
    client_rows!(settings_at "client" (client.limits)),
    personal_channel_rows!(settings_at "client.subscribe_to_user_personal_channel" (client.subscribe_to_user_personal_channel)),
    token_rows!(settings_at "client.token" (client.token)),
    subscription_token_rows!(settings_at "client.subscription_token" (client.subscription_token)),
    token_rows!(settings_at "client.subscription_token" (client.subscription_token.token)),
];
