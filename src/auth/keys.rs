//! Keys, each with the algorithms it may be used for: a key of one kind never verifies a token of another
//! (RFC 8725 section 3.1).

use std::sync::Arc;

use jsonwebtoken::crypto::{self, aws_lc};
use jsonwebtoken::{Algorithm, DecodingKey};

use super::jwks::JwkSet;
use super::settings::{SettingError, TokenSettings};
use super::token::Token;
use super::verifier::TokenError;

/// Bytes of an RSA modulus that are accepted: 2048 to 8192 bits.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Hmac,
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Kind {
    fn takes(self, algorithm: Algorithm) -> bool {
        use Algorithm::*;
        match self {
            Kind::Hmac => matches!(algorithm, HS256 | HS384 | HS512),
            Kind::Rsa => matches!(algorithm, RS256 | RS384 | RS512),
            Kind::P256 => algorithm == ES256,
            Kind::P384 => algorithm == ES384,
            Kind::Ed25519 => algorithm == EdDSA,
        }
    }
}

/// A key that verifies signatures.
#[derive(Clone, Debug)]
pub(super) struct Key {
    kind: Kind,
    key: DecodingKey,
    /// The one algorithm it is for; `None` = each of its kind.
    only: Option<Algorithm>,
}

impl Key {
    pub(super) fn hmac(secret: &str) -> Self {
        Self::new(Kind::Hmac, DecodingKey::from_secret(secret.as_bytes()))
    }

    /// An RSA key; `None` if its size is not accepted.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
        let modulus = modulus.get(zeros..)?;
        if !RSA_MODULUS_BYTES.contains(&modulus.len()) {
            return None;
        }
        let key = DecodingKey::from_rsa_raw_components(modulus, exponent);
        Some(Self::new(Kind::Rsa, key))
    }

    /// A point on P-256 or P-384, uncompressed (SEC 1 section 2.3.3); `None` if it has another form.
    pub(super) fn ecdsa(point: &[u8]) -> Option<Self> {
        let kind = match (point.first()?, point.len()) {
            (4, 65) => Kind::P256,
            (4, 97) => Kind::P384,
            _ => return None,
        };
        Some(Self::new(kind, DecodingKey::from_ec_der(point)))
    }

    /// An Ed25519 key (RFC 8032); `None` if it has another size.
    pub(super) fn ed25519(public: &[u8]) -> Option<Self> {
        (public.len() == 32).then(|| Self::new(Kind::Ed25519, DecodingKey::from_ed_der(public)))
    }

    fn new(kind: Kind, key: DecodingKey) -> Self {
        let only = None;
        Self { kind, key, only }
    }

    /// The key for this algorithm alone; `None` if it is of another kind.
    pub(super) fn only_for(self, algorithm: Algorithm) -> Option<Self> {
        let only = Some(algorithm);
        self.kind.takes(algorithm).then_some(Self { only, ..self })
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn takes(&self, algorithm: Algorithm) -> bool {
        self.kind.takes(algorithm) && self.only.is_none_or(|only| only == algorithm)
    }

    /// Whether this key signed the token. HMACs are compared in constant time.
    pub(super) fn signed(&self, token: &Token<'_>) -> bool {
        let message = token.signed.as_bytes();
        self.takes(token.algorithm)
            && crypto::verify(token.signature, message, &self.key, token.algorithm).unwrap_or(false)
    }
}

/// The keys of one verifier.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    configured: Vec<Key>,
    /// The previous secret, and the Unix second from which it is refused.
    previous: Option<(Key, i64)>,
    /// The key set; `None` if none is used.
    pub(super) jwks: Option<Arc<JwkSet>>,
}

impl Keys {
    pub(super) fn new(settings: &TokenSettings) -> Result<Self, SettingError> {
        let mut configured = Vec::new();
        configured.extend(secret("hmac_secret_key", &settings.hmac_secret_key)?);
        configured.extend(rsa_key(&settings.rsa_public_key)?);
        configured.extend(ecdsa_key(&settings.ecdsa_public_key)?);
        let until = match settings.hmac_previous_secret_key_valid_until {
            0 => i64::MAX,
            until => until,
        };
        let previous = secret(
            "hmac_previous_secret_key",
            &settings.hmac_previous_secret_key,
        )?;
        let uses_jwks = !settings.jwks_public_endpoint.is_empty();
        Ok(Self {
            configured,
            previous: previous.map(|key| (key, until)),
            jwks: uses_jwks.then(Arc::default),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.configured.is_empty() && self.previous.is_none() && self.jwks.is_none()
    }

    /// Whether one of the keys signed the token: one of the set's if a set is used and the token names a key,
    /// else one of those configured.
    pub(super) fn check(&self, token: &Token<'_>, now_s: i64) -> Result<(), TokenError> {
        match (&self.jwks, &token.kid) {
            (Some(jwks), Some(kid)) if !jwks.has(kid) => {
                Err(TokenError::UnknownKey { kid: kid.clone() })
            }
            (Some(jwks), Some(kid)) => one_signed(jwks.named(kid), token),
            _ => one_signed(self.usable(now_s), token),
        }
    }

    fn usable(&self, now_s: i64) -> impl Iterator<Item = &Key> {
        let previous = self
            .previous
            .iter()
            .filter(move |(_, until)| now_s < *until);
        self.configured.iter().chain(previous.map(|(key, _)| key))
    }
}

fn one_signed<'a>(
    keys: impl Iterator<Item = &'a Key>,
    token: &Token<'_>,
) -> Result<(), TokenError> {
    let mut problem = "no key for this alg";
    for key in keys.filter(|key| key.takes(token.algorithm)) {
        if key.signed(token) {
            return Ok(());
        }
        problem = "the signature is wrong";
    }
    Err(TokenError::Invalid(problem))
}

/// A PEM text as a secret would let anybody who has the public key make tokens.
fn secret(setting: &'static str, secret: &str) -> Result<Option<Key>, SettingError> {
    if secret.contains("-----BEGIN ") {
        let problem = "holds a PEM key; set rsa_public_key or ecdsa_public_key instead";
        return Err(SettingError::new(setting, problem));
    }
    Ok((!secret.is_empty()).then(|| Key::hmac(secret)))
}

fn rsa_key(pem: &str) -> Result<Option<Key>, SettingError> {
    let setting = "rsa_public_key";
    if pem.is_empty() {
        return Ok(None);
    }
    check_label(setting, pem, &["PUBLIC KEY", "RSA PUBLIC KEY"])?;
    let components = DecodingKey::from_rsa_pem(pem.as_bytes()).and_then(|key| {
        let read = aws_lc::DEFAULT_PROVIDER
            .key_utils
            .rsa_pub_components_from_public_key;
        read(key.try_get_as_bytes()?)
    });
    let Ok((modulus, exponent)) = components else {
        let problem = "not an RSA key; make it with openssl rsa -in private.pem -pubout";
        return Err(SettingError::new(setting, problem));
    };
    match Key::rsa(&modulus, &exponent) {
        Some(key) => Ok(Some(key)),
        None => {
            let problem = format!(
                "has {} bits; use a key of 2048 to 8192 bits",
                modulus.len() * 8
            );
            Err(SettingError::new(setting, problem))
        }
    }
}

fn ecdsa_key(pem: &str) -> Result<Option<Key>, SettingError> {
    let setting = "ecdsa_public_key";
    if pem.is_empty() {
        return Ok(None);
    }
    check_label(setting, pem, &["PUBLIC KEY"])?;
    let key = DecodingKey::from_ec_pem(pem.as_bytes());
    let point = key.as_ref().map(DecodingKey::try_get_as_bytes);
    match point {
        Ok(Ok(point)) if let Some(key) = Key::ecdsa(point) => Ok(Some(key)),
        _ => {
            let problem = "not a key on P-256 or P-384; \
                           make it with openssl ec -in private.pem -pubout";
            Err(SettingError::new(setting, problem))
        }
    }
}

/// A private key has no business here, and of a certificate the wrong part would be read.
fn check_label(setting: &'static str, pem: &str, labels: &[&str]) -> Result<(), SettingError> {
    let begins = |label: &&str| {
        pem.trim_start()
            .starts_with(&format!("-----BEGIN {label}-----"))
    };
    if labels.iter().any(begins) {
        return Ok(());
    }
    let problem = "not a public key in PEM; it begins with -----BEGIN PUBLIC KEY-----";
    Err(SettingError::new(setting, problem))
}
