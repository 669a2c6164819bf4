//! `longwire token` and `longwire subtoken`: tokens for development, signed with the configured secret.

use clap::Args;
use serde_json::{Map, Value as Json, json};

use crate::auth::sign_hs256;
use crate::clock;
use crate::config::{ConfigError, Loaded, SETTINGS, Value};

/// The setting with the secret.
const SECRET_KEY: &str = "client.token.hmac_secret_key";

/// What both kinds of token take.
#[derive(Args, Debug)]
pub(super) struct TokenOptions {
    /// User id; without it the token is of an anonymous user
    #[arg(long, value_name = "ID", default_value = "")]
    user: String,
    /// Seconds until the token expires; 0 = never
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    ttl: u32,
    /// JSON that others see beside the user
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    info: Option<Json>,
    /// Unix seconds at which the connection or the subscription expires, in place of the token's end; 0 = never
    #[arg(long, value_name = "UNIX_SECONDS")]
    expire_at: Option<u32>,
    /// The secret to sign with; without it, the configured one
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
}

impl TokenOptions {
    /// A connection token; the server subscribes the client to these channels.
    pub(super) fn connection_token(
        self,
        channels: &[String],
        loaded: &Loaded,
    ) -> Result<String, ConfigError> {
        let mut claims = self.claims();
        if !channels.is_empty() {
            claims.insert("channels".to_owned(), json!(channels));
        }
        self.sign(claims, loaded)
    }

    /// A subscription token; good for one client if one is named.
    pub(super) fn subscription_token(
        self,
        channel: &str,
        client: Option<&str>,
        loaded: &Loaded,
    ) -> Result<String, ConfigError> {
        let mut claims = self.claims();
        claims.insert("channel".to_owned(), json!(channel));
        if let Some(client) = client {
            claims.insert("client".to_owned(), json!(client));
        }
        self.sign(claims, loaded)
    }

    fn claims(&self) -> Map<String, Json> {
        let now_s = clock::unix_s();
        let mut claims = Map::new();
        let mut insert = |name: &str, value| claims.insert(name.to_owned(), value);
        insert("sub", json!(self.user));
        insert("iat", json!(now_s));
        if self.ttl > 0 {
            insert("exp", json!(now_s + i64::from(self.ttl)));
        }
        if let Some(info) = &self.info {
            insert("info", info.clone());
        }
        if let Some(expire_at) = self.expire_at {
            insert("expire_at", json!(expire_at));
        }
        claims
    }

    fn sign(self, claims: Map<String, Json>, loaded: &Loaded) -> Result<String, ConfigError> {
        let secret = self.secret.or_else(|| configured_secret(loaded));
        let Some(secret) = secret.filter(|secret| !secret.is_empty()) else {
            let message = format!("no secret to sign with: set {SECRET_KEY}, or give --secret");
            return Err(ConfigError::new(message));
        };
        let claims = Json::Object(claims).to_string();
        sign_hs256(&secret, &claims).map_err(|error| ConfigError::new(error.to_string()))
    }
}

fn configured_secret(loaded: &Loaded) -> Option<String> {
    let setting = SETTINGS.iter().find(|setting| setting.key == SECRET_KEY)?;
    match setting.get(&loaded.config) {
        Value::Text(secret) => Some(secret),
        _ => None,
    }
}

fn parse_json(text: &str) -> Result<Json, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}
