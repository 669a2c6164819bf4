//! Verification of connection and subscription tokens.

use std::fmt;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use super::claims::{Common, ConnectClaims, SubscribeClaims};
use super::jwks::JwkSet;
use super::keys::Keys;
use super::members::Members;
use super::settings::{SettingError, TokenSettings};
use super::token::Token;

/// Bytes a compiled pattern may take.
const REGEX_BYTES_MAX: usize = 256 * 1024;

/// Verifies tokens with the keys it has.
#[derive(Clone, Debug)]
pub struct TokenVerifier {
    keys: Keys,
    audience: Expected,
    issuer: Expected,
    user_claim: String,
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It was valid once or will be: `exp` has come, or `nbf` has not. The client may ask for another.
    Expired,
    /// It is not valid, for this reason. The reason says nothing of keys; it is for logs.
    Invalid(&'static str),
    /// A subscription token of another user, channel or client than the one that uses it: the claim that differs.
    Mismatch(&'static str),
    /// It names a key that the key set does not have. A newer set may have it. The name is the client's, up to 256 bytes.
    UnknownKey {
        /// The name.
        kid: String,
    },
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Expired => f.write_str("the token has expired or is not valid yet"),
            TokenError::Invalid(reason) => write!(f, "the token is not valid: {reason}"),
            TokenError::Mismatch(claim) => write!(f, "the token is for another {claim}"),
            TokenError::UnknownKey { kid } => write!(f, "no key has the name {kid:?}"),
        }
    }
}

impl std::error::Error for TokenError {}

impl TokenVerifier {
    /// A verifier with the configured keys and, if a key set is used, an empty one.
    ///
    /// # Errors
    /// A setting that cannot be used.
    pub fn new(settings: &TokenSettings) -> Result<Self, SettingError> {
        let user_claim = match settings.user_id_claim.as_str() {
            "" => "sub",
            claim => claim,
        };
        Ok(Self {
            keys: Keys::new(settings)?,
            audience: Expected::new(
                ("audience", &settings.audience),
                ("audience_regex", &settings.audience_regex),
            )?,
            issuer: Expected::new(
                ("issuer", &settings.issuer),
                ("issuer_regex", &settings.issuer_regex),
            )?,
            user_claim: user_claim.to_owned(),
        })
    }

    /// True if there is a key or a key set; without, every token is refused.
    pub fn is_enabled(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Uses this key set from now on, in place of the one before.
    pub fn set_jwks(&mut self, jwks: Arc<JwkSet>) {
        self.keys.jwks = Some(jwks);
    }

    /// Verifies a connection token at `now_s`, in Unix seconds. To refresh a connection, compare the user too.
    ///
    /// # Errors
    /// Whatever is wrong with it; see [`TokenError`].
    pub fn verify_connect(&self, token: &str, now_s: i64) -> Result<ConnectClaims, TokenError> {
        self.verify(token, now_s, ConnectClaims::read)
    }

    /// Verifies the subscription token that `client` of `user` sent for `channel`, at `now_s` in Unix seconds.
    ///
    /// # Errors
    /// Whatever is wrong with it; see [`TokenError`].
    pub fn verify_subscribe(
        &self,
        token: &str,
        user: &str,
        channel: &str,
        client: &str,
        now_s: i64,
    ) -> Result<SubscribeClaims, TokenError> {
        let (claims, own_client) = self.verify_for_channel(token, channel, now_s)?;
        if claims.user != user {
            return Err(TokenError::Mismatch("user"));
        }
        match own_client {
            Some(own) if !own.is_empty() && own != client => Err(TokenError::Mismatch("client")),
            _ => Ok(claims),
        }
    }

    /// Verifies a subscription token for `channel`, whoever's it is, at `now_s` in Unix seconds. A token for one client
    /// is good for that client only.
    ///
    /// # Errors
    /// Whatever is wrong with it; see [`TokenError`].
    pub fn verify_listener(
        &self,
        token: &str,
        channel: &str,
        now_s: i64,
    ) -> Result<SubscribeClaims, TokenError> {
        let (claims, own_client) = self.verify_for_channel(token, channel, now_s)?;
        match own_client {
            Some(own) if !own.is_empty() => Err(TokenError::Mismatch("client")),
            _ => Ok(claims),
        }
    }

    /// Claims for `channel`, and the client they are for, if one is named.
    fn verify_for_channel(
        &self,
        token: &str,
        channel: &str,
        now_s: i64,
    ) -> Result<(SubscribeClaims, Option<String>), TokenError> {
        let read = |members: &Members<'_>, common: Common| {
            let own_client = members.read::<String>("client").map_err(|_| "client")?;
            Ok((SubscribeClaims::read(members, common)?, own_client))
        };
        let (claims, own_client) = self.verify(token, now_s, read)?;
        match claims.channel == channel {
            true => Ok((claims, own_client)),
            false => Err(TokenError::Mismatch("channel")),
        }
    }

    /// First the signature: nothing of the claims is looked at before.
    fn verify<T>(
        &self,
        token: &str,
        now_s: i64,
        read: impl FnOnce(&Members<'_>, Common) -> Result<T, &'static str>,
    ) -> Result<T, TokenError> {
        let token = Token::parse(token).map_err(TokenError::Invalid)?;
        self.keys.check(&token, now_s)?;
        let claims = token.claims().map_err(TokenError::Invalid)?;
        let malformed = TokenError::Invalid("the claims are not one JSON object");
        let members = Members::parse(&claims).ok_or(malformed)?;
        let common = Common::read(&members, &self.user_claim).map_err(TokenError::Invalid)?;
        self.check_recipient(&common).map_err(TokenError::Invalid)?;
        let is_over = common.exp_s.is_some_and(|exp_s| exp_s <= now_s);
        if is_over || common.not_before_s.is_some_and(|begin_s| begin_s > now_s) {
            return Err(TokenError::Expired);
        }
        read(&members, common).map_err(TokenError::Invalid)
    }

    fn check_recipient(&self, common: &Common) -> Result<(), &'static str> {
        if !self.audience.is_met(&common.audience) {
            return Err("aud");
        }
        if !self.issuer.is_met(common.issuer.as_slice()) {
            return Err("iss");
        }
        Ok(())
    }
}

/// What a claim must be.
#[derive(Clone, Debug)]
enum Expected {
    Anything,
    Text(String),
    Pattern(Regex),
}

impl Expected {
    fn new(
        (text_setting, text): (&'static str, &str),
        (regex_setting, regex): (&'static str, &str),
    ) -> Result<Self, SettingError> {
        match (text, regex) {
            ("", "") => Ok(Self::Anything),
            (text, "") => Ok(Self::Text(text.to_owned())),
            ("", regex) => RegexBuilder::new(regex)
                .size_limit(REGEX_BYTES_MAX)
                .unicode(false)
                .build()
                .map(Self::Pattern)
                .map_err(|_| {
                    let problem = "not a regular expression, or too large a one; \
                                   see the syntax of Rust's regex, for ASCII";
                    SettingError::new(regex_setting, problem)
                }),
            _ => {
                let problem = format!("is set beside {text_setting}; set one of them");
                Err(SettingError::new(regex_setting, problem))
            }
        }
    }

    fn is_met(&self, values: &[String]) -> bool {
        match self {
            Self::Anything => true,
            Self::Text(text) => values.contains(text),
            Self::Pattern(regex) => values.iter().any(|value| regex.is_match(value.as_bytes())),
        }
    }
}
